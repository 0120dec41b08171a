"""A report every night: what changed in your git repositories since yesterday, in a few words.

    python examples/nightly_report.py ~/code/* -m 4b -o ~/Desktop/report.md
    python examples/nightly_report.py ~/code/* -m 4b -o ~/Desktop/report.md --plist \
        > ~/Library/LaunchAgents/qwen3.report.plist
    launchctl bootstrap gui/$(id -u) ~/Library/LaunchAgents/qwen3.report.plist

launchd runs it at 23:30, or when the Mac wakes after that.
"""

import argparse
import plistlib
import subprocess
import sys
from pathlib import Path

import qwen3_mlx

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folders", nargs="+", type=Path)
parser.add_argument("-o", "--output", type=Path, default=Path("report.md"))
parser.add_argument("-m", "--model", default="tiny")
parser.add_argument("--plist", action="store_true", help="print the file for launchd")
args = parser.parse_args()

if args.plist:
    words = [str(each.absolute()) for each in args.folders]
    words += ["-o", str(args.output.absolute()), "-m", args.model]
    command = [sys.executable, str(Path(__file__).absolute()), *words]
    when = {"Hour": 23, "Minute": 30}
    job = {"Label": "qwen3.report", "ProgramArguments": command, "StartCalendarInterval": when}
    sys.stdout.write(plistlib.dumps(job).decode())
    sys.exit()

lines = ["# Today", ""]
with qwen3_mlx.load(args.model) as model:
    for folder in (each for each in args.folders if (each / ".git").exists()):
        git = ["git", "-C", str(folder), "log", "--since=yesterday", "--stat", "--oneline"]
        log = subprocess.run(git, capture_output=True, text=True).stdout[:6000]
        prompt = f"Say in two sentences what was done here:\n\n{log}"
        said = model.ask(prompt, thinking=False, max_tokens=120, seed=1).text if log else "Nothing."
        lines.append(f"- **{folder.name}**: {' '.join(said.split())}")
args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
