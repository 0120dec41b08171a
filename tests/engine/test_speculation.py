"""N-gram speculation: with guesses of any quality a text is what it is without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from checkpoints import write_checkpoint
from engine.recorder import SENTENCE, VOCAB, Recorder, request_for
from hypothesis import given, settings
from hypothesis import strategies as st
from model.running import load

from qwen3_mlx.engine import speculation
from qwen3_mlx.engine.engine import Engine
from qwen3_mlx.engine.mask import Ban
from qwen3_mlx.engine.request import Directive, DrawRule, Force, Request
from qwen3_mlx.engine.speculation import Gain, Lookup

TOKENS = 24


class Oracle(Lookup):
    """Knows what will be said, and is wrong where it was told to be."""

    said: list[int]  # by the same request without guesses
    prompt: int  # its length
    wrong: frozenset[int]  # places in `said`

    def after(self, count: int) -> list[int]:
        start = self.length - self.prompt
        right = list(enumerate(self.said))[start : start + count]
        return [(id + 1) % VOCAB if place in self.wrong else id for place, id in right]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Engine]]:
    """One that does not guess, and one that does."""
    folder = write_checkpoint(tmp_path_factory.mktemp("speculation") / "model", dtype="F32")
    both = [Engine(partial(load, folder), VOCAB, max_rows=2, speculate=on) for on in (False, True)]
    yield both[0], both[1]
    for each in both:
        each.close()


@contextmanager
def willing(lookup: type[Lookup] = Lookup) -> Iterator[list[int]]:
    """Guesses are taken as worth their time. How many tokens each gave."""
    gave = list[int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speculation, "Lookup", lookup)
        patch.setattr(Gain, "pays", True)
        patch.setattr(Gain, "guessed", lambda self, tokens, seconds: gave.append(tokens))
        yield gave


Act = Callable[[Request], Directive]


def run(engine: Engine, number: int, when: int, act: Act) -> tuple[object, Request, Recorder]:
    """The nth request, with something that happens at a token."""
    listener = Recorder()
    request = request_for(number, listener, TOKENS)
    request.mask = Ban(VOCAB)
    listener.at = {when: lambda: act(request)}
    engine.submit(request)
    return listener.end(), request, listener


def nothing(request: Request) -> Directive:
    return None


def stop(request: Request) -> Directive:
    return True


def cancel(request: Request) -> Directive:
    request.cancelled = True
    return None


def fail(request: Request) -> Directive:
    raise KeyError("a listener's fault")


def force(request: Request) -> Directive:
    return Force(SENTENCE, cut=min(2, len(request.said)))


def forbid(request: Request) -> Directive:
    assert isinstance(request.mask, Ban)
    request.mask.ids = frozenset(range(0, VOCAB, 2))
    return None


@given(
    number=st.integers(0, 7),
    when=st.integers(1, TOKENS),
    act=st.sampled_from([nothing, stop, cancel, fail, force, forbid]),
    wrong=st.frozensets(st.integers(0, TOKENS + len(SENTENCE)), max_size=8),
)
@settings(max_examples=60)
def test_guesses_never_change_a_text(
    engines: tuple[Engine, Engine], number: int, when: int, act: Act, wrong: frozenset[int]
) -> None:
    plain, guessing = engines
    end, request, heard = run(plain, number, when, act)
    Oracle.said, Oracle.prompt, Oracle.wrong = request.said, len(request.prompt), wrong
    with willing(Oracle):
        other_end, other, other_heard = run(guessing, number, when, act)

    assert (other.said, other_heard.tokens) == (request.said, heard.tokens)
    assert repr(other_end) == repr(end)
    assert other.uniform() == request.uniform()
    if act is nothing and not wrong:
        assert other_heard.stats.guessed > TOKENS / 2


def test_a_penalised_text_is_guessed_for(engines: tuple[Engine, Engine]) -> None:
    """Qwen recommends presence penalties for quantised models, so they are what people have."""
    rule = DrawRule(presence_penalty=1.5, frequency_penalty=0.1, repetition_penalty=1.05)
    heard = []
    for engine in engines:
        listener = Recorder()
        request = Request([5, 6, 7, 8] * 10, rule, listener, max_tokens=TOKENS)
        Oracle.prompt, Oracle.wrong = len(request.prompt), frozenset({9, 17})
        with willing(Oracle):
            engine.submit(request)
            assert listener.end() == "length"
        Oracle.said = request.said
        heard.append(listener)
    assert heard[0].tokens == heard[1].tokens
    assert heard[1].stats.guessed > TOKENS / 2


def test_a_text_that_repeats_itself_takes_fewer_passes(engines: tuple[Engine, Engine]) -> None:
    """A random model that draws the likeliest soon goes round in circles."""
    texts, guessed = [], []
    for engine in engines:
        listener = Recorder()
        with willing():
            engine.submit(Request([5, 6, 7, 8] * 10, DrawRule(), listener, max_tokens=300))
            assert listener.end() == "length"
        texts.append(listener.tokens)
        guessed.append(listener.stats.guessed)
    assert texts[0] == texts[1]
    assert guessed[0] == 0
    assert guessed[1] > 100  # of 300


def test_company_ends_guessing_and_solitude_begins_it_again(engines: tuple[Engine, Engine]) -> None:
    texts = []
    for engine in engines:
        guest = Recorder()
        asked = Request([9, 8, 7], DrawRule(temperature=1.0), guest, max_tokens=30, seed=1)
        host = Recorder({60: partial(engine.submit, asked)})
        with willing():
            engine.submit(Request([5, 6, 7, 8] * 10, DrawRule(), host, max_tokens=300))
            assert (host.end(), guest.end()) == ("length", "length")
        texts.append((host.tokens, guest.tokens))
    assert texts[0] == texts[1]
    assert host.stats.guessed > 50


def test_the_end_of_a_copy_is_no_loss(engines: tuple[Engine, Engine]) -> None:
    """Behind passes that were right a wrong guess has kept nobody waiting."""
    plain = Recorder()
    engines[0].submit(Request([5, 6, 7, 8], DrawRule(), plain, TOKENS))
    plain.end()
    Oracle.said, Oracle.prompt, Oracle.wrong = plain.tokens, 4, frozenset({12})
    with willing(Oracle) as gave:
        listener = Recorder()
        engines[1].submit(Request([5, 6, 7, 8], DrawRule(), listener, TOKENS))
        listener.end()
    assert listener.tokens == plain.tokens
    assert gave == [2, 4, 6, 8, 2]  # none of the wrong guess after 6


def test_guessing_that_does_not_pay_is_left_for_longer_and_longer() -> None:
    gain = Gain()
    for _ in range(9):
        gain.plain(0.01)
    pauses = []
    for _ in range(8):
        gain.guessed(tokens=1, seconds=0.03)
        pause = 0
        while not gain.pays:
            gain.plain(0.01)
            pause += 1
        pauses.append(pause)
    assert pauses == [32, 64, 128, 256, 512, 1024, 1024, 1024]
    gain.guessed(tokens=3, seconds=0.02)
    assert gain.pays
    gain.guessed(tokens=1, seconds=0.5)
    assert [gain.pays for _ in range(40) if gain.plain(0.01) is None].count(False) == 31


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 60))
def test_a_guess_is_what_followed_the_same_three_tokens(text: list[int], split: int) -> None:
    lookup = Lookup(text[:split])
    lookup.extend(text[split:])
    earlier = [at for at in range(3, len(text)) if text[at - 3 : at] == text[-3:]]
    expected = (text[earlier[-1] :] * 4)[:4] if earlier else []
    assert lookup.after(4) == expected
