"""The parts of a transcript that the block cursor can stand on, and the text behind each."""

from __future__ import annotations

from dataclasses import dataclass

from textual.dom import DOMNode
from textual.widget import Widget

from qwen3_mlx_app.tui.attachments import folded
from qwen3_mlx_app.tui.text import clean
from qwen3_mlx_app.tui.widgets.turn import TurnView

__all__ = ["BLOCKS", "Block"]

#: In the order of the screen: a question, its thought, calls and answer, code and tables in it.
BLOCKS = "UserTurn, Thought, ToolLine, Answer, MarkdownFence, MarkdownTable"

_SUFFIXES = {
    "python": "py", "py": "py", "javascript": "js", "typescript": "ts", "bash": "sh", "sh": "sh",
    "shell": "sh", "c": "c", "cpp": "cpp", "c++": "cpp", "rust": "rs", "go": "go", "swift": "swift",
    "java": "java", "json": "json", "yaml": "yaml", "toml": "toml", "html": "html", "css": "css",
    "sql": "sql", "ruby": "rb", "kotlin": "kt", "xml": "xml",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """A block: the turn that it belongs to, its text, and the name that a file of it gets."""

    view: TurnView
    widget: Widget
    text: str
    file_name: str

    @classmethod
    def of(cls, widget: Widget) -> Block | None:
        """The block that a widget draws; None for a widget that was taken away meanwhile."""
        view = next((node for node in widget.ancestors if isinstance(node, TurnView)), None)
        if view is None:
            return None
        turn = view.turn
        match type(widget).__name__:
            case "UserTurn":
                return cls(view, widget, folded(turn.user)[0], "question.md")
            case "Thought":
                return cls(view, widget, turn.thought.strip(), "thought.md")
            case "ToolLine":
                return cls(view, widget, _text(widget), "tool.txt")
            case "MarkdownFence":
                if (formula := _formula(widget)) is not None:
                    return cls(view, widget, formula, "formula.tex")
                return cls(view, widget, str(getattr(widget, "code", "")), _code_name(widget))
            case "MarkdownTable":
                return cls(view, widget, str(getattr(widget, "source", "") or ""), "table.md")
            case _:
                return cls(view, widget, _text(widget).strip(), "answer.md")


def _code_name(widget: Widget) -> str:
    lexer = str(getattr(widget, "lexer", "") or "").lower()
    return f"code.{_SUFFIXES.get(lexer, 'txt')}"


def _formula(widget: Widget) -> str | None:
    """The LaTeX behind a block that shows a formula; None for code."""
    begin, end = getattr(widget, "source_range", (0, 0))
    answer = next((_text(node) for node in widget.ancestors if type(node).__name__ == "Answer"), "")
    lines = clean(answer).splitlines()[begin:end]
    source = "\n".join(lines).strip()
    return source if source.startswith(("$$", "\\[")) else None


def _text(widget: DOMNode) -> str:
    """What the model wrote, of a widget that keeps it."""
    return str(getattr(widget, "text", ""))
