"""What a reply tells of its making: rates, and log-probabilities of its tokens."""

from __future__ import annotations

from qwen3_mlx.engine.request import Request, RequestStats
from qwen3_mlx.events import Timing, TokenLogprob
from qwen3_mlx.text.tokenizer import Tokenizer

__all__ = ["timing", "token_logprobs"]


def token_logprobs(
    request: Request | None, tokenizer: Tokenizer
) -> tuple[TokenLogprob, ...] | None:
    """The log-probabilities that a request was asked for, with the texts of their tokens."""
    if request is None or request.logprobs is None:
        return None

    def text(id: int) -> str:
        return tokenizer.bytes_of(id, skip_special=False).decode("utf-8", "replace")

    return tuple(
        TokenLogprob(
            odds.token,
            text(odds.token),
            odds.logprob,
            tuple((each, text(each), value) for each, value in odds.top),
        )
        for odds in request.odds
        if odds is not None
    )


def timing(load_seconds: float, prompt_tokens: int, stats: RequestStats) -> Timing:
    """Rates and times of a request that is over."""
    began = stats.first_token > 0
    prefill_seconds = stats.first_token - stats.started
    return Timing(
        load_seconds=load_seconds,
        ttft_seconds=stats.first_token - stats.submitted if began else 0.0,
        prefill_tokens_per_second=(
            (prompt_tokens - stats.cached) / prefill_seconds if began else 0.0
        ),
        decode_tokens_per_second=(
            (stats.tokens - 1) / stats.decode_seconds if stats.decode_seconds > 0 else 0.0
        ),
    )
