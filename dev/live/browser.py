# SPDX-License-Identifier: Apache-2.0
"""A browser without a window, driven by the protocol of its own developer tools."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from dev.live.processes import Process, stop
from dev.live.rest import fetch_json

COMMANDS = ("chromium", "chromium-browser", "google-chrome")
#: How long the browser may take to start, and a page to show what is waited for.
TIMEOUT = 60.0
#: A narrower page is one of a phone.
PHONE = 500


def command() -> str:
    """Return the browser of this machine; FileNotFoundError says how to get one."""
    found = next(filter(None, map(shutil.which, COMMANDS)), None)
    if found is None:
        raise FileNotFoundError(
            f"No browser: none of {', '.join(COMMANDS)}. On Debian: apt-get install chromium"
        )
    return found


class Browser:
    """One page of it. ``width`` and ``height`` are in CSS pixels; ``scale`` makes a picture sharper."""

    def __init__(self, *, width: int = 1280, height: int = 800, scale: float = 1.0) -> None:
        self._size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < PHONE}
        self._count = 0

    def __enter__(self) -> Self:
        """Start it and open an empty page."""
        with ExitStack() as started:
            home = Path(started.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
            flags = (
                "--headless",
                "--remote-debugging-port=0",
                f"--user-data-dir={home}",
                "--hide-scrollbars",
            )
            sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()  # it refuses one to root
            process = Process("browser", (command(), *flags, *sandbox), os.environ, home / "log", cwd=home)
            started.callback(stop, [process])
            process.start()
            pages = fetch_json(f"http://127.0.0.1:{_port(process, home / 'DevToolsActivePort')}/json/list")
            address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            self._loop = started.enter_context(asyncio.Runner())
            self._loop.run(self._connect(address))
            started.callback(lambda: self._loop.run(self._session.close()))
            self._command("Emulation.setDeviceMetricsOverride", **self._size)
            self._started = started.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._started.close()

    async def _connect(self, address: str) -> None:
        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(address, max_msg_size=0)

    def _command(self, method: str, **parameters: Any) -> Any:
        return self._loop.run(self._send(method, parameters))

    async def _send(self, method: str, parameters: dict[str, Any]) -> Any:
        self._count += 1
        await self._socket.send_json({"id": self._count, "method": method, "params": parameters})
        while (reply := await self._socket.receive_json(timeout=TIMEOUT)).get("id") != self._count:
            pass  # what happens meanwhile on the page
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']['message']}")
        return reply["result"]

    def set_cookie(self, address: str, name: str, value: str) -> None:
        """Have a cookie sent to an address."""
        self._command("Network.setCookie", url=address, name=name, value=value)

    def open(self, url: str, *, showing: str) -> None:
        """Open a page, and wait until it shows a text."""
        self._command("Page.navigate", url=url)
        deadline = time.monotonic() + TIMEOUT
        while showing not in (text := str(self.evaluate("document.body ? document.body.innerText : ''"))):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url} does not show {showing!r}, but:\n{text[:1000]}")
            time.sleep(0.25)
        time.sleep(1.0)  # what moves comes to rest

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        found = self._command("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    def picture(self, path: Path) -> None:
        """Write what the page shows as a PNG."""
        taken = self._command("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(taken["data"]))


def _port(process: Process, file: Path) -> str:
    deadline = time.monotonic() + TIMEOUT
    while not (file.exists() and file.read_text(encoding="utf-8")):
        process.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"the browser does not start:\n{process.tail()}")
        time.sleep(0.1)
    return file.read_text(encoding="utf-8").splitlines()[0]
