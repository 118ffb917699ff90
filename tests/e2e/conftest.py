"""The servers that several files ask. One on Ray takes most of half a minute to start."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.half_space import write_half_space
from tests.servers import ROOT, Address, Ending, command_line

NOWHERE = "http://127.0.0.1:9"
BODY_LIMIT = 1_000_000
ARGUMENTS = {
    "local": ["--local", "--max-body-bytes", str(BODY_LIMIT)],
    "one": ["--max-body-bytes", str(BODY_LIMIT)],
    "two": ["--engines", "2", "--threads", "1", "--max-draws", "3000000"],
}
"""By name: in one process, on Ray with one engine, and on Ray with two."""


class Shared:
    """Each is started when it is first asked for, and serves until the last test, or until one that ends it.

    The environment names proxies that lead nowhere, and a temporary folder with a long path.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._running = folder, dict[str, tuple[ExitStack, Ending, Address]]()
        self.half_space = folder / "half-space"
        """A folder of models that holds that one alone."""
        self.models = folder / "models"
        """A folder of models: the half-space, and the model of pictures that is in the repository."""
        write_half_space(self.half_space)
        write_half_space(self.models)
        shutil.copytree(ROOT / "models" / "fashion-mnist", self.models / "fashion-mnist")

    def running(self, name: str) -> Address:
        """The server of that name, for tests that leave it as it was."""
        if name not in self._running:
            stack, ending = ExitStack(), Ending()
            models = self.half_space if name == "two" else self.models
            place = self._folder / f"{name}-{len(list(self._folder.iterdir()))}" / ("x" * 40)
            place.mkdir(parents=True)
            given = command_line(
                *(models, *ARGUMENTS[name]),
                local=False,
                environment={**_proxies(), "no_proxy": "example.org", "TMPDIR": str(place)},
                ending=ending,
            )
            self._running[name] = stack, ending, stack.enter_context(given)
        return self._running[name][2]

    @contextmanager
    def ended(self, name: str, exit_code: int) -> Iterator[Address]:
        """The same for a test that ends it, with that exit code. Whoever asks for it later gets another."""
        address = self.running(name)
        stack, ending, _ = self._running.pop(name)
        ending.exit_code = exit_code
        with stack:
            yield address

    def close(self) -> None:
        with ExitStack() as all_of_them:
            for stack, _, _ in self._running.values():
                all_of_them.push(stack)


def _proxies() -> dict[str, str]:
    return {
        name: NOWHERE
        for each in ("http", "https", "all", "grpc")
        for name in (f"{each}_proxy", f"{each}_PROXY".upper())
    }


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    servers = Shared(tmp_path_factory.mktemp("shared"))
    yield servers
    servers.close()
