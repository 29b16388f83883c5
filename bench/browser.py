"""A headless Chromium that benchmarks and tests look at pages with: started once, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium")
"""Where it is; None where it is not installed."""
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
]


class Browser:
    """One tab, which goes from page to page; a context manager."""

    def __init__(self, width: int = 1440, height: int = 1000) -> None:
        self._size = (width, height)
        self._number = 0
        self.problems: list[str] = []
        """Errors that pages raised, and requests that failed."""

    def __enter__(self) -> Browser:
        if CHROMIUM is None:
            raise FileNotFoundError("chromium is not installed")
        self._folder = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        width, height = self._size
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={self._folder.name}", f"--window-size={width},{height}"]
        self._process = subprocess.Popen(
            [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._loop = asyncio.new_event_loop()
        try:
            self._loop.run_until_complete(self._connect(Path(self._folder.name) / "DevToolsActivePort"))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if hasattr(self, "_session"):
            self._loop.run_until_complete(self._session.close())
        self._loop.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def look_as(self, width: int, scheme: str = "light") -> None:
        """Show what comes next on a screen of this width in pixels, a phone's below 500; in "light" or "dark"."""
        size = {"width": width, "height": self._size[1], "deviceScaleFactor": 1, "mobile": width < 500}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, address: str) -> None:
        """Go to an address, even where it differs from the present one behind the # alone."""
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=address)

    def wait_for(self, condition: str, timeout_s: float = 60) -> Any:
        """The value of a JavaScript expression, when it is true; raises `TimeoutError` that tells what is shown."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if value := self.evaluate(condition):
                return value
            self._loop.run_until_complete(asyncio.sleep(0.05))
        raise TimeoutError(f"{condition}\n{self.text()[:2000]}\n{self.problems}")

    def wait_for_text(self, *texts: str, timeout_s: float = 60) -> str:
        """The page's text, when it holds all of these; with one blank wherever lines or cells end.

        Where they end is the browser's and the page's affair, and changes with their versions.
        """
        shown = r"(document.body ? document.body.innerText : '').replace(/\s+/g, ' ')"
        condition = f"(t => {json.dumps(texts)}.every(each => t.includes(each)) && t)({shown})"
        return str(self.wait_for(condition, timeout_s))

    def text(self) -> str:
        """What the page says."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; None where it fails."""
        return self._call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def shot(self, path: Path) -> None:
        """Write what is seen as a PNG file."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._loop.run_until_complete(self._answer(method, parameters))

    async def _connect(self, port_file: Path) -> None:
        end = time.monotonic() + 60
        while not port_file.exists() or not port_file.read_text().strip():
            if self._process.poll() is not None or time.monotonic() > end:
                raise TimeoutError("chromium did not start")
            await asyncio.sleep(0.05)
        port = port_file.read_text().splitlines()[0]
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json") as answer:
            (tab,) = [one for one in await answer.json() if one["type"] == "page"]
        self._socket = await self._session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0)
        for domain in ("Page", "Runtime", "Network"):
            await self._answer(f"{domain}.enable", {})

    async def _answer(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        number = self._number
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json(timeout=60)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return dict(message["result"])
            self._hear(message)

    def _hear(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif event["method"] == "Network.responseReceived" and told["response"]["status"] >= 400:
            self.problems.append(f"{told['response']['status']} {told['response']['url']}")
