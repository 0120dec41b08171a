#!/bin/bash
# For "Run Shell Script" in Shortcuts: text in, answer out, errors as a notification.
#
#     echo "What is 12 + 30?" | examples/shortcut.sh
#     echo "Bonjour" | examples/shortcut.sh "Translate into English:"
#
# On a Mac: new shortcut; "Receive Text from Quick Actions"; "Run Shell Script" with Shell bash,
# Input "Shortcut Input", Pass Input "to stdin", and this file's path; then "Show Result".
# Shortcuts start with a bare PATH, so the script looks where pip and pipx put programs.
set -uo pipefail
export PATH="$PATH:${HOME:-}/.local/bin:/opt/homebrew/bin:/usr/local/bin"
errors=$(mktemp) && trap 'rm -f "$errors"' EXIT
if ! answer=$(qwen3-mlx ask ${QWEN3_MLX_MODEL:+-m "$QWEN3_MLX_MODEL"} --no-think "$@" 2>"$errors")
then
  if command -v osascript >/dev/null; then
    osascript -e 'on run argv' -e 'display notification (item 1 of argv) with title "Qwen3"' \
      -e 'end run' "$(cat "$errors")"
  fi
  cat "$errors" >&2
  exit 1
fi
printf '%s\n' "$answer"
