"""Sort a folder by what its text files are about; nothing moves before you say yes.

    python examples/sort_downloads.py ~/Downloads -m 4b
    python examples/sort_downloads.py ~/Downloads -m 4b --into Bills Letters Code --yes

On a Mac: in Shortcuts, make a quick action for Finder with "Run Shell Script", pass the
folder as arguments, and add --yes, since a quick action has nobody to ask. A warm agent
(`qwen3-mlx agent install -m 4b`) makes it begin at once.
"""

import argparse
from pathlib import Path

import qwen3_mlx

TEXTS = {".txt", ".md", ".csv", ".json", ".py", ".eml", ".html"}

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", type=Path)
parser.add_argument("--into", nargs="+", default=["Bills", "Letters", "Notes", "Code", "Other"])
parser.add_argument("--yes", action="store_true", help="do not ask")
parser.add_argument("-m", "--model", default="tiny")
args = parser.parse_args()

files = sorted(p for p in args.folder.iterdir() if p.is_file() and p.suffix.lower() in TEXTS)
moves = []
with qwen3_mlx.load(args.model) as model:
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")[:2000]
        prompt = f"File {file.name} begins:\n\n{text}\n\nWhere does it belong?"
        target = args.folder / model.choose(prompt, args.into, thinking=False, seed=1) / file.name
        moves.append((file, target))
        print(f"{file.name} → {target.parent.name}/")

if moves and (args.yes or input(f"Move {len(moves)} files? [y/N] ").lower() == "y"):
    for file, target in moves:
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            print(f"kept {file.name}: {target} is there already")
        else:
            file.rename(target)
