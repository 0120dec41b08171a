"""Answer files as they are dropped into a folder: NAME.txt gets NAME.answer.md beside it.

    python examples/watch_folder.py ~/Inbox -m 4b                    # once, for what is there
    python examples/watch_folder.py ~/Inbox -m 4b --plist > ~/Library/LaunchAgents/qwen3.inbox.plist
    launchctl bootstrap gui/$(id -u) ~/Library/LaunchAgents/qwen3.inbox.plist

launchd starts it when the folder changes (WatchPaths), so nothing runs in between; with
`qwen3-mlx agent install -m 4b` it answers at once. What has an answer is left alone.
"""

import argparse
import plistlib
import sys
from pathlib import Path

import qwen3_mlx

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", type=Path)
parser.add_argument("-m", "--model", default="tiny")
parser.add_argument("--plist", action="store_true", help="print the file for launchd")
args = parser.parse_args()
folder = args.folder.expanduser().absolute()

if args.plist:
    command = [sys.executable, str(Path(__file__).absolute()), str(folder), "-m", args.model]
    job = {"Label": "qwen3.inbox", "ProgramArguments": command, "WatchPaths": [str(folder)]}
    sys.stdout.write(plistlib.dumps(job).decode())
    sys.exit()

waiting = [p for p in sorted(folder.glob("*.txt")) if not p.with_suffix(".answer.md").exists()]
if waiting:
    with qwen3_mlx.load(args.model) as model:
        for file in waiting:
            text = file.read_text(encoding="utf-8", errors="replace")
            try:
                reply = model.ask(text, thinking=False, max_tokens=500, seed=1)
            except qwen3_mlx.PromptError as error:  # empty so far, or too long
                print(f"{file.name}: {error}", file=sys.stderr)
                continue
            file.with_suffix(".answer.md").write_text(f"{reply.text}\n", encoding="utf-8")
            print(f"{file.name}: {len(reply.text)} letters")
