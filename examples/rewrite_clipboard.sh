#!/bin/bash
# Rewrite what is on the clipboard, and put it back there.
#
#     examples/rewrite_clipboard.sh "Make this text shorter:"
#
# On a Mac: in Shortcuts, a new shortcut with "Run Shell Script" and this file's path; give it a
# key in its details. Copy a text, press the key, paste. QWEN3_MLX_MODEL names the model.
set -euo pipefail
export PATH="$PATH:${HOME:-}/.local/bin:/opt/homebrew/bin:/usr/local/bin" # Shortcuts' is bare
instruction=${1:-"Correct the spelling and grammar of this text, and change nothing else:"}
qwen3-mlx ask ${QWEN3_MLX_MODEL:+-m "$QWEN3_MLX_MODEL"} --no-think --paste --copy "$instruction"
