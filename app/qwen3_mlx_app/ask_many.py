"""`qwen3-mlx ask --jsonl`: many questions, one line of JSON for each answer, in order."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from qwen3_mlx import places
from qwen3_mlx.errors import EngineError, OptionError, Qwen3Error
from qwen3_mlx.warm.link import key_of
from qwen3_mlx_app import options
from qwen3_mlx_app.ask_inputs import Input, from_files, from_lines, stdin_lines
from qwen3_mlx_app.asking import Answer, Asker
from qwen3_mlx_app.journal import Journal, json_line

if TYPE_CHECKING:
    import argparse

__all__ = ["run_many"]

_Line = dict[str, Any]
_PARALLEL = 4


class _Cancelled(Exception):
    """The run was interrupted before this question was answered."""


def run_many(args: argparse.Namespace, wishes: Mapping[str, Any]) -> int:
    """Answer every input; the exit status, 2 if some of them could not be used."""
    _check(args)
    name = options.chosen_model(args)
    words = " ".join(args.prompt)
    total: int | None
    if args.file:
        total, inputs = len(args.file), from_files(words, args.file, wishes)
    else:
        lines, total = stdin_lines()
        inputs = from_lines(words, lines, wishes)
    journal = None if args.resume is None else Journal(args.resume)
    model = _identity(name, args)
    try:
        done = _skip(journal, inputs, model, args.resume)
        progress = _Progress(done, total, quiet=args.quiet)
        with Asker(name, options.memory(args), agent=args.agent) as asker:
            unusable = _run(asker, inputs, args.parallel or _PARALLEL, model, journal, progress)
    finally:
        if journal is not None:
            journal.close()
    if args.model:
        places.remember_model(name)
    return 2 if unusable else 0


def _check(args: argparse.Namespace) -> None:
    for flag in ("json", "copy", "paste", "verbose", "save-prefix"):
        if getattr(args, flag.replace("-", "_")):
            raise OptionError(f"--{flag} is for one question: leave it out, or --jsonl")
    if args.parallel is not None and args.parallel < 1:
        raise OptionError(f"--parallel is {args.parallel}, and must be at least 1")


def _identity(name: str, args: argparse.Namespace) -> str:
    """The model, and what was stated of how it runs that changes its answers."""
    stated = {flag: getattr(args, flag) for flag in ("context", "kv_bits")}
    stated = {flag: value for flag, value in stated.items() if value is not None}
    return f"{key_of(name)} {stated}" if stated else key_of(name)


def _skip(journal: Journal | None, inputs: Iterator[Input], model: str, path: str | None) -> int:
    """Pass over what has been answered before, and check that it was the same; how many."""
    if journal is None:
        return 0
    for number, key in enumerate(journal.keys, 1):
        found = next(inputs, None)
        if found is None:
            raise OptionError(
                f"{path} has {journal.count:,} answers, and there are only {number - 1:,} "
                "questions: nothing was changed; choose another file"
            )
        if found.key(model) != key:
            raise OptionError(
                f"line {number} of {path} answers another question, or one with another model or "
                "other options: nothing was changed; choose another file"
            )
    return journal.count


def _run(
    asker: Asker,
    inputs: Iterator[Input],
    parallel: int,
    model: str,
    journal: Journal | None,
    progress: _Progress,
) -> int:
    """Answer and write; how many inputs could not be used."""
    write = _print if journal is None else journal.append
    unusable, clerk = 0, _Clerk(asker, model)
    try:
        asker.open()
        for line in _in_order(inputs, clerk.answer, parallel):
            write(line)
            unusable += "error" in line
            progress.step()
    except BaseException as error:
        clerk.cancel()
        progress.end(kept=journal is not None, why=error)
        raise
    progress.end(kept=journal is not None)
    return unusable


def _in_order(
    inputs: Iterator[Input], answer: Callable[[Input], _Line], parallel: int
) -> Iterator[_Line]:
    """The lines for the inputs, in their order, with so many being answered at once.

    Inputs are taken on a thread of their own: whoever writes the next question only when the
    last one has been answered must not be waited for.
    """
    pool, waiting = ThreadPoolExecutor(parallel), SimpleQueue[Future[_Line] | None]()
    room, over = threading.Semaphore(parallel), threading.Event()

    def take() -> None:
        try:
            for each in inputs:
                room.acquire()
                if over.is_set():
                    return
                waiting.put(pool.submit(answer, each))
        except Exception as error:
            failed: Future[_Line] = Future()
            failed.set_exception(error)
            waiting.put(failed)
        waiting.put(None)

    threading.Thread(target=take, daemon=True).start()
    try:
        while (first := waiting.get()) is not None:
            yield first.result()
            room.release()
    finally:
        over.set()
        room.release()
        pool.shutdown(wait=False, cancel_futures=True)


class _Clerk:
    """Answers inputs on several threads, and can stop them all."""

    def __init__(self, asker: Asker, model: str) -> None:
        self._asker, self._model = asker, model
        self._lock = threading.Lock()
        self._running: set[Answer] = set()
        self._cancelled = False

    def answer(self, asked: Input) -> _Line:
        """The line for an input.

        Raises:
            EngineError: a fault that is not the input's own.
        """
        head = {"n": asked.n, "key": asked.key(self._model), **asked.about}
        if asked.error:
            return {**head, "error": asked.error}
        try:
            reply = self._reply(asked)
        except EngineError:
            raise
        except Qwen3Error as error:
            return {**head, "error": str(error)}
        shown = {name: reply[name] for name in ("text", "thinking", "finish_reason") if reply[name]}
        return {**head, "text": "", **shown, "model": reply["model"], "usage": reply["usage"]}

    def cancel(self) -> None:
        """End all answers, and begin no more."""
        with self._lock:
            self._cancelled = True
            running = list(self._running)
        for answer in running:
            answer.give_up()

    def _reply(self, asked: Input) -> dict[str, Any]:
        with self._lock:
            if self._cancelled:
                raise _Cancelled
            answer = Answer(self._asker, asked.prompt, asked.wishes, silent=True)
            self._running.add(answer)
        try:
            reply = answer.reply()
        finally:
            with self._lock:
                self._running.discard(answer)
        if self._cancelled:
            raise _Cancelled
        return reply


def _print(line: _Line) -> None:
    sys.stdout.write(json_line(line))
    sys.stdout.flush()


class _Progress:
    """How far the run is, on standard error: a line that changes, or one every ten seconds."""

    def __init__(self, done: int, total: int | None, *, quiet: bool) -> None:
        self._before, self._done, self._total, self._quiet = done, done, total, quiet
        self._screen = sys.stderr.isatty()
        self._began = self._told = time.monotonic()

    def step(self) -> None:
        """One more is written."""
        self._done += 1
        now = time.monotonic()
        if now - self._told >= (0.2 if self._screen else 10.0):
            self._told = now
            self._say(self._line(now), end="\x1b[K\r" if self._screen else "\n")

    def end(self, *, kept: bool, why: BaseException | None = None) -> None:
        """The last word."""
        new = self._done - self._before
        text = f"{new:,} answered" + (f", {self._before:,} were before" if self._before else "")
        if why is not None and kept:
            text += "; the same command goes on from there"
        with suppress(OSError):
            self._say(text, end="\x1b[K\n" if self._screen else "\n")

    def _line(self, now: float) -> str:
        seconds = max(now - self._began, 1e-6)
        rate = (self._done - self._before) / seconds
        text = f"{self._done:,}" + ("" if self._total is None else f" of {self._total:,}")
        text += f" answered, {rate * 60:,.0f} a minute"
        if self._total is not None and rate:
            text += f", {(self._total - self._done) / rate / 60:,.0f} min left"
        return text

    def _say(self, text: str, end: str) -> None:
        if not self._quiet:
            print(text, end=end, file=sys.stderr, flush=True)
