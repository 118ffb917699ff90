"""A real browser without a window, driven by Chrome's DevTools protocol over a websocket."""

from __future__ import annotations

import asyncio
import json
import shutil
import urllib.request
from contextlib import asynccontextmanager
from pathlib import Path

import websockets

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0")


def executable():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, "the test of the page drives a real browser: on Debian, apt-get install chromium"
    return found


class Tab:
    """One page. `complaints` is what the console and the network said was wrong."""

    def __init__(self, socket):
        self._socket = socket
        self._sent = 0
        self.complaints = []

    async def call(self, method, **parameters):
        self._sent += 1
        number = self._sent
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(await asyncio.wait_for(self._socket.recv(), 60))
            if message.get("id") == number:
                assert "error" not in message, (method, message)
                return message["result"]
            self._note(message)

    def _note(self, message):
        said = message.get("params", {})
        if message["method"] == "Runtime.exceptionThrown" or (
            message["method"] == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning")
        ):
            self.complaints.append(said)
        if message["method"] == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.complaints.append(said)

    async def value(self, expression):
        """What an expression is, once it has been awaited."""
        found = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, expression, seconds=60):
        """Wait until an expression is true; returns its value."""
        for _ in range(int(seconds / 0.05)):
            if found := await self.value(expression):
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"{expression} is not true after {seconds} s; {self.complaints}")


@asynccontextmanager
async def tab(folder: Path):
    """A tab of a browser whose profile is in `folder`."""
    process = await asyncio.create_subprocess_exec(
        executable(), *FLAGS, f"--user-data-dir={folder}", "about:blank", stderr=asyncio.subprocess.PIPE
    )
    try:
        port = await asyncio.wait_for(_port(process.stderr), 60)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=20) as answer:
            (address,) = [each["webSocketDebuggerUrl"] for each in json.load(answer) if each["type"] == "page"]
        async with websockets.connect(address, max_size=None) as socket:
            found = Tab(socket)
            for domain in ("Page", "Runtime", "Log", "Network"):
                await found.call(f"{domain}.enable")
            yield found
    finally:
        process.terminate()
        await process.wait()


async def _port(lines):
    async for line in lines:
        if b"DevTools listening on" in line:
            return line.rsplit(b":", 1)[1].split(b"/")[0].decode()
    raise AssertionError("the browser ended before it listened")
