"""`qwen3-mlx bench`: how fast a model runs on this machine, alone or beside mlx-lm."""
