#!/bin/bash
# A menu of prompts for the selected text, for the Services menu of every program.
#
#     echo "Some text" | examples/services_menu.sh            # asks which prompt
#     echo "Some text" | examples/services_menu.sh Shorter    # takes that one
#
# On a Mac: Automator, new Quick Action, "Workflow receives current text", tick "Output replaces
# selected text", "Run Shell Script" with bash, input to stdin, and this file's path. Then the
# Services menu has it, and System Settings → Keyboard → Services gives it a key.
set -euo pipefail
export PATH="$PATH:${HOME:-}/.local/bin:/opt/homebrew/bin:/usr/local/bin"
names=(Shorter Friendlier "Fix spelling" "To English" "As a list")
prompts=("Make this text shorter:" "Make this text friendlier:"
  "Correct the spelling of this text, and change nothing else:"
  "Translate this text into English:" "Write this text as a list of points:")
choice=${1:-$(osascript -e 'on run argv' -e 'choose from list argv with prompt "Qwen3"' \
  -e 'end run' "${names[@]}" </dev/null)}
for number in "${!names[@]}"; do
  if [ "${names[$number]}" = "$choice" ]; then
    exec qwen3-mlx ask ${QWEN3_MLX_MODEL:+-m "$QWEN3_MLX_MODEL"} --no-think "${prompts[$number]}"
  fi
done
exec cat # nothing was chosen: the text stays as it was
