"""Files and long pastes that go along with a message.

`@notes.txt` in a message names a file. Its text is put after the message in a frame that the
model can tell from the question, and that the screen folds into a chip.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.text import clean, compact_count, one_line, typed, whole

__all__ = [
    "Attachment",
    "AttachmentError",
    "about_tokens",
    "attached",
    "first_words",
    "folded",
    "is_long_paste",
    "named_files",
    "read_file",
    "taken_apart",
    "with_attachments",
]

#: Half of the smallest Qwen3 context, in bytes of English: more is surely a mistake.
SIZE_LIMIT = 512 * 1024
_PASTE_LINES, _PASTE_CHARACTERS = 30, 3000

_NAMED = re.compile(r"(?<!\S)@(?:\"([^\"\n]+)\"|(\S*[^\s.,;:!?)]))")
_FRAME = re.compile(r"\n\n<(file(?:-\d+)?) name=\"([^\"\n]*)\">\n(.*?)\n</\1>", re.DOTALL)
_WIDE = r"[\u2e80-\uffff]"  # compiled when it is first used: it takes a while


class AttachmentError(Exception):
    """A file cannot go along; the text says why."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A text with a name."""

    name: str
    text: str

    @property
    def label(self) -> str:
        """`notes.txt ~1.2k tok`."""
        return f"{self.name} ~{compact_count(about_tokens(self.text))} tok"


def about_tokens(text: str) -> int:
    """Roughly how many tokens: four letters each, or two thirds of a Chinese character.

    >>> about_tokens("abcd" * 10), about_tokens("你好吗")
    (10, 2)
    """
    wide = len(re.findall(_WIDE, text))
    return round(wide / 1.5 + (len(text) - wide) / 4)


def named_files(message: str) -> list[str]:
    """The files that `@` names; an address such as a@b.c names none.

    >>> named_files('see @a.txt, @"my notes.md" and me@home.org')
    ['a.txt', 'my notes.md']
    """
    return [quoted or plain for quoted, plain in _NAMED.findall(message)]


def read_file(name: str) -> Attachment | None:
    """The file as text; None where there is no such file, since @ may be just a sign.

    Raises:
        AttachmentError: it is too big, no text, or cannot be read.
    """
    path = Path(os.path.expanduser(name))  # the name of nobody stays as it is
    try:
        if not path.exists() or path.is_dir():
            return None
        if not path.is_file():
            raise AttachmentError(t("{name} is no file", name=name))
        size = path.stat().st_size
        if size > SIZE_LIMIT:
            raise AttachmentError(
                t("{name} has {size:,} bytes, and {limit:,} may go along",
                  name=name, size=size, limit=SIZE_LIMIT)
            )  # fmt: skip
        data = path.read_bytes()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # surely no name
            return None
        reason = error.strerror or str(error)
        raise AttachmentError(
            t("{name} cannot be read: {reason}", name=name, reason=reason)
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AttachmentError(t("{name} is no text file", name=name)) from error
    if "\0" in text:
        raise AttachmentError(t("{name} is no text file", name=name))
    return Attachment(_shown_name(path.name), typed(text).strip("\n"))


def _shown_name(name: str) -> str:
    """A file's name as the screen and the frame can have it: a name may hold any byte but two."""
    return clean(whole(name)).replace("\n", " ").replace('"', "'")


def attached(message: str) -> list[Attachment]:
    """The files that a message names, read.

    Raises:
        AttachmentError: one of them cannot go along.
    """
    found = (read_file(name) for name in named_files(message))
    return [attachment for attachment in found if attachment is not None]


def missing_files(message: str) -> list[str]:
    """What `@` names like a file, and there is none: a slip, where a bare word may be just a sign.

    >>> missing_files("@nobody, look at @./no/such/notes.txt")
    ['./no/such/notes.txt']
    """
    named = (name for name in named_files(message) if set(name) & set("/. "))
    return [name for name in named if not os.path.exists(os.path.expanduser(name))]


def is_long_paste(text: str) -> bool:
    """Whether a paste would fill the composer, and had better be a chip."""
    return len(text) > _PASTE_CHARACTERS or text.count("\n") >= _PASTE_LINES


def with_attachments(message: str, attachments: list[Attachment]) -> str:
    r"""The message as the model gets it. A text that would end its frame gets another one.

    >>> with_attachments("", [Attachment("a", "x\n</file>")])
    '\n\n<file-2 name="a">\nx\n</file>\n</file-2>'
    """
    return message + "".join(map(_framed, attachments))


def _framed(attachment: Attachment) -> str:
    tag, number = "file", 2
    while f"\n</{tag}>" in f"\n{attachment.text}":
        tag, number = f"file-{number}", number + 1
    return f'\n\n<{tag} name="{attachment.name}">\n{attachment.text}\n</{tag}>'


def folded(message: str) -> tuple[str, list[Attachment]]:
    """The message without its frames, and what was in them.

    >>> folded(with_attachments("see", [Attachment("a.txt", "text")]))
    ('see', [Attachment(name='a.txt', text='text')])
    """
    found = [Attachment(name, text) for _, name, text in _FRAME.findall(message)]
    return (_FRAME.sub("", message), found) if found else (message, [])


def taken_apart(message: str) -> tuple[str, list[Attachment]]:
    """A message to write on at: its text, and what went along and cannot be read anew."""
    said, found = folded(message)
    again = {_shown_name(Path(name).name) for name in named_files(said) if _is_there(name)}
    return said, [attachment for attachment in found if attachment.name not in again]


def first_words(message: str, width: int) -> str:
    """A title for a chat that begins with this message.

    >>> first_words(with_attachments("", [Attachment("a.txt", "text")]), 20)
    'a.txt'
    """
    said, found = folded(message)
    return one_line(said, width) or one_line(", ".join(each.name for each in found), width)


def _is_there(name: str) -> bool:
    try:
        return read_file(name) is not None
    except AttachmentError:  # it says so itself when the message is sent
        return True
