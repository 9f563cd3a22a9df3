"""A tab of a real Chromium that is driven by its developer tools: files, keys, narrow windows."""

import asyncio
import base64
import itertools
import json
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.browser import CHROMIUM, QUIET


class Tab:
    """One tab.

    Args:
        socket: Of its developer tools.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, itertools.count(1)

    async def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = json.loads((await self._socket.receive(timeout=60)).data)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    async def value(self, script: str) -> Any:
        """Return what a JavaScript expression, or the promise that it is, becomes."""
        found = await self.do(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True,
            userGesture=True,
        )  # fmt: skip
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, script: str, seconds: float = 60) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + seconds
        while not await self.value(script):
            assert time.monotonic() < deadline, await self.value("document.body.innerText")
            await asyncio.sleep(0.05)

    async def look(self, width: int, scheme: str) -> None:
        """Set the width of the window in pixels, and the colour scheme."""
        await self.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
            mobile=width < 500,
        )  # fmt: skip
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.do("Emulation.setEmulatedMedia", features=[feature])

    async def choose(self, selector: str, *files: Path) -> None:
        """Choose files in an input."""
        document = await self.do("DOM.getDocument")
        node = await self.do(
            "DOM.querySelector", nodeId=document["root"]["nodeId"], selector=selector
        )
        await self.do("DOM.setFileInputFiles", files=[str(f) for f in files], **node)

    async def picture(self, out: Path) -> None:
        """Write a picture of the whole page, a PNG."""
        taken = await self.do("Page.captureScreenshot", captureBeyondViewport=True)
        out.write_bytes(base64.b64decode(taken["data"]))


@asynccontextmanager
async def tab(profile: Path, url: str) -> AsyncIterator[Tab]:
    """Open a tab, with an empty directory for the browser's own files."""
    assert CHROMIUM is not None
    options = [each for each in QUIET if "virtual-time" not in each and "dump-dom" not in each]
    browser = subprocess.Popen(
        [CHROMIUM, *options, f"--user-data-dir={profile}", "--remote-debugging-port=0",
         "--autoplay-policy=no-user-gesture-required", "--use-fake-device-for-media-stream",
         "--use-fake-ui-for-media-stream", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        ports = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not ports.exists() or "\n" not in ports.read_text():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        base = f"http://127.0.0.1:{ports.read_text().split()[0]}/json/list"
        pages = json.load(await asyncio.to_thread(urllib.request.urlopen, base, timeout=30))
        (address,) = [each["webSocketDebuggerUrl"] for each in pages if each["type"] == "page"]
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(address, max_msg_size=0) as socket,
        ):
            found = Tab(socket)
            await found.do("Page.navigate", url=url)
            yield found
    finally:
        browser.kill()
        browser.wait()
