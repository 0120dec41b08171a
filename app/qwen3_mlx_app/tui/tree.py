"""The tree of a chat's turns. One line through it is on show; the other branches are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen3_mlx_app.tui.state import Turn

__all__ = ["Tree"]


@dataclass(slots=True)
class Tree:
    """All turns in the order in which they were made, and the line on show.

    Turns with the same parent are siblings: other wordings of a question, other answers to it.
    """

    all: list[Turn] = field(default_factory=list)
    line: list[Turn] = field(default_factory=list)

    def add(self, turn: Turn) -> None:
        """Put a turn under the end of the line."""
        turn.parent = self.line[-1] if self.line else None
        self.all.append(turn)
        self.line.append(turn)

    def cut(self, turn: Turn) -> None:
        """End the line before this turn, so that the next one becomes its sibling."""
        del self.line[self.line.index(turn) :]

    def siblings(self, turn: Turn) -> list[Turn]:
        """The turn and the other versions of it, in the order in which they were made."""
        return [other for other in self.all if other.parent is turn.parent]

    def place(self, turn: Turn) -> tuple[int, int]:
        """Which of how many siblings, from 1: the `‹2/3›` of the screen."""
        siblings = self.siblings(turn)
        return siblings.index(turn) + 1, len(siblings)

    def flip(self, turn: Turn, step: int) -> Turn:
        """Show a sibling and what followed it last; the ends are walls. The turn now shown."""
        siblings = self.siblings(turn)
        at = min(max(0, siblings.index(turn) + step), len(siblings) - 1)
        if siblings[at] is not turn:
            self.show(self._newest_end(siblings[at]))
        return siblings[at]

    def show(self, leaf: Turn) -> None:
        """Make the line that ends with this turn the one on show."""
        line = []
        at: Turn | None = leaf
        while at is not None:
            line.append(at)
            at = at.parent
        self.line[:] = reversed(line)

    def clear(self) -> None:
        """An empty tree."""
        self.all.clear()
        self.line.clear()

    def _newest_end(self, turn: Turn) -> Turn:
        """Down from a turn along the newest children."""
        newest = {id(other.parent): other for other in self.all}  # later ones win
        while id(turn) in newest:
            turn = newest[id(turn)]
        return turn
