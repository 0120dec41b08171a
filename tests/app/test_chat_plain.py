"""Plain mode by function calls: labelled whole lines, and ^C where a test puts it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from agent_stand import agent

import qwen3_mlx
from qwen3_mlx.errors import EngineError
from qwen3_mlx.events import Timing
from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx.tools.functions import Tool
from qwen3_mlx_app.tui.commands import COMMANDS
from qwen3_mlx_app.tui.exchange import SavedChat, to_json
from qwen3_mlx_app.tui.plain import PlainChat
from qwen3_mlx_app.tui.session import ChatOptions, Session
from qwen3_mlx_app.tui.store import SavedTurn, Store

TIMING = Timing(decode_tokens_per_second=74.0)


class Terminal(io.StringIO):
    """Input that says it is a terminal; a line `^C` raises what the key would."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines: Iterator[str] = iter(lines)

    def isatty(self) -> bool:
        return True

    def readline(self, size: int | None = -1, /) -> str:
        line = next(self._lines, "")
        if line == "^C":
            raise KeyboardInterrupt
        return line and line + "\n"


def chat(
    model: FakeModel, source: io.StringIO | str, options: ChatOptions | None = None
) -> tuple[int, list[str]]:
    """Run a chat to its end: the status and the lines."""
    source = io.StringIO(source) if isinstance(source, str) else source
    sink = io.StringIO()
    status = PlainChat(Session(lambda progress: model, options), source, sink).run()
    assert model.closed
    assert "\x1b" not in sink.getvalue()
    return status, sink.getvalue().splitlines()


def test_a_pipe_gets_labelled_whole_lines() -> None:
    answer = Answer("Four.\n\nReally.", thinking="2 and 2\nis 4", timing=TIMING, thinking_seconds=3)
    model = FakeModel([answer, Answer("Five.", timing=TIMING)])
    status, lines = chat(model, "2 + 2?\n\nand 1?")
    assert status == 0
    assert lines == [
        "you: 2 + 2?",
        "thought: 2 and 2",
        "is 4",
        "qwen3: Four.",
        "",
        "Really.",
        "note: thought 3s, 3 tokens, 74 tok/s",
        "you: and 1?",
        "qwen3: Five.",
        "note: 1 token, 74 tok/s",
    ]
    assert len(model.calls[1].messages) == 3


def test_a_terminal_is_prompted_and_eof_ends() -> None:
    status, lines = chat(FakeModel([Answer("Hi.", timing=TIMING)]), Terminal(["hello"]))
    assert status == 0
    assert lines[0] == "you: qwen3: Hi."
    assert lines[-1] == "you: "


def test_ctrl_c_at_the_prompt_ends() -> None:
    status, lines = chat(FakeModel([]), Terminal(["^C", "never read"]))
    assert (status, lines) == (0, ["you: "])


def test_ctrl_c_in_an_answer_stops_it_and_keeps_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeModel([Answer("one two three", pause_after=2), "second"])
    session = Session(lambda progress: model)
    wait = session.worker.wait

    presses = iter([KeyboardInterrupt()])

    def interrupted(timeout: float) -> None:
        wait(timeout)
        if session.state.turns[0].answer_tokens == 2:
            for press in presses:
                raise press

    monkeypatch.setattr(session.worker, "wait", interrupted)
    sink = io.StringIO()
    assert PlainChat(session, io.StringIO("go\nmore"), sink).run() == 0
    lines = sink.getvalue().splitlines()
    assert lines[:2] == ["you: go", "qwen3: one two"]
    assert lines[2].startswith("note: stopped, 2 tokens")
    assert "qwen3: second" in lines


def test_a_second_ctrl_c_ends_even_if_the_answer_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = Session(lambda progress: FakeModel([Answer("one two", pause_after=1)]))

    def interrupted(timeout: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.worker, "wait", interrupted)
    sink = io.StringIO()
    assert PlainChat(session, io.StringIO("go\nmore"), sink).run() == 0
    assert "you: more" not in sink.getvalue()


def test_a_fault_is_a_note_and_the_status() -> None:
    model = FakeModel([Answer("one two", error=EngineError("boom"), error_after=1), "fine"])
    status, lines = chat(model, "a\nb")
    assert status == 1
    assert lines[1:3] == ["qwen3: one", "note: boom"]
    assert "qwen3: fine" in lines


def test_a_model_that_does_not_load() -> None:
    def load(progress: object) -> FakeModel:
        raise EngineError("no such model")

    sink = io.StringIO()
    assert PlainChat(Session(load), io.StringIO("a"), sink).run() == 1
    assert "note: no such model" in sink.getvalue()


def test_every_command_has_an_answer() -> None:
    model = FakeModel([Answer("a", thinking="hm", notices=("careful",)), "b", "c", "d"])
    script = [
        "/no_think", "/think once", "/think", "/no_think now", "/retry", "/system Be kind.",
        "/thoughts line", "/thoughts", "/thoughts up", "/copy", "/help", "/nope", "/new",
        "/retry", "/system", "last", "/quit", "not read",
    ]  # fmt: skip
    status, lines = chat(model, "\n".join(script))
    assert status == 0
    assert [call.thinking for call in model.calls] == [True, False, True, True]
    assert [call.prompt for call in model.calls] == ["once", "now", "now", "last"]
    assert model.calls[3].system is None
    assert len(model.calls[3].messages) == 1
    assert "note: careful" in lines
    assert "you: not read" not in lines
    for command in COMMANDS:
        assert any(line.startswith(f"note: {command.usage}: ") for line in lines)


def test_thoughts_can_be_left_out() -> None:
    answer = Answer("a", thinking="secret")
    _, lines = chat(FakeModel([answer, answer]), "/thoughts line\nx\n/thoughts open\ny\n")
    assert [line for line in lines if "secret" in line] == ["thought: secret"]
    assert lines.index("thought: secret") > lines.index("you: y")


@pytest.mark.usefixtures("chinese")
def test_every_word_is_chinese_in_chinese() -> None:
    model = FakeModel([Answer("好。", thinking="嗯", timing=TIMING, thinking_seconds=3), "b"])
    commands = ["system x", "system", "thoughts line", "new", "retry", "export", "help", "chats"]
    status, lines = chat(model, "/think\n你好\n/" + "\n/".join(commands))
    assert status == 0
    assert lines[:4] == ["你：/think", "提示：已开启思考", "你：你好", "思考：嗯"]
    assert lines[4:6] == ["qwen3：好。", "提示：思考 3s, 1 个 token, 74 tok/s"]
    notes = [line.removeprefix("提示：") for line in lines if line.startswith("提示：")]
    shown = [note.rpartition(": ")[2] if note.startswith("/") else note for note in notes]
    assert [note for note in shown if not re.search("[\u4e00-\u9fff]", note)] == []


def test_a_chat_that_is_exported_twice_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, lines = chat(FakeModel(["一"]), "一?\n/export\n/export\n/export all.json")
    assert [line for line in lines if "Written" in line] == [
        "note: Written: chat.md", "note: Written: chat-2.md", "note: Written: all.json",
    ]  # fmt: skip
    assert "一" in Path("chat-2.md").read_text("utf-8")


def test_an_export_into_a_folder_and_a_chat_that_has_no_such_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, lines = chat(FakeModel(["a"]), "q\n/export .\n/chats 99999999999999999999")
    assert "note: Written: chat.md" in lines
    text = to_json(SavedChat("\ud800", turns=[SavedTurn("q", answer="half \ud800")]))
    assert "half ?" in text.encode().decode()


def test_nothing_is_overwritten_by_a_name_either(tmp_path: Path) -> None:
    name = tmp_path / "deep.er" / "all.json"
    name.parent.mkdir()
    name.write_text("mine")
    _, lines = chat(FakeModel(["one"]), f"hi\n/export {name}\n")
    assert name.read_text() == "mine"
    assert f"note: Written: {name.with_name('all-2.json')}" in lines


def test_a_command_that_lacks_its_text_says_its_usage() -> None:
    _, lines = chat(FakeModel([]), "/title\n/nope\n")
    assert "note: /title TEXT" in lines
    assert any("no command /nope. /help lists them" in line for line in lines)


def test_a_space_before_a_command_makes_it_text() -> None:
    model = FakeModel(["a"])
    chat(model, " /nope what is it?\n")
    assert model.calls[0].prompt == "/nope what is it?"


def test_a_new_chat_has_the_system_prompt_of_new_chats() -> None:
    model = FakeModel(["a", "b"])
    chat(model, "/system pirate\nhi\n/new\nho\n", ChatOptions(system="kind"))
    assert [call.system for call in model.calls] == ["pirate", "kind"]


def test_a_list_of_chats_that_cannot_be_read_is_a_note(tmp_path: Path) -> None:
    store = Store(tmp_path / "chats.db")
    store._db.execute("DROP TABLE turns")
    sink = io.StringIO()
    session = Session(lambda progress: FakeModel([]), store=store)
    assert PlainChat(session, io.StringIO("/chats\n/chats x"), sink).run() == 0
    assert sink.getvalue().count("note: Not done: no such table") == 2


@pytest.mark.parametrize("title", ["", "empty"])
def test_a_file_without_turns_is_refused(tmp_path: Path, title: str) -> None:
    (tmp_path / "none.json").write_text(to_json(SavedChat(title)))
    status, lines = chat(FakeModel(["one"]), f"/import {tmp_path / 'none.json'}\nhi\n")
    assert status == 0
    why = "was not imported: it is no chat that /export wrote (0 turns)"
    assert f"note: {tmp_path / 'none.json'} {why}" in lines
    assert "qwen3: one" in lines


def test_a_system_prompt_is_kept_with_the_chat(tmp_path: Path) -> None:
    session = Session(lambda progress: FakeModel(["a"]), store=Store(tmp_path / "chats.db"))
    PlainChat(session, io.StringIO("hi\n/system Be kind.\n"), io.StringIO()).run()
    with closing(Store(tmp_path / "chats.db")) as store:
        [row] = store.chats()
        assert store.chat(row.id)[:2] == ("hi", "Be kind.")


def test_a_prompt_is_shown_without_a_second_model(caplog: pytest.LogCaptureFixture) -> None:
    """Where an agent holds the model, none is loaded here."""
    sink = io.StringIO()
    with agent(load=lambda tell: qwen3_mlx.load("tiny", progress=tell, agent=False)):
        options = ChatOptions(thinking=False, max_tokens=4)
        session = Session(lambda progress: qwen3_mlx.load("tiny", progress=progress), options)
        assert PlainChat(session, io.StringIO("hello\n/prompt hi\n"), sink).run() == 0
    assert "<|im_start|>user\nhi<|im_end|>" in sink.getvalue()
    assert re.search(r"The prompt · \d+ tokens", sink.getvalue())
    assert caplog.text == ""


def test_the_options_reach_the_model() -> None:
    model = FakeModel(["a"])
    chat(model, "hi\x07", ChatOptions(system="s", thinking=False, max_tokens=4, seed=9))
    (call,) = model.calls
    assert (call.prompt, call.system, call.thinking) == ("hi", "s", False)
    assert (call.max_tokens, call.seed) == (4, 9)


def put(name: str) -> str:
    """Put something away."""
    return f"{name} is in the box"


CALL = Answer("I see.", thinking="a hat", calls=[("put", {"name": "hat"})], timing=TIMING)


@pytest.mark.parametrize(("said", "told"), [("y", "hat is in the box"), ("n", "error: the person")])
def test_a_call_is_asked_about_on_the_terminal(said: str, told: str) -> None:
    model = FakeModel([CALL, Answer("So.", thinking="well", timing=TIMING)])
    tools = ChatOptions(tools=(Tool.of(put),))
    _, lines = chat(model, Terminal(["put the hat away", said]), tools)
    assert lines[:4] == ["you: thought: a hat", "qwen3: I see.", 'tool: put(name="hat")', lines[3]]
    assert lines[3].startswith(f"May this tool run? y/n: tool: put → {told}")
    assert lines[4:6] == ["thought: well", "qwen3: So."]
    assert str(model.calls[1].messages[-1]["content"]).startswith(told)


def test_nobody_at_a_pipe_can_say_yes() -> None:
    model = FakeModel([CALL, "So.", "Yes what?"])
    _, lines = chat(model, "put the hat away\ny\n", ChatOptions(tools=(Tool.of(put),)))
    assert "note: not run: the input is no terminal, so nobody can be asked" in lines
    assert "you: y" in lines
    assert "error: the person" in str(model.calls[1].messages[-1]["content"])


@pytest.mark.parametrize("key", ["^C", ""])
def test_ctrl_c_and_the_end_of_the_input_are_no_yes(key: str) -> None:
    model = FakeModel([CALL, "So."])
    _, lines = chat(model, Terminal(["put the hat away", *([key] if key else [])]),
                    ChatOptions(tools=(Tool.of(put),)))  # fmt: skip
    assert not any("in the box" in line for line in lines)
    assert (len(model.calls) == 1) == (key == "^C")


def test_a_model_without_tools_says_so() -> None:
    model = FakeModel(["So."], info=replace(FakeModel([]).info, can_call_tools=False))
    _, lines = chat(model, "hi", ChatOptions(tools=(Tool.of(put),)))
    assert "note: Qwen3-fake cannot call tools: it answers without them." in lines


def test_a_file_that_is_not_there_is_told() -> None:
    model = FakeModel([Answer("Yes.", timing=TIMING)])
    _, lines = chat(model, "read @./no-such-notes.txt please")
    assert "note: There is no file ./no-such-notes.txt: its name alone was sent." in lines
    assert model.calls[0].prompt.endswith("@./no-such-notes.txt please")


def test_a_prompt_is_shown_as_soon_as_the_model_is_there() -> None:
    _, lines = chat(FakeModel([]), "/prompt hi")
    assert any("The prompt · " in line for line in lines)


def test_a_chat_that_is_not_there_is_not_imported(tmp_path: Path) -> None:
    _, lines = chat(FakeModel([]), f"/import {tmp_path}/none.json")
    assert lines[-1].endswith("none.json was not imported: No such file or directory")


def test_an_at_sign_with_a_wave_is_only_text() -> None:
    """`~nobody` is the home of no user."""
    model = FakeModel([Answer("Yes.", timing=TIMING)])
    status, lines = chat(model, "ask @~nobody-at-all please\n/export ~nobody-at-all/x.md\n")
    assert status == 0
    assert model.calls[0].prompt.endswith("@~nobody-at-all please")
    assert any("~nobody-at-all" in line for line in lines[1:])
