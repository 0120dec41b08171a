"""From a Hugging Face checkpoint to an MLX folder, quantised or not.

>>> from pathlib import Path
>>> from qwen3_mlx_convert import convert
>>> report = convert(Path("Qwen3-4B"), Path("Qwen3-4B-q4"), bits=4)    # doctest: +SKIP
"""

from qwen3_mlx_convert.pipeline import ConvertReport, convert
from qwen3_mlx_convert.progress import ConvertProgress

__all__ = ["ConvertProgress", "ConvertReport", "convert"]
