"""One line for each text file of a folder, written to a Markdown index.

    python examples/summarise_folder.py ~/Documents/notes -m 4b

On a Mac: in Shortcuts, "Run Shell Script" with this line and the folder as input gives a
Finder quick action.
"""

import argparse
from pathlib import Path

import qwen3_mlx

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", type=Path)
parser.add_argument("-m", "--model", default="tiny")
parser.add_argument("-o", "--output", type=Path, help="default: FOLDER/INDEX.md")
args = parser.parse_args()

output = args.output or args.folder / "INDEX.md"
files = sorted(p for p in args.folder.iterdir() if p.suffix in {".txt", ".md"} and p != output)
lines = [f"# {args.folder.name}", ""]
with qwen3_mlx.load(args.model) as model:
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")[:4000]
        prompt = f"Say in one sentence what this text is about:\n\n{text}"
        reply = model.ask(prompt, thinking=False, max_tokens=80, seed=1)
        lines.append(f"- **{file.name}**: {' '.join(reply.text.split())}")
        print(lines[-1])
output.write_text("\n".join(lines) + "\n", encoding="utf-8")
print(f"wrote {output}")
