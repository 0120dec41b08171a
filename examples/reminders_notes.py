"""Turn a text into a reminder or a note of the Mac's own programs, after showing it.

    echo "Call Anna on Monday about the invoice" | python examples/reminders_notes.py reminder
    python examples/reminders_notes.py note -m 4b --do-it < meeting.txt

Without --do-it nothing is made: the command is printed. On a Mac: the first time, macOS asks
whether your terminal may control Reminders or Notes. The text reaches AppleScript as an
argument, never as code, so nothing in it can run.
"""

import argparse
import shlex
import subprocess
import sys

import qwen3_mlx

MAKE = {
    "reminder": 'tell application "Reminders" to make new reminder with properties '
    "{name:item 1 of argv, body:item 2 of argv}",
    "note": 'tell application "Notes" to make new note with properties '
    "{name:item 1 of argv, body:item 2 of argv}",
}

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("what", choices=MAKE)
parser.add_argument("--do-it", action="store_true", help="make it, instead of showing it")
parser.add_argument("-m", "--model", default="tiny")
args = parser.parse_args()

text = sys.stdin.read()
with qwen3_mlx.load(args.model) as model:
    prompt = f"Write a title of at most six words for this {args.what}:\n\n{text}"
    title = " ".join(model.ask(prompt, thinking=False, max_tokens=30, seed=1).text.split())

script = ("-e", "on run argv", "-e", MAKE[args.what], "-e", "end run")
command = ["osascript", *script, title or text[:40], text]
print(shlex.join(command))
if args.do_it:
    sys.exit(subprocess.run(command).returncode)
