#!/bin/bash
# A commit message from the staged diff; git opens it in your editor before anything happens.
#
#     git config core.hooksPath .githooks && mkdir -p .githooks
#     cp examples/commit_message.sh .githooks/prepare-commit-msg
#
# As a git hook it gets the message file and the kind of commit. Without arguments it prints.
# The same on a Mac and elsewhere. QWEN3_MLX_MODEL names the model.
set -euo pipefail
export PATH="$PATH:${HOME:-}/.local/bin:/opt/homebrew/bin:/usr/local/bin" # a GUI's PATH is bare
file=${1:-} kind=${2:-}
[ -z "$kind" ] || exit 0 # a merge, a template or -m: there is a message already
diff=$(git diff --cached --stat --patch --unified=1)
[ -n "$diff" ] || exit 0
# The beginning of a long one, without what is no UTF-8.
diff=$(iconv -c -f UTF-8 -t UTF-8 <<<"${diff:0:6000}" || true)
message=$(qwen3-mlx ask ${QWEN3_MLX_MODEL:+-m "$QWEN3_MLX_MODEL"} --no-think --max-tokens 120 \
  "Write a git commit message for this diff: one line, at most 60 letters." <<<"$diff") ||
  exit $(($# == 0)) # no message is no reason to keep anybody from committing
[ -n "$file" ] || { printf '%s\n' "$message" && exit; }
rest=$(cat "$file")
printf '%s\n%s\n' "$message" "$rest" >"$file"
