"""What config.json says of RoPE, in both dialects and in their mixture."""

from __future__ import annotations

from typing import Any

import pytest
from checkpoints import base_config

from qwen3_mlx import CheckpointError, UnsupportedModelError
from qwen3_mlx.model.config import ModelConfig, YarnConfig

PLAIN = {"rope_type": "default", "rope_theta": 5e6}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
CARD = {"type": "yarn", "factor": 4, "original_max_position_embeddings": 32768}
STRETCHED = YarnConfig(4.0, 32768)


def read(**rope: Any) -> ModelConfig:
    keys = {key: value for key, value in base_config().items() if not key.startswith("rope_")}
    return ModelConfig.from_dict(keys | rope)


@pytest.mark.parametrize(
    ("rope", "theta", "yarn"),
    [
        ({}, 1e6, None),
        ({"rope_theta": 2e6, "rope_scaling": None}, 2e6, None),
        ({"rope_theta": 2e6, "rope_scaling": CARD}, 2e6, STRETCHED),
        ({"rope_parameters": PLAIN}, 5e6, None),
        ({"rope_parameters": YARN | {"rope_theta": 5e6}}, 5e6, STRETCHED),
        ({"rope_parameters": PLAIN, "rope_theta": 2e6}, 5e6, None),
        # What Transformers 5 saved, and YaRN as the model cards say to add it.
        ({"rope_parameters": PLAIN, "rope_scaling": CARD}, 5e6, STRETCHED),
        ({"rope_parameters": {"rope_type": "default"}, "rope_scaling": YARN | {"rope_theta": 3e6}},
         3e6, STRETCHED),
        ({"rope_parameters": YARN, "rope_scaling": {"rope_type": "default"}}, 1e6, STRETCHED),
        ({"rope_parameters": YARN, "rope_scaling": CARD}, 1e6, STRETCHED),
    ],
)  # fmt: skip
def test_scaling_is_found_in_either_block(
    rope: dict[str, Any], theta: float, yarn: YarnConfig | None
) -> None:
    config = read(**rope)
    assert (config.rope_theta, config.yarn) == (theta, yarn)


def test_blocks_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"YaRN twice.*4\.0.*2.*remove the wrong one") as said:
        read(rope_parameters=YARN, rope_scaling=CARD | {"factor": 2})
    assert "\n" not in str(said.value)
    with pytest.raises(UnsupportedModelError, match="'llama3'; Qwen3 uses 'yarn' or none"):
        read(rope_parameters=PLAIN, rope_scaling={"rope_type": "llama3", "factor": 8})
