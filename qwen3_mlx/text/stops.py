"""Stop strings, found across the borders of tokens."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["StopScanner", "overlap"]


class StopScanner:
    """Lets text through until one of the stop strings appears; that and the rest is dropped.

    The end of the text is held back while it may still become a stop string.

    >>> scanner = StopScanner(["\\nUser:"])
    >>> [scanner.push(piece) for piece in ("Fine.\\nUs", "ers: 3", "\\nUser: and you?")]
    ['Fine.', '\\nUsers: 3', '']
    >>> scanner.stopped
    True
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Take the next piece; what is surely before any stop string."""
        if self.stopped:
            return ""
        if not self._stops:
            return text
        text = self._held + text
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max(overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The end of the text: what was held back in vain."""
        held, self._held = self._held, ""
        return "" if self.stopped else held


def overlap(text: str, tag: str) -> int:
    """The length of the longest end of the text that begins the tag, and is not all of it.

    >>> overlap("2 + 2 </thi", "</think>")
    5
    """
    longest = min(len(text), len(tag) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(tag[:n])), 0)
