"""The server on a Ray of our own, from the command line: started, watched and stopped, and nothing left behind.

This process holds no Ray. It starts the one that does (`ray_driver`), watches it and Ray's own two servers, and at the end
kills all that descends from it, whatever state that is in: by then every accepted request is answered. If this process is
killed itself, the driver does the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection

import psutil

from export.bundle import load_repository
from export.graphs import prepared
from serving import ports
from serving.config import Settings
from serving.deployments import family
from serving.deployments.first_answer import GoldenRow, sample
from serving.deployments.ray_driver import Failed, Finish, Order, Ready, Said
from serving.deployments.ray_environment import environment
from serving.scratch import private_folder

_DRIVER = "from serving.deployments.ray_driver import main; main()"
_LOOK_EVERY_S = 0.25
_SLACK_S = 15.0
_SERVERS = {"gcs_server": "Ray's GCS", "raylet": "Ray's raylet"}


class Ended(RuntimeError):
    """A process without which nothing is served has ended."""


@asynccontextmanager
async def running(
    settings: Settings, say: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Sequence[GoldenRow]]:
    """Serve on a Ray of our own while the context is open; every process that it started is gone afterwards.

    It gives a sample of each model. The body is left by `Ended` when Ray breaks down meanwhile. The bundles are read here
    first, and their graphs followed, so that a broken one stops the start by name. Raises `PortError` where a port cannot be
    had, `RuntimeError` where Ray or a replica does not start.
    """
    say(f"reading the bundles in {settings.models}")
    bundles = await asyncio.to_thread(load_repository, settings.models)
    for bundle in bundles:
        await asyncio.to_thread(prepared.check, bundle)
    samples = [sample(bundle) for bundle in bundles]
    family.adopt_orphans()
    say("starting Ray (some seconds)")
    # The gateways come and go: without this another server could take a port of theirs meanwhile, or share it.
    with (
        ports.kept(settings.host, ports.http_port(settings)),
        ports.kept(settings.host, ports.grpc_port(settings)),
        private_folder() as folder,
    ):
        try:
            driver = _Driver(Order(settings, folder))
            async with driver.watched():
                await driver.ready(say)
                yield samples
                say("stopping: requests in flight are answered first")
                await driver.finish(settings.limits.max_deadline_ms / 1000 + _SLACK_S, say)
        finally:
            family.end()


class _Driver:
    """The process that runs Ray, from outside. To be made on the loop that awaits it."""

    def __init__(self, order: Order) -> None:
        ours, theirs = socket.socketpair()
        self._heard: asyncio.Queue[object] = asyncio.Queue()
        with theirs:
            self._process = psutil.Popen(
                [sys.executable, "-P", "-c", _DRIVER, str(theirs.fileno())],
                env=environment(order.folder),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C at the terminal is for this process alone
            )
        self._link = Connection(ours.detach())
        self._link.send(order)
        threading.Thread(target=self._listen, args=(asyncio.get_running_loop(),), daemon=True).start()

    async def ready(self, say: Callable[[str], None]) -> None:
        """Returns when every model is proven. Raises `RuntimeError` with the reason where that fails."""
        while not isinstance(message := await self._heard.get(), Ready):
            if isinstance(message, Failed):
                raise RuntimeError(message.reason)
            if isinstance(message, Said):
                say(message.text)

    async def finish(self, seconds: float, say: Callable[[str], None]) -> None:
        """Have what was accepted answered; it is given some seconds."""
        self._link.send(Finish())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                message = await self._heard.get()
                if isinstance(message, Failed):
                    say(f"requests in flight may be lost: {message.reason}")

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Leaves its body by `Ended` as soon as the driver, or one of Ray's own servers, has ended."""
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch())
                yield
                watching.cancel()
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None

    async def _watch(self) -> None:
        needed: dict[psutil.Process, str] = {self._process: "the process that runs Ray"}
        while True:
            if len(needed) <= len(_SERVERS):
                needed |= {each: _SERVERS[name] for each, name in self._children() if name in _SERVERS}
            # Ray's servers first: the driver may end because one of them has.
            for process, name in reversed(needed.items()):
                if not family.alive(process):
                    raise Ended(f"{name} has ended, and the server with it; start it again")
            await asyncio.sleep(_LOOK_EVERY_S)

    def _children(self) -> list[tuple[psutil.Process, str]]:
        with contextlib.suppress(psutil.Error):
            return [(each, each.name()) for each in self._process.children()]
        return []

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(EOFError, OSError, RuntimeError):  # the last where the loop is closed
            while True:
                loop.call_soon_threadsafe(self._heard.put_nowait, self._link.recv())
