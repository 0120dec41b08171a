"""Every key of the footer and every slash command, on the real app without a terminal."""

from __future__ import annotations

import pytest
from driving import (
    ANSWER,
    Clock,
    ask,
    closed,
    drawn,
    full_answer,
    make_app,
    opened,
    press,
    ready,
    say,
    settled,
    told,
    wait_until,
)
from textual.command import CommandPalette
from textual.widgets import Markdown, Static
from textual.widgets._toast import Toast

from qwen3_mlx.errors import EngineError, ModelNotFoundError
from qwen3_mlx.interface import ModelInfo, Sampling
from qwen3_mlx.testing import Answer, FakeModel
from qwen3_mlx_app.tui.app import ChatApp
from qwen3_mlx_app.tui.commands import COMMANDS
from qwen3_mlx_app.tui.screens.help import HelpScreen
from qwen3_mlx_app.tui.session import ChatOptions
from qwen3_mlx_app.tui.widgets.composer import Hints, QueueChip
from qwen3_mlx_app.tui.widgets.keybar import KeyBar
from qwen3_mlx_app.tui.widgets.note import ErrorNote, NoticeLine
from qwen3_mlx_app.tui.widgets.status import StatusLine
from qwen3_mlx_app.tui.widgets.thought import Thought
from qwen3_mlx_app.tui.widgets.welcome import Welcome

LONG = Answer("one two three four five six", thinking="well now", pause_after=4)


def shown(app: ChatApp, selector: str) -> str:
    """The text of the one widget that answers to a selector."""
    return str(app.chat.query_one(selector, Static).render())


def shown_last(app: ChatApp, selector: str) -> str:
    """The text of the newest widget that answers to a selector."""
    return str(app.chat.query(selector).last(Static).render())


async def test_enter_asks_and_the_answer_is_drawn() -> None:
    model = FakeModel([full_answer()])
    app = make_app(model, options=ChatOptions(system="Be brief.", seed=3, max_tokens=500))
    async with app.run_test() as pilot:
        await ready(pilot, app)
        assert "Qwen3-fake" in shown(app, "#model")
        await ask(pilot, app, "Merge, please")
        assert app.chat.query_one(Markdown).source == ANSWER
        assert "think +" in shown(app, ".stats")
        assert "74 tok/s · first token 0.31 s" in shown(app, ".stats")
        assert not app.chat.query_one(Welcome).display
    (call,) = model.calls
    assert (call.prompt, call.system, call.seed, call.max_tokens) == (
        "Merge, please",
        "Be brief.",
        3,
        500,
    )
    assert call.thinking is True
    assert call.sampling == Sampling()
    assert model.closed


async def test_letters_and_enter_in_one_burst_are_one_message() -> None:
    model = FakeModel(["hi"])
    app = make_app(model)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        for key in ["y", "o", "enter"]:
            app.simulate_key(key)
        await wait_until(pilot, lambda: app.session.state.last_answer == "hi")
    assert model.calls[0].prompt == "yo"


async def test_new_lines_by_ctrl_j_and_shift_enter() -> None:
    app = make_app(FakeModel(["ok"]))
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await press(app, "a", "ctrl+j", "b", "shift+enter", "c")
        assert app.chat.composer.text == "a\nb\nc"
        await press(app, "enter")
        await wait_until(pilot, lambda: app.session.state.last_answer == "ok")
        assert app.session.state.turns[0].user == "a\nb\nc"
        await say(app, " ")
        assert len(app.session.state.turns) == 1


async def test_the_second_question_carries_the_conversation() -> None:
    model = FakeModel([Answer("One.", thinking="hm"), "Two."])
    app = make_app(model)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "first")
        await ask(pilot, app, "second")
    assert list(model.calls[1].messages) == [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "One.", "reasoning_content": "hm"},
        {"role": "user", "content": "second"},
    ]


async def test_a_message_can_be_sent_before_the_model_is_there() -> None:
    app = make_app(FakeModel(["hi"]))
    async with app.run_test() as pilot:
        await ask(pilot, app, "early")
        assert app.session.state.turns[0].answer == "hi"


async def test_esc_unqueues_first_then_stops_and_keeps_the_text() -> None:
    model = FakeModel([LONG, "never"])
    app = make_app(model)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "go")
        await wait_until(pilot, lambda: app.session.state.turns[0].answer != "")
        await say(app, "and then?")
        await say(app, "and when?")
        assert app.session.state.queued == "and then?\nand when?"
        await wait_until(pilot, lambda: "and then?" in shown(app, "QueueChip"))
        await press(app, "escape")
        assert app.session.state.queued is None
        assert app.chat.composer.text == "and then?\nand when?"
        assert app.session.state.generating
        await press(app, "escape")
        await drawn(pilot, app)
        assert "stopped" in shown(app, ".stats")
        assert "one two" in app.chat.query_one(Markdown).source
    assert len(model.calls) == 1


async def test_a_queued_message_is_asked_when_the_answer_ends() -> None:
    model = FakeModel([LONG, "second"])
    app = make_app(model)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "go")
        await say(app, "next")
        await wait_until(pilot, lambda: app.chat.query_one(QueueChip).display)
        model.go_on()
        await wait_until(pilot, lambda: len(app.session.state.turns) == 2)
        await drawn(pilot, app)
        assert not app.chat.query_one(QueueChip).display
    assert [call.prompt for call in model.calls] == ["go", "next"]


async def test_ctrl_t_switches_thinking() -> None:
    model = FakeModel([full_answer()])
    app = make_app(model)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await press(app, "ctrl+t")
        await wait_until(pilot, lambda: shown(app, "#pill") == "NO THINK")
        await ask(pilot, app, "quick")
        assert not app.chat.query(Thought)
        await press(app, "ctrl+t")
        await wait_until(pilot, lambda: shown(app, "#pill") == "THINK")
    assert model.calls[0].thinking is False


@pytest.mark.parametrize("can_think", [True, False])
async def test_a_model_with_one_mode_says_so(can_think: bool) -> None:
    info = ModelInfo("Q", "8-bit", 100, 1, can_think=can_think, can_switch_thinking=False)
    model = FakeModel(["ok"], info=info)
    app = make_app(model)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await press(app, "ctrl+t")
        assert app.session.state.thinking is can_think
        await wait_until(pilot, lambda: "Q " in told(app))
        await ask(pilot, app, "hi")
    assert model.calls[0].thinking is None


async def test_ctrl_r_answers_anew_beside_the_old_answer() -> None:
    model = FakeModel(["bad", "good"])
    app = make_app(model)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await press(app, "ctrl+r")
        await wait_until(pilot, lambda: "nothing was asked" in told(app))
        await ask(pilot, app, "hi")
        await press(app, "ctrl+r")
        await wait_until(pilot, lambda: app.session.state.last_answer == "good")
        await drawn(pilot, app)
        assert [turn.answer for turn in app.session.state.turns] == ["good"]
        assert len(app.chat.query(Markdown)) == 1
        assert "‹2/2›" in shown(app, "UserTurn")
    assert len(model.calls[1].messages) == 1


async def test_ctrl_n_starts_anew_also_in_the_middle_of_an_answer() -> None:
    model = FakeModel([LONG, "fresh"])
    app = make_app(model)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "go")
        await wait_until(pilot, lambda: app.session.state.turns[0].answer != "")
        await press(app, "ctrl+n")
        assert app.session.state.turns == []
        await wait_until(pilot, lambda: app.chat.query_one(Welcome).display)
        await ask(pilot, app, "again")
        assert [turn.answer for turn in app.session.state.turns] == ["fresh"]
    assert len(model.calls[1].messages) == 1


async def test_ctrl_y_copies_the_last_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr("qwen3_mlx_app.tui.screens.turns.copy_to_system", copied.append)
    app = make_app(FakeModel(["the answer"]))
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await press(app, "ctrl+y")
        await wait_until(pilot, lambda: "no answer" in told(app))
        await ask(pilot, app, "hi")
        await press(app, "ctrl+y")
        await wait_until(pilot, lambda: app.clipboard == "the answer")
        await wait_until(pilot, lambda: copied == ["the answer"])


async def test_ctrl_f_shows_thoughts_in_three_ways_and_remembers() -> None:
    app = make_app(FakeModel([full_answer(), full_answer(pause_after=9)]))
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hi")
        body = app.chat.query(".thought-body").first()
        assert not body.display
        assert "Thought 14s" in shown(app, ".thought-title")
        await press(app, "ctrl+f")
        await wait_until(pilot, lambda: body.display)
        await press(app, "ctrl+f")
        await wait_until(pilot, lambda: not body.display)
        await say(app, "more")
        await wait_until(pilot, lambda: app.session.state.turns[-1].thought_tokens == 9)
        await wait_until(pilot, lambda: "9 tokens" in shown_last(app, ".thought-title"))
        assert len(app.chat.query(Thought)) == 2
        assert not app.chat.query(".thought-body").last().display
        await press(app, "ctrl+f")
        await wait_until(pilot, lambda: app.chat.query(".thought-body").last().display)
        assert not body.display


async def test_a_click_opens_one_thought() -> None:
    app = make_app(FakeModel([full_answer()]))
    async with app.run_test(size=(90, 40)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hi")
        body = app.chat.query_one(".thought-body")
        assert await pilot.click(".thought-title")
        await wait_until(pilot, lambda: body.display)
        await settled(pilot, app)
        assert await pilot.click(".thought-title")
        await wait_until(pilot, lambda: not body.display)
        await wait_until(pilot, lambda: app.chat.composer.has_focus)


async def test_the_thought_is_timed_by_the_clock() -> None:
    clock = Clock()
    model = FakeModel([full_answer(pause_after=9)])
    app = make_app(model, clock=clock)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "hi")
        await wait_until(pilot, lambda: bool(app.chat.query(Thought)))
        clock.now = 11.0
        await wait_until(pilot, lambda: "Thinking 11s" in shown(app, ".thought-title"))
        await wait_until(pilot, lambda: app.chat.query_one(".thought-body").display)
        model.go_on()
        await drawn(pilot, app)
        assert not app.chat.query_one(".thought-body").display


async def test_f1_lists_every_key_and_command_and_closes() -> None:
    app = make_app(FakeModel([]))
    async with app.run_test(size=(100, 50)) as pilot:
        await ready(pilot, app)
        for close in ["escape", "f1", "q"]:
            await press(app, "f1")
            await opened(pilot, app, HelpScreen)
            text = "\n".join(str(static.render()) for static in app.screen.query(Static))
            assert all(command.usage in text for command in COMMANDS)
            assert all(
                key in text for key in ["^t", "^r", "^n", "^y", "^f", "F1", "^q", "esc", "⏎"]
            )
            await press(app, close)
            await closed(pilot, app)


async def test_ctrl_q_quits_and_closes_the_model() -> None:
    model = FakeModel([LONG])
    app = make_app(model)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "go")
        await press(app, "ctrl+q")
        await wait_until(pilot, lambda: not app.is_running)
    assert model.closed


@pytest.mark.parametrize("width", [60, 72, 80, 110])
async def test_the_footer_never_cuts_a_key(width: int) -> None:
    app = make_app(FakeModel([]))
    async with app.run_test(size=(width, 20)) as pilot:
        await ready(pilot, app)
        bar = app.chat.query_one(KeyBar)
        line = str(bar.render())
        assert len(line) <= width
        assert "F1 Help" in line
        assert ("^e Settings" in line) == (width >= 110)  # what does not fit whole is left out
        assert len(bar.keys()) >= 7
        at = line.index("^t")
        await pilot.click(KeyBar, offset=(at, 0))
        await wait_until(pilot, lambda: not app.session.state.thinking)


async def test_the_slash_commands() -> None:
    model = FakeModel([full_answer(), full_answer(), "three", "four"])
    app = make_app(model)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "/no_think")
        await wait_until(pilot, lambda: shown(app, "#pill") == "NO THINK")
        await ask(pilot, app, "/think just once")
        assert (model.calls[0].thinking, model.calls[0].prompt) == (True, "just once")
        assert not app.session.state.thinking
        await say(app, "/think")
        await ask(pilot, app, "/no_think quickly")
        assert model.calls[1].thinking is False
        assert app.session.state.thinking
        await say(app, "/system Be kind.")
        assert app.session.state.system == "Be kind."
        await say(app, "/retry")
        await wait_until(pilot, lambda: app.session.state.last_answer == "three")
        await drawn(pilot, app)
        assert model.calls[2].system == "Be kind."
        await say(app, "/copy")
        await wait_until(pilot, lambda: app.clipboard == "three")
        await say(app, "/thoughts open")
        await wait_until(pilot, lambda: app.chat.query(".thought-body").first().display)
        await say(app, "/thoughts sideways")
        await wait_until(pilot, lambda: "fold, open, line" in shown_last(app, "NoticeLine"))
        await say(app, "/help")
        await opened(pilot, app, HelpScreen)
        await press(app, "escape")
        await closed(pilot, app)
        await say(app, "/system")
        assert app.session.state.system is None
        await say(app, "/new")
        assert app.session.state.turns == []
        await wait_until(pilot, lambda: not app.chat.query(NoticeLine))
        await say(app, "/quit")
        await wait_until(pilot, lambda: not app.is_running)


async def test_an_unknown_command_stays_in_the_composer() -> None:
    app = make_app(FakeModel([]))
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await say(app, "/thinks")
        await wait_until(pilot, lambda: app.chat.composer.text == "/thinks")
        await wait_until(pilot, lambda: "no command /thinks" in told(app))


async def test_what_is_told_is_text_and_no_markup() -> None:
    app = make_app(FakeModel([]))
    async with app.run_test(notifications=True) as pilot:
        await ready(pilot, app)
        await say(app, "/system Keep [brackets] and [/what] is odd.")
        await wait_until(pilot, lambda: bool(app.screen.query(Toast)))
        toast = app.screen.query_one(Toast)
        await wait_until(pilot, lambda: "[brackets] and [/what]" in str(toast.render()))


async def test_commands_are_listed_and_completed_while_typed() -> None:
    app = make_app(FakeModel([]))
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await press(app, "/", "s", "y")
        await wait_until(pilot, lambda: app.chat.query_one(Hints).display)
        await wait_until(pilot, lambda: "/system [TEXT]" in shown(app, "Hints"))
        await press(app, "tab")
        await wait_until(pilot, lambda: app.chat.composer.text == "/system ")
        await wait_until(pilot, lambda: not app.chat.query_one(Hints).display)


@pytest.mark.parametrize(("size", "rows"), [((100, 30), 9), ((44, 12), 4)])
async def test_the_list_of_commands_leaves_room_and_says_how_many_it_leaves_out(
    size: tuple[int, int], rows: int
) -> None:
    app = make_app(FakeModel([]))
    async with app.run_test(size=size) as pilot:
        await ready(pilot, app)
        await press(app, "/")
        hints = app.chat.query_one(Hints)
        await wait_until(pilot, lambda: hints.size.height == rows)
        left = len(COMMANDS) - rows + 1
        assert shown(app, "Hints").splitlines()[-1] == f"… and {left} more: type on, or /help"
        assert app.chat.composer.region.bottom <= app.chat.query_one(StatusLine).region.y
        assert app.chat.query_one(StatusLine).region.bottom < size[1]


@pytest.mark.parametrize("width", [44, 60, 80, 120])
async def test_the_ways_to_help_and_out_are_always_on_show(width: int) -> None:
    app = make_app(FakeModel([]))
    async with app.run_test(size=(width, 24)) as pilot:
        await ready(pilot, app)
        bar = str(app.chat.query_one(KeyBar).render())
        assert len(bar) <= width
        assert "⏎ Send" in bar
        assert "F1 Help" in bar
        assert "^q Quit" in bar
        assert ("esc Stop" in bar) == (width == 120)  # there is nothing to stop


async def test_ctrl_c_stops_an_answer_and_then_says_how_to_leave() -> None:
    app = make_app(FakeModel([LONG]))
    async with app.run_test(notifications=True) as pilot:
        await ready(pilot, app)
        await say(app, "hi")
        await wait_until(pilot, lambda: app.session.state.generating)
        await press(app, "ctrl+c")
        await wait_until(pilot, lambda: not app.session.state.generating)
        assert app.session.state.turns[-1].finish == "cancelled"
        await press(app, "ctrl+c")
        await wait_until(pilot, lambda: bool(app.screen.query(Toast)))
        assert "^q leaves the chat." in str(app.screen.query(Toast).last().render())


async def test_a_command_that_lacks_its_text_and_a_file_that_is_not_there_are_told() -> None:
    model = FakeModel(["ok"])
    app = make_app(model)
    async with app.run_test(notifications=True) as pilot:
        await ready(pilot, app)
        await say(app, "/title")
        await wait_until(pilot, lambda: bool(app.screen.query(Toast)))
        assert "/title TEXT  Name this chat" in str(app.screen.query_one(Toast).render())
        await say(app, "read @./no-such-notes.txt")
        told = "There is no file ./no-such-notes.txt: its name alone was sent."
        await wait_until(
            pilot, lambda: any(told in str(each.render()) for each in app.screen.query(Toast))
        )


async def test_the_palette_has_the_same_commands() -> None:
    app = make_app(FakeModel(["a"]))
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hi")
        commands = {command.title: command for command in app.get_system_commands(app.chat)}
        assert {f"/{command.name}" for command in COMMANDS} <= set(commands)
        assert {"Theme", "Screenshot"} <= set(commands)
        await commands["/new"].callback()
        assert app.session.state.turns == []
        await press(app, "ctrl+p")
        await wait_until(pilot, lambda: isinstance(app.screen, CommandPalette))
        await wait_until(pilot, lambda: app.screen.focused is not None)
        await press(app, "escape")
        await closed(pilot, app)


async def test_a_fault_is_a_note_with_what_was_kept_and_the_next_step() -> None:
    fault = EngineError("out of memory: 18.2 GB needed")
    broken = Answer("one two three", error=fault, error_after=2)
    model = FakeModel([broken, Answer(error=ValueError("odd")), "fine"])
    app = make_app(model)
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hi")
        note = shown(app, "ErrorNote")
        assert "out of memory: 18.2 GB needed" in note
        assert "Kept: the answer so far, 2 tokens" in note
        assert "/restart" in note
        await press(app, "ctrl+r")
        await wait_until(pilot, lambda: "ValueError: odd" in shown(app, "ErrorNote"))
        await drawn(pilot, app)
        await press(app, "ctrl+r")
        await wait_until(pilot, lambda: app.session.state.last_answer == "fine")
        await drawn(pilot, app)
        assert not app.chat.query(ErrorNote)


async def test_a_model_that_cannot_be_loaded_says_so_and_can_be_tried_again() -> None:
    app = make_app(ModelNotFoundError("no model is called 5b: qwen3-mlx models lists them"))
    async with app.run_test() as pilot:
        await wait_until(pilot, lambda: bool(app.chat.query(ErrorNote)))
        assert "no model is called 5b" in shown(app, "ErrorNote")
        await wait_until(pilot, lambda: "not loaded" in shown(app, "#model"))
        await ask(pilot, app, "hello?")
        assert len(app.chat.query(ErrorNote)) >= 1
        assert app.session.state.turns[0].error is not None


async def test_what_the_engine_notes_is_a_dim_line() -> None:
    app = make_app(FakeModel([Answer("a", notices=("greedy is asked for",))]))
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hi")
        assert "greedy" in shown(app, "NoticeLine")


async def test_long_answers_can_be_paged_and_followed_again() -> None:
    app = make_app(FakeModel([Answer("line\n\n" * 80), "short"]))
    async with app.run_test(size=(72, 20)) as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hi")
        box = app.chat.transcript
        bottom = box.max_scroll_y
        assert box.scroll_y == bottom > 40
        await press(app, "pageup")
        await wait_until(pilot, lambda: box.scroll_y < bottom)
        await press(app, "pagedown")
        await wait_until(pilot, lambda: box.scroll_y == bottom)
        await press(app, "pageup")
        await ask(pilot, app, "more")  # at once: a page that is still on its way must not win
        await wait_until(pilot, lambda: box.scroll_y > bottom)


async def test_escape_sequences_do_not_reach_the_screen() -> None:
    app = make_app(FakeModel([Answer("\x1b[31mred\x07", thinking="\x1b]0;title\x07")]))
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await ask(pilot, app, "hi\x1b[2J")
        assert "\x1b" not in app.chat.query_one(Markdown).source
        assert "\x1b" not in shown(app, "UserTurn")
        assert app.session.state.turns[0].user == "hi[2J"


async def test_the_hint_for_a_first_start() -> None:
    app = make_app(FakeModel([]), hint="This is tiny.")
    async with app.run_test() as pilot:
        await ready(pilot, app)
        await wait_until(pilot, lambda: "stays on this computer" in shown(app, "Welcome"))
        assert "This is tiny." in shown(app, "Welcome")
