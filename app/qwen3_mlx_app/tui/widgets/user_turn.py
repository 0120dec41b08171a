"""What the person said, as it was typed."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from qwen3_mlx_app.tui.attachments import folded
from qwen3_mlx_app.tui.text import clean

__all__ = ["UserTurn"]


class UserTurn(Static):
    """A message with a coloured edge. It is shown as typed: no Markdown, no markup.

    `place` is which version of it this is, of how many; attached texts are shown as chips.
    """

    def __init__(self, text: str, place: tuple[int, int] = (1, 1)) -> None:
        said, attached = folded(text)
        content = Content(clean(said))
        for attachment in attached:
            content += Content.assemble("  ", (f" {attachment.label} ", "$secondary on $panel"))
        if place[1] > 1:
            content += Content.styled(f"  ‹{place[0]}/{place[1]}›", "$accent not bold")
        super().__init__(content)
