"""The whole way in a real browser: the page, the socket, a chat with tiny, nothing from outside.

QWEN3_MLX_PICTURE names a PNG to write of it.
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("textual_serve", reason="the web extra is not installed")

import chromium

PROGRAM = chromium.find()


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium or Chrome on this computer")
async def test_chatting_in_a_browser_asks_nobody_else(tmp_path: Path) -> None:
    assert PROGRAM is not None
    command = [sys.executable, "-u", "-m", "qwen3_mlx_app.cli", "chat", "--web", "-m", "tiny"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        assert server.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:\d+", line := server.stdout.readline())
        token = re.search(r"http://\S+", line)
        assert address is not None
        assert token is not None
        async with chromium.browser(PROGRAM) as page:
            await page.call("Page.navigate", url=token[0])
            await page.until("document.body && document.body.classList.contains('-first-byte')")
            rows = "document.querySelector('.xterm-rows')?.innerText ?? ''"
            if await page.value(rows):  # drawn as text: then it can be read
                await page.until(f"({rows}).includes('Qwen3')")
            await page.call("Input.dispatchMouseEvent", type="mousePressed", x=400, y=300,
                            button="left", clickCount=1)  # fmt: skip
            await page.call("Input.dispatchMouseEvent", type="mouseReleased", x=400, y=300,
                            button="left", clickCount=1)  # fmt: skip
            await page.value("document.querySelector('.xterm-helper-textarea')?.focus()")
            chats = tmp_path / "home" / "chats.db"
            try:
                async with asyncio.timeout(240):
                    while not answered(chats):
                        if not answered(chats, "finish IS NOT NULL"):  # keys may come too early
                            await page.type("12 + 30?")
                            await page.press("Enter", 13)
                        await asyncio.sleep(5)
            finally:
                if picture := os.environ.get("QWEN3_MLX_PICTURE"):
                    await page.picture(Path(picture))
            own = (address[0], address[0].replace("http", "ws"), "data:", "blob:", "about:")
            assert [url for url in page.requests if not url.startswith(own)] == []
            assert any(url.startswith("ws://") for url in page.requests)
            assert [text for text in page.refused if "Content Security Policy" in text] == []
    finally:
        server.terminate()
        server.communicate(timeout=60)


def answered(chats: Path, which: str = "finish = 'stop'") -> bool:
    """Whether a turn like that was stored."""
    if not chats.exists():
        return False
    with closing(sqlite3.connect(f"file:{chats}?mode=ro", uri=True)) as db:
        try:
            found = db.execute(f"SELECT count(*) FROM turns WHERE {which}").fetchone()[0]
        except sqlite3.OperationalError:  # its tables are being made
            return False
    return bool(found)
