"""`qwen3-mlx eval`."""
