"""`qwen3-mlx unpack`; what it does is in `pack_command`."""

from qwen3_mlx_app.pack_command import add_unpack_parser as add_parser

__all__ = ["add_parser"]
