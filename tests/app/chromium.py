"""A headless Chromium, driven over its own protocol: enough to open a page, type, and listen."""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"


def find() -> str | None:
    """The program, if there is one."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    return found or (MAC if Path(MAC).exists() else None)


class Page:
    """One page; `requests` are the addresses that it asked for, `refused` what was forbidden."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requests: list[str] = []
        self.refused: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A call of the protocol and its result."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        return await asyncio.wait_for(answer, 60)

    async def value(self, script: str) -> Any:
        """What an expression is in the page."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return result["result"].get("value")

    async def until(self, script: str, seconds: float = 120) -> None:
        """Wait until an expression is true."""
        async with asyncio.timeout(seconds):
            while not await self.value(script):
                await asyncio.sleep(0.2)

    async def press(self, key: str, code: int) -> None:
        """Press a key that is no letter."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text
            )

    async def type(self, text: str) -> None:
        """Type letters, one key press each."""
        for letter in text:
            await self.call("Input.dispatchKeyEvent", type="keyDown", text=letter, key=letter)
            await self.call("Input.dispatchKeyEvent", type="keyUp", key=letter)

    async def picture(self, path: Path) -> None:
        """A picture of the page as PNG."""
        result = await self.call("Page.captureScreenshot")
        path.write_bytes(base64.b64decode(result["data"]))

    async def _read(self) -> None:
        async for message in self._socket:
            event = message.json()
            if (number := event.get("id")) is not None:
                self._answers.pop(number).set_result(event.get("result", {}))
            elif event["method"] == "Network.requestWillBeSent":
                self.requests.append(event["params"]["request"]["url"])
            elif event["method"] == "Network.webSocketCreated":
                self.requests.append(event["params"]["url"])
            elif event["method"] == "Log.entryAdded":
                self.refused.append(event["params"]["entry"]["text"])


@asynccontextmanager
async def browser(program: str) -> AsyncIterator[Page]:
    """A browser with an empty profile and one page."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--remote-debugging-port=0", f"--user-data-dir={profile}", "--window-size=1100,700",
             "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            note = Path(profile) / "DevToolsActivePort"
            async with asyncio.timeout(120):
                while not (note.exists() and note.read_text().count("\n")):
                    await asyncio.sleep(0.1)
            port = note.read_text().split("\n")[0]
            async with ClientSession(f"http://127.0.0.1:{port}") as client:
                async with client.get("/json/list") as answer:
                    pages = await answer.json()
                target = next(page for page in pages if page["type"] == "page")
                async with client.ws_connect(
                    target["webSocketDebuggerUrl"], max_msg_size=1 << 26
                ) as socket:
                    page = Page(socket)
                    for domain in ("Page", "Network", "Runtime", "Log"):
                        await page.call(f"{domain}.enable")
                    yield page
        finally:
            process.kill()
            process.wait()
