"""The Qwen3 text models by name, with their exact sizes.

Only the numbers of each config.json are typed in; parameters, bytes and cache sizes are
computed from them by the functions below, which also serve any other config.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from qwen3_mlx.checkpoint import read_json
from qwen3_mlx.errors import ModelNotFoundError
from qwen3_mlx.model.allocation import SPEND, extra_bytes
from qwen3_mlx.model.config import ModelConfig

__all__ = [
    "Entry",
    "active_params",
    "embedders",
    "entries",
    "find",
    "format_bytes",
    "quantized_bytes",
    "total_params",
    "unknown_name",
]

_TINY = Path(__file__).parent / "tiny"


@dataclass(frozen=True, slots=True)
class Entry:
    """A known model.

    `family` says how it converses: "hybrid" (thinks or not, as asked), "instruct" (never
    thinks), "thinking" (always thinks), "coder" (never thinks, XML tools), "base" (no chat) or
    "embedding" (vectors, no text).
    """

    name: str
    hub_id: str
    family: str
    config: ModelConfig

    @property
    def total_params(self) -> int:
        """All weights; a tied embedding counts once."""
        return total_params(self.config)

    @property
    def active_params(self) -> int:
        """The weights that one token passes through, embedding and head included."""
        return active_params(self.config)

    @property
    def layers(self) -> int:
        """Decoder layers."""
        return self.config.layers

    @property
    def context(self) -> int:
        """Positions that config.json grants without YaRN, in tokens."""
        return self.config.max_positions

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of KV cache per token, in bf16."""
        return self.config.kv_bytes_per_token()

    @property
    def q4_bytes(self) -> int:
        """Bytes of the weights that `qwen3-mlx convert --q4` writes."""
        return quantized_bytes(self.config, spend=SPEND)


def entries() -> tuple[Entry, ...]:
    """The models that converse and have a short name, small to large within each family."""
    return tuple(entry for entry in _all() if entry.family not in ("base", "embedding"))


def embedders() -> tuple[Entry, ...]:
    """The models that make vectors of texts.

    >>> [entry.name for entry in embedders()]
    ['embedding-0.6b', 'embedding-4b', 'embedding-8b']
    """
    return tuple(entry for entry in _all() if entry.family == "embedding")


def find(name: str) -> Entry | None:
    """The entry that a short name or a hub id means, or None; case does not matter.

    >>> find("4b").hub_id
    'Qwen/Qwen3-4B'
    >>> find("qwen3-30b-a3b").name, find("Qwen/Qwen3-4B").name
    ('30b-a3b', '4b')
    >>> find("4b-2507-instruct").hub_id
    'Qwen/Qwen3-4B-Instruct-2507'
    >>> find("Qwen/Qwen3-4B-Base").family      # known, but not listed by `entries`
    'base'
    """
    wanted = name.strip().lower()
    if not wanted:
        return None
    for entry in _all():
        if wanted in (entry.hub_id.lower(), entry.name.lower()):
            return entry
    key = _key(wanted)
    found = [entry for entry in (*entries(), *embedders()) if _key(entry.name) == key]
    return found[0] if key and len(found) == 1 else None


def unknown_name(name: str) -> ModelNotFoundError:
    """The error for a name that nothing answers to, with the nearest names that exist."""
    import difflib  # only for this error

    names = [entry.name for entry in (*entries(), *embedders())]
    words = _words(name.strip().lower())
    near = [known for known in names if words and words <= _words(known)]
    near += difflib.get_close_matches("-".join(_bare(name.lower())), names, n=3, cutoff=0.5)
    hint = " or ".join(repr(known) for known in dict.fromkeys(near[:4]))
    meant = f"did you mean {hint}? " if hint else ""
    return ModelNotFoundError(
        f"no model is called {name!r}: {meant}`qwen3-mlx models` lists the names; a folder or "
        "a hub id such as Qwen/Qwen3-4B works too"
    )


def total_params(config: ModelConfig) -> int:
    """Weights of the whole model.

    >>> total_params(find("0.6b").config)
    596049920
    """
    matrices, router, norms = _counts(config, config.experts)
    return matrices + router + norms


def active_params(config: ModelConfig) -> int:
    """Weights that one token uses: of the experts, only the chosen ones."""
    matrices, router, norms = _counts(config, config.top_k)
    return matrices + router + norms


def quantized_bytes(
    config: ModelConfig, bits: int | None = 4, group_size: int = 64, *, spend: float = 0.0
) -> int:
    """Bytes of the weights after `convert`; None for `bits` is bf16.

    A packed weight takes `bits` bits and, per group, a scale and a bias of 2 bytes each.
    The router stays at 8 bits in groups of 64, norms stay in bf16. Widths are taken to be
    multiples of the group, which holds for every released model. `spend` is the share of bytes
    that goes into more bits where they matter, as `convert --q4` has it.
    """
    matrices, router, norms = _counts(config, config.experts)
    if bits is None:
        return 2 * (matrices + router + norms)
    extra = extra_bytes(config, bits, group_size, spend) if spend else 0
    return _packed(matrices, bits, group_size) + _packed(router, 8, 64) + 2 * norms + extra


def format_bytes(size: float) -> str:
    """A size for people, in decimal units: 4_650_000_000 -> '4.7 GB'.

    >>> format_bytes(596_049_920), format_bytes(7_300), format_bytes(12)
    ('596 MB', '7 KB', '12 bytes')
    """
    if size >= 1e9:
        return f"{size / 1e9:,.1f} GB"
    if size >= 1e6:
        return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"
    return f"{size / 1e3:.0f} KB" if size >= 1e3 else f"{size:.0f} bytes"


def _packed(weights: int, bits: int, group_size: int) -> int:
    return weights * bits // 8 + weights // group_size * 4


def _counts(config: ModelConfig, experts: int) -> tuple[int, int, int]:
    """Weights in (matrices, routers, norms) when each MoE layer has this many experts."""
    hidden, channels = config.hidden_size, config.head_dim
    sparse = sum(config.is_moe(layer) for layer in range(config.layers))
    dense = config.layers - sparse
    attention = 2 * hidden * channels * (config.heads + config.kv_heads)  # q, o and k, v
    mlps = 3 * hidden * (dense * config.mlp_width + sparse * experts * config.expert_width)
    ends = config.vocab_size * hidden * (1 if config.tied else 2)
    norms = config.layers * 2 * (hidden + channels) + hidden
    return ends + config.layers * attention + mlps, sparse * config.experts * hidden, norms


def _bare(name: str) -> list[str]:
    """The words of a name without the ones that every name has: 'Qwen/Qwen3-4B' -> ['4b']."""
    words = re.split(r"[-_:\s]+", name.lower().removeprefix("qwen/"))
    return [word for word in words if word not in ("", "qwen", "qwen3")]


def _words(name: str) -> frozenset[str]:
    return frozenset(_bare(name))


def _key(name: str) -> frozenset[str]:
    """What tells two models apart: order, the 'a3b' and the coder's 'instruct' do not."""
    words = _words(name)
    idle = {"instruct"} if "coder" in words else set()
    return frozenset(word for word in words - idle if not re.fullmatch(r"a\d+b", word))


def _dense(hidden: int, width: int, layers: int, heads: int, tied: bool) -> ModelConfig:
    return ModelConfig(
        model_type="qwen3", hidden_size=hidden, layers=layers, heads=heads, kv_heads=8,
        head_dim=128, mlp_width=width, vocab_size=151_936, norm_eps=1e-6, rope_theta=1e6,
        max_positions=40_960, tied=tied,
    )  # fmt: skip


def _sparse(
    hidden: int, expert: int, layers: int, heads: int, kv_heads: int, experts: int = 128
) -> ModelConfig:
    # The width of a dense MLP is in these config.json files too, but no layer uses it.
    return ModelConfig(
        model_type="qwen3_moe", hidden_size=hidden, layers=layers, heads=heads,
        kv_heads=kv_heads, head_dim=128, mlp_width=3 * hidden, vocab_size=151_936,
        norm_eps=1e-6, rope_theta=1e6, max_positions=40_960, tied=False, experts=experts,
        top_k=8, expert_width=expert, normalise_top_k=True,
    )  # fmt: skip


def _long(config: ModelConfig, theta: float) -> ModelConfig:
    """The 2507 and Coder checkpoints: 262,144 positions, another base frequency."""
    return replace(config, rope_theta=theta, max_positions=262_144)


@cache
def _all() -> tuple[Entry, ...]:
    """Every known model. The architecture numbers are those of the hub's config.json files."""
    a3b = _sparse(2048, 768, 48, 32, 4)
    a22b = _sparse(4096, 1536, 94, 64, 4)
    sizes = {
        "0.6B": _dense(1024, 3072, 28, 16, tied=True),
        "1.7B": _dense(2048, 6144, 28, 16, tied=True),
        "4B": _dense(2560, 9728, 36, 32, tied=True),
        "8B": _dense(4096, 12288, 36, 32, tied=False),
        "14B": _dense(5120, 17408, 40, 40, tied=False),
        "32B": _dense(5120, 25600, 64, 64, tied=False),
        "30B-A3B": a3b,
        "235B-A22B": a22b,
    }
    longer = {
        "4B": _long(sizes["4B"], 5e6),
        "30B-A3B": _long(a3b, 1e7),
        "235B-A22B": _long(a22b, 5e6),
    }
    coders = {
        "Coder-30B-A3B": _long(a3b, 1e7),
        "Coder-480B-A35B": _long(_sparse(6144, 2560, 62, 96, 8, experts=160), 1e7),
    }
    # A decoder alone, over the older vocabulary; a tied head is one that takes no bytes.
    vectors = {
        "0.6B": replace(sizes["0.6B"], vocab_size=151_669, max_positions=32_768),
        "4B": replace(sizes["4B"], vocab_size=151_665),
        "8B": replace(sizes["8B"], vocab_size=151_665, tied=True),
    }
    base = ("0.6B", "1.7B", "4B", "8B", "14B", "30B-A3B")  # 32B and 235B-A22B have none
    return (
        *_tiny(),
        *(_entry(size, "", "hybrid", config) for size, config in sizes.items()),
        *(_entry(size, "-Instruct-2507", "instruct", config) for size, config in longer.items()),
        *(_entry(size, "-Thinking-2507", "thinking", config) for size, config in longer.items()),
        *(
            Entry(size.lower(), f"Qwen/Qwen3-{size}-Instruct", "coder", config)
            for size, config in coders.items()
        ),
        *(
            _entry(size, "-Base", "base", replace(sizes[size], max_positions=32_768))
            for size in base
        ),
        *(
            Entry(f"embedding-{size.lower()}", f"Qwen/Qwen3-Embedding-{size}", "embedding", config)
            for size, config in vectors.items()
        ),
    )


def _entry(size: str, suffix: str, family: str, config: ModelConfig) -> Entry:
    return Entry((size + suffix).lower(), f"Qwen/Qwen3-{size}{suffix}", family, config)


def _tiny() -> tuple[Entry, ...]:
    """The embedded model; its numbers come from its own config.json."""
    path = _TINY / "config.json"
    if not path.exists():
        return ()
    return (Entry("tiny", "", "hybrid", ModelConfig.from_dict(read_json(path))),)
