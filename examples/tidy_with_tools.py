"""Ask for something in words; the model calls tools, and each call waits for your yes.

    python examples/tidy_with_tools.py ~/Desktop "Move all screenshots into Screenshots" -m 4b
    python examples/tidy_with_tools.py ~/Desktop "What is in this folder?" -m 4b

Looking is allowed; whatever changes something is shown first, and "n" or a reason is told to the
model. Nothing outside the folder can be named, nothing is overwritten or deleted. On a Mac, the
first time, macOS asks whether your terminal may see Desktop, Documents or Downloads. To have
dialogs instead of the terminal: Shortcuts, "Run Shell Script", and in `approve` call
`osascript -e 'on run argv' -e 'display dialog item 1 of argv' -e 'end run' "the question"`,
whose exit status is 0 for OK. `tiny` is too small to use these tools well; 4b is not.
"""

import argparse
from pathlib import Path

import qwen3_mlx

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", type=Path)
parser.add_argument("wish")
parser.add_argument("-m", "--model", default="tiny")


def tools(folder):
    def list_files() -> list[str]:
        """List the names of the files in the folder."""
        return sorted(path.name for path in folder.iterdir() if path.is_file())

    def move_file(name: str, into: str) -> str:
        """Move a file into a folder inside this one.

        Args:
            name: the name of the file
            into: the name of the folder, made if it is not there
        """
        source, target = folder / Path(name).name, folder / into / Path(name).name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{into} is not inside the folder")
        if not source.is_file() or target.exists():
            raise ValueError(f"{name} is not there, or {into} has one")
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        return "moved"

    return [list_files, move_file]


def approve(call):
    if call.name == "list_files":
        return True
    told = input(f"{call.name} {dict(call.arguments)}? [y/n/why not] ")
    return True if told == "y" else "" if told == "n" else told


def main(model, folder, wish):
    run = model.chat(thinking=False).run(wish, tools=tools(folder), approve=approve, max_steps=20)
    print(run.reply.text, f"({len(run.results)} calls)")


if __name__ == "__main__":
    args = parser.parse_args()
    with qwen3_mlx.load(args.model) as model:
        main(model, args.folder.expanduser(), args.wish)
