"""Qwen3 in MLX: configuration, blocks, and loading of weights."""
