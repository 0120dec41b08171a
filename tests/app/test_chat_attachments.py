"""What goes along with a message: names, pastes, and a message that is taken apart again."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from qwen3_mlx_app.tui import attachments, text
from qwen3_mlx_app.tui.attachments import (
    Attachment,
    attached,
    first_words,
    folded,
    read_file,
    taken_apart,
    with_attachments,
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("module", [attachments, text])
def test_the_examples_in_docstrings_run(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_an_at_sign_before_a_folder_or_no_name_at_all_is_only_text() -> None:
    Path("src").mkdir()
    assert attached(f"look into @src and @{'x' * 300} please") == []


def test_the_name_of_a_file_cannot_move_the_cursor_or_break_its_frame() -> None:
    Path('a\x1b[2J"\n\udcff.txt').write_text("one\r\ntwo\rthree")
    (name,) = (path.name for path in Path().iterdir())
    file = read_file(name)
    assert file == Attachment("a[2J' ?.txt", "one\ntwo\nthree")
    assert folded(with_attachments("see", [file])) == ("see", [file])


def test_a_file_that_holds_the_end_of_a_frame_stays_whole() -> None:
    file = Attachment("a.xml", "<x>\n</file>\n</file-2>\nmore")
    other = Attachment("b.txt", "plain")
    assert folded(with_attachments("see", [file, other])) == ("see", [file, other])


def test_a_file_that_is_gone_goes_along_as_it_was() -> None:
    Path("here.txt").write_text("new")
    files = [Attachment("here.txt", "old"), Attachment("gone.txt", "kept")]
    message = with_attachments("see @here.txt and @gone.txt", files)
    assert taken_apart(message) == ("see @here.txt and @gone.txt", files[1:])


def test_a_title_has_no_frames() -> None:
    files = [Attachment("a.txt", "text"), Attachment("b.txt", "text")]
    assert first_words(with_attachments("see\nthem", files), 60) == "see them"
    assert first_words(with_attachments("", files), 60) == "a.txt, b.txt"
