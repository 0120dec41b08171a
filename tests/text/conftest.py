from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_tokenizer import write_small_tokenizer

from qwen3_mlx.text.tokenizer import Tokenizer

SHARED = Path(__file__).parents[2].parent / "shared" / "qwen3"
WITHOUT = "the official tokenizer and templates are not in ../shared/qwen3"


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_tokenizer(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def small(small_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(small_folder, vocab_size=600)


@pytest.fixture(scope="session")
def official_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    packed = SHARED / "tokenizer.json.gz"
    if not packed.is_file():
        pytest.skip(WITHOUT)
    folder = tmp_path_factory.mktemp("official")
    with gzip.open(packed) as source, (folder / "tokenizer.json").open("wb") as target:
        shutil.copyfileobj(source, target)
    shutil.copy(SHARED / "tokenizer_config.json", folder)
    return folder


@pytest.fixture(scope="session")
def official(official_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(official_folder, vocab_size=151_936)


@pytest.fixture(scope="session", params=["small", "official"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Each test with this runs on the small tokenizer and, where present, on the official."""
    chosen: Tokenizer = request.getfixturevalue(request.param)
    return chosen


Oracle = Callable[..., Any]


@pytest.fixture(scope="session")
def oracle(small_folder: Path) -> Oracle:
    """Transformers' `apply_chat_template`, as text, for any template source."""
    transformers = pytest.importorskip("transformers")
    reference = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(small_folder / "tokenizer.json"),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )

    def render(source: str, messages: list[dict[str, Any]], **options: Any) -> str:
        text: str = reference.apply_chat_template(
            messages, chat_template=source, tokenize=False, **options
        )
        return text

    return render
