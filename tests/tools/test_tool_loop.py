"""Tools: schemas from functions, calls that are carried out, and every way it can go wrong."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jsonschema
import pydantic
import pytest

from qwen3_mlx import Chat, OptionError, StepDone, Tool, ToolCall, ToolResult
from qwen3_mlx.testing import Answer, Call, FakeModel
from qwen3_mlx.tools.functions import tools_of
from qwen3_mlx.tools.running import Runner


@dataclass
class Place:
    city: str
    country: str = "CH"


def weather(place: Place, unit: Literal["C", "F"] = "C", days: list[int] | None = None) -> str:
    """Tell the weather.

    It is always fine.

    Args:
        place: where,
            with its country
        unit (str): of temperatures
    """
    return f"fine in {place.city}, 20 {unit}, {days}"


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def fail(why: str) -> str:
    raise RuntimeError(why)


def big() -> str:
    return "x" * 1_000_000


def calls(*pairs: tuple[str, Mapping[str, Any]], text: str = "") -> Answer:
    return Answer(text, calls=pairs)


def test_schema_of_a_function() -> None:
    schema = Tool.of(weather).schema["function"]
    assert schema["name"] == "weather"
    assert schema["description"] == "Tell the weather.\n\nIt is always fine."
    parameters = schema["parameters"]
    assert parameters["required"] == ["place"]
    assert parameters["properties"]["unit"] == {
        "enum": ["C", "F"],
        "description": "of temperatures",
    }
    assert parameters["properties"]["place"]["description"] == "where, with its country"
    assert parameters["properties"]["place"]["required"] == ["city"]


def test_a_description_ends_at_a_section_and_not_at_a_word() -> None:
    def look(place: str) -> str:
        """Look something up.

        Returns are quick. Parameters of the search are fixed.

        Returns:
            What was found.
        """
        return place

    assert Tool.of(look).description.endswith("Parameters of the search are fixed.")
    assert Tool.given({"name": "f", "description": None}).description == ""


def test_definitions_of_one_name_stay_apart() -> None:
    def item(field: str) -> Any:
        return pydantic.create_model("Item", **{field: (int, ...)})

    first = pydantic.create_model("First", item=(item("a"), ...))
    second = pydantic.create_model("Second", item=(item("b"), ...))

    def f(one: Any, other: Any) -> None: ...

    f.__annotations__ = {"one": first, "other": second}
    parameters = Tool.of(f).parameters
    known = {"one": {"item": {"a": 1}}, "other": {"item": {"b": 2}}}
    jsonschema.validate(known, parameters)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(known | {"other": {"item": {"a": 2}}}, parameters)


def test_what_pydantic_says_of_an_argument() -> None:
    def f(n: int) -> None: ...

    f.__annotations__["n"] = Annotated[int, pydantic.Field(ge=1, description="how many")]
    assert Tool.of(f).parameters["properties"]["n"] == {
        "type": "integer", "minimum": 1, "description": "how many",
    }  # fmt: skip


def test_arguments_become_their_types() -> None:
    arguments = {"place": {"city": "Bern"}, "days": [1]}
    assert Tool.of(weather).call(arguments) == "fine in Bern, 20 C, [1]"


def no_hint(a) -> int:  # type: ignore[no-untyped-def]
    return 1


def stars(*args: int) -> int:
    return 1


def unnamed(a: int, /) -> int:
    return a


def unreadable(a: Nowhere) -> int:  # type: ignore[name-defined]  # noqa: F821
    return 1


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ([no_hint], "no type hint"),
        ([unnamed], "'a' has no name, as / says"),
        ([unreadable], "tool unreadable: a type hint cannot be read"),
        ([stars], r"takes \*args"),
        ([lambda: 1], "a tool needs a name"),
        ([add, add], "two tools are named"),
        ([3], "a tool is a function"),
        ([{"description": "x"}], "a tool needs a name"),
    ],
)
def test_what_is_no_tool(tools: list[Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        tools_of(tools)


def test_a_run_in_two_steps() -> None:
    model = FakeModel([calls(("add", {"a": 2, "b": 3})), calls(("add", {"a": 5, "b": 4})), "9."])
    chat = Chat(model)
    run = chat.run("2 + 3 + 4?", tools=[add])

    assert (run.reply.text, run.steps, run.stopped_by) == ("9.", 3, "answer")
    assert [result.content for result in run.results] == ["5", "9"]
    roles = [message["role"] for message in chat.messages]
    assert roles == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    called = chat.messages[1]["tool_calls"][0]
    assert called["function"] == {"name": "add", "arguments": {"a": 2, "b": 3}}
    assert chat.messages[2]["tool_call_id"] == called["id"]
    assert model.calls[0].tools[0].name == "add"


def test_parallel_calls_and_events() -> None:
    model = FakeModel([calls(("add", {"a": 1, "b": 1}), ("add", {"a": 2, "b": 2})), "ok"])
    run = Chat(model).start_run("?", [add])
    kinds = [type(event).__name__ for event in run]

    assert [kind for kind in kinds if kind in ("StepDone", "ToolResult", "Done")] == [
        "StepDone",
        "ToolResult",
        "ToolResult",
        "Done",
    ]
    assert [result.content for result in run.result().results] == ["2", "4"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (("fail", {"why": "no disk"}), "error: RuntimeError: no disk"),
        (("nowhere", {}), "error: there is no tool named 'nowhere': the tools are add, fail"),
        (("add", {"a": 1, "b": "two"}), "argument 'b' of add: 'two' is not of type int"),
        (("add", {"a": 1}), "add needs the argument 'b'"),
        (("add", {"a": 1, "b": 2, "c": 3}), "add has no argument 'c': it takes a, b"),
        (("add", {"a": True, "b": 2}), "is not of type int"),
    ],
)
def test_errors_are_told_to_the_model(call: tuple[str, dict[str, Any]], said: str) -> None:
    heard: list[Call] = []

    def answer(asked: Call) -> Answer | str:
        heard.append(asked)
        return calls(call) if len(heard) == 1 else "I see."

    run = Chat(FakeModel(answer)).run("?", tools=[add, fail])
    assert run.stopped_by == "answer"
    assert run.results[0].failed
    assert said in run.results[0].content
    assert heard[1].messages[-1]["content"] == run.results[0].content


def test_a_tool_that_hangs() -> None:
    release = threading.Event()

    def hang() -> str:
        release.wait()
        return "late"

    run = Chat(FakeModel([calls(("hang", {})), "Too slow."])).run(
        "?", tools=[hang], tool_seconds=0.05
    )
    release.set()
    assert run.results[0].content == "error: the tool did not come back within 0.05 seconds"
    assert run.reply.text == "Too slow."


def test_a_megabyte() -> None:
    run = Chat(FakeModel([calls(("big", {})), "Much."])).run("?", tools=[big])
    content = run.results[0].content
    assert len(content) < 21_000
    assert content.endswith(
        "[cut: the result has 1,000,000 characters, and the first 20,000 are shown]"
    )


@pytest.mark.parametrize(("answer", "why"), [(False, ""), ("not today", ": not today")])
def test_approval_denied(answer: bool | str, why: str) -> None:
    asked: list[ToolCall] = []

    def approve(call: ToolCall) -> bool | str:
        asked.append(call)
        return answer

    run = Chat(FakeModel([calls(("add", {"a": 1, "b": 2})), "As you wish."])).run(
        "?", tools=[add], approve=approve
    )
    assert [call.arguments for call in asked] == [{"a": 1, "b": 2}]
    assert run.results[0].content == f"error: the person did not allow this call{why}"
    assert run.reply.text == "As you wish."


def test_endless_calling_ends() -> None:
    model = FakeModel(lambda call: calls(("add", {"a": 1, "b": 1})))
    chat = Chat(model)
    run = chat.run("?", tools=[add], max_steps=3)

    assert (run.stopped_by, run.steps, len(model.calls)) == ("max_steps", 3, 3)
    assert [result.failed for result in run.results] == [False, False, True]
    assert chat.messages[-1]["content"] == "error: the run was over (max_steps)"


def test_a_run_is_read_ahead_for_the_next_turn() -> None:
    model = FakeModel([calls(("add", {"a": 1, "b": 1})), "2"])
    chat = Chat(model)
    chat.run("1 + 1?", tools=[add])
    assert [list(messages) for messages in model.prepared] == [chat.messages]


def test_cancel_during_a_tool() -> None:
    started, release = threading.Event(), threading.Event()

    def wait() -> str:
        started.set()
        release.wait()
        return ""

    run = Chat(FakeModel([calls(("wait", {})), "never"])).start_run("?", [wait])
    threading.Thread(target=lambda: (started.wait(), run.cancel())).start()
    result = run.result()
    release.set()
    assert result.stopped_by == "cancelled"
    assert "cancelled" in result.results[0].content


def test_who_stops_listening_cancels() -> None:
    model = FakeModel([Answer("one two three four", pause_after=1)])
    chat = Chat(model)
    run = chat.start_run("?", [])
    for _ in run:
        break
    assert run.result().stopped_by == "cancelled"
    assert chat.messages[-1]["content"] != "one two three four"


def test_after_a_cancel_no_other_call_is_carried_out() -> None:
    """Not the second of two, and not the one that somebody was asked about meanwhile."""
    made: list[int] = []

    def note(n: int) -> None:
        made.append(n)
        run.cancel()

    answer = calls(("note", {"n": 1}), ("note", {"n": 2}))
    chat = Chat(FakeModel([answer, answer]))
    run = chat.start_run("?", [note])
    assert (run.result().stopped_by, made) == ("cancelled", [1])
    assert [message["role"] for message in chat.messages[-2:]] == ["tool", "tool"]
    assert "the run was over (cancelled)" in chat.messages[-1]["content"]

    def approve(call: ToolCall) -> bool:
        run.cancel()
        return True

    run = chat.start_run("?", [note], approve=approve)
    assert (run.result().stopped_by, made) == ("cancelled", [1])
    assert "cancelled before the tool was called" in run.result().results[0].content


def test_a_tool_that_exits_ends_only_itself() -> None:
    def leave() -> None:
        raise SystemExit(3)

    run = Chat(FakeModel([calls(("leave", {})), "So be it."])).run("?", tools=[leave])
    assert run.results[0].content == "error: the tool ended with SystemExit: 3"
    assert run.reply.text == "So be it."


def test_a_tool_may_be_a_coroutine() -> None:
    async def later(n: int) -> int:
        return n + 1

    run = Chat(FakeModel([calls(("later", {"n": 1})), "2"])).run("?", tools=[later])
    assert run.results[0].content == "2"


def test_a_tool_made_by_hand_takes_what_json_has() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    assert Tool("same", "", schema, lambda n: n).call({"n": [1]}) == [1]


def test_a_run_out_of_time() -> None:
    def slow() -> str:
        threading.Event().wait(0.1)
        return "x"

    model = FakeModel(lambda call: calls(("slow", {})))
    run = Chat(model).run("?", tools=[slow], timeout=0.05, max_steps=50)
    assert run.stopped_by == "timeout"
    assert run.steps == 1


def test_a_model_that_fails_leaves_the_chat_as_it_was() -> None:
    chat = Chat(FakeModel([calls(("add", {"a": 1, "b": 1})), Answer(error=ValueError("broken"))]))
    with pytest.raises(ValueError, match="broken"):
        chat.run("?", tools=[add])
    assert chat.messages == []


def test_impossible_limits() -> None:
    with pytest.raises(OptionError, match="max_steps is 0"):
        Chat(FakeModel([])).run("?", tools=[add], max_steps=0)
    with pytest.raises(OptionError, match="above 0"):
        Chat(FakeModel([])).run("?", tools=[add], tool_seconds=0)


async def test_a_run_for_coroutines() -> None:
    model = FakeModel([calls(("add", {"a": 2, "b": 2})), "4"])
    run = await Chat(model).arun("?", tools=[add])
    assert (run.reply.text, run.results[0].content) == ("4", "4")


def test_steps_carry_their_replies() -> None:
    model = FakeModel([calls(("add", {"a": 2, "b": 2}), text="Let me add."), "4"])
    events = list(Chat(model).start_run("?", [add]))
    step = next(event for event in events if isinstance(event, StepDone))
    result = next(event for event in events if isinstance(event, ToolResult))
    assert step.reply.text == "Let me add."
    assert result.call == step.reply.tool_calls[0]


def test_half_a_character_in_a_result_is_a_question_mark() -> None:
    def listing() -> str:
        """List the files."""
        return "name\udcff.txt"

    runner = Runner({"listing": Tool.of(listing)})
    result = runner.run(ToolCall("call_1", "listing", {}), threading.Event(), None)
    assert (result.content, result.failed) == ("name?.txt", False)


def test_only_the_first_answer_must_call() -> None:
    model = FakeModel([calls(("add", {"a": 1, "b": 2})), "It is 3."])
    run = model.chat(tool_choice="required").run("1 + 2?", tools=[add])
    assert run.reply.text == "It is 3."
    assert [call.more.get("tool_choice") for call in model.calls] == ["required", None]
