#!/bin/bash
# A commit message from the staged diff; git opens it in your editor before anything happens.
#
#     git config core.hooksPath .githooks
#     cp examples/commit_message.sh .githooks/prepare-commit-msg
#
# As a git hook it gets the message file and the kind of commit. Without arguments it prints.
# The same on a Mac and elsewhere. QWEN3_MLX_MODEL names the model.
set -euo pipefail
file=${1:-/dev/stdout} kind=${2:-}
[ -z "$kind" ] || exit 0 # a merge, a template or -m: there is a message already
diff=$(git diff --cached --stat --patch --unified=1 | head -c 12000)
[ -n "$diff" ] || exit 0
rest=$([ -f "$file" ] && cat "$file" || true)
message=$(qwen3-mlx ask ${QWEN3_MLX_MODEL:+-m "$QWEN3_MLX_MODEL"} --no-think --max-tokens 120 \
  "Write a git commit message for this diff: one line, at most 60 letters." <<<"$diff")
printf '%s\n%s\n' "$message" "$rest" >"$file"
