"""Text and token ids: tokenizer, chat template, thoughts. A leaf: no MLX, no files but the
tokenizer's and the template's."""
