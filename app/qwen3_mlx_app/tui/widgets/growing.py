"""Markdown lists that grow in place.

Textual updates a paragraph, a table or a code block at the end of a growing document in place,
but builds a list anew, with all its items, for every write: a long list would take a whole core
and make keys wait. Here the items before the last stay as they are; the last one is brought up
to what it has become, block by block, and lists in lists likewise.
"""

from __future__ import annotations

from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Markdown
from textual.widgets.markdown import MarkdownBlock, MarkdownFence

__all__ = ["GROWING_LISTS"]

_Paragraph = Markdown.BLOCKS["paragraph_open"]


def _growing(plain: type[MarkdownBlock]) -> type[MarkdownBlock]:
    """A kind of list, with an update in place."""

    class Growing(plain):  # type: ignore[valid-type, misc]
        async def _update_from_block(self, block: MarkdownBlock) -> None:
            if not await _grow_list(self, block):
                await super()._update_from_block(block)

    return Growing


#: What to put into `Markdown.BLOCKS`.
GROWING_LISTS = {
    name: _growing(Markdown.BLOCKS[name]) for name in ("bullet_list_open", "ordered_list_open")
}


async def _grow_list(known: Widget, new: MarkdownBlock) -> bool:
    """Bring a list up to what it has become; False where it must be built anew."""
    rows, items = list(known.children), list(new._blocks)
    if type(known) is not type(new) or not 0 < len(rows) <= len(items):
        return False
    if _digits(items, len(rows)) != _digits(items, len(items)):
        return False  # all numbers move to the right
    await _grow_item(rows[-1].query_one(Vertical), items[len(rows) - 1]._blocks)
    if len(items) > len(rows):
        await known.mount_all([*new.compose()][len(rows) :])
    return True


async def _grow_item(box: Widget, new: list[MarkdownBlock]) -> None:
    """Bring what an item holds up to what it has become."""
    known = list(box.children)
    if len(known) > len(new):
        await box.remove_children()
    elif known and not await _grow_block(known[-1], new[len(known) - 1]):
        await known.pop().remove()
    await box.mount_all(new[len(box.children) :])


async def _grow_block(known: Widget, new: MarkdownBlock) -> bool:
    if isinstance(known, tuple(GROWING_LISTS.values())):
        return await _grow_list(known, new)
    if isinstance(known, (_Paragraph, MarkdownFence)) and type(known) is type(new):
        await known._update_from_block(new)
        return True
    return False


def _digits(items: list[MarkdownBlock], count: int) -> int:
    """How many digits the last of the first `count` items' numbers has; 0 for bullets."""
    first = str(getattr(items[0], "bullet", ""))
    return len(str(int(first) + count - 1)) if first.isdecimal() else 0
