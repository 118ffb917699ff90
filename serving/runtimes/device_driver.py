"""What a runtime needs of a GPU's driver: memory, streams, copies, launches, captured work, and one way to wait.

Nothing here knows what is computed. `cuda_driver` is the real one; the tests have one that runs everything on the host, and
later than it was asked for, as a device does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What results and compiled code may depend on."""

    name: str
    architecture: str  # as "sm_90"
    driver: str

    def __str__(self) -> str:
        return f"{self.name} ({self.architecture}, driver {self.driver})"


class Memory(Protocol):
    """Some bytes, freed when nobody holds them any more."""

    @property
    def address(self) -> int:
        """Where they begin, aligned to 256 bytes on the device."""
        ...


class HostMemory(Memory, Protocol):
    """Bytes of the host that a device can copy from and to while the host goes on."""

    @property
    def bytes(self) -> NDArray[np.uint8]:
        """The same bytes; not to be touched while a copy is under way."""
        ...


class Stream(Protocol):
    """A queue of the device: what is asked for on one stream happens in that order."""

    @property
    def handle(self) -> int:
        """The `CUstream`, for libraries that queue work of their own."""
        ...


class Driver(Protocol):
    """One device. Every method but `wait` returns before the work is done."""

    @property
    def facts(self) -> DeviceFacts:
        """Which device this is."""
        ...

    def enter(self) -> None:
        """Make the device the calling thread's; each thread does so before anything else."""
        ...

    def stream(self) -> Stream:
        """A new queue, independent of all others."""
        ...

    def on_device(self, size: int) -> Memory:
        """So many bytes of the device."""
        ...

    def on_host(self, size: int) -> HostMemory:
        """So many bytes of the host, locked in place."""
        ...

    def kernels(self, code: bytes, names: Sequence[str]) -> dict[str, Any]:
        """The kernels of these names in compiled code."""
        ...

    def copy(self, target: int, source: int, size: int, stream: Stream) -> None:
        """Bytes from one address to another, on whichever side either lies."""
        ...

    def launch(
        self, kernel: Any, grid: tuple[int, int], threads: int, arguments: Sequence[int | np.uint32], stream: Stream
    ) -> None:
        """A kernel; plain integers among the arguments are addresses."""
        ...

    def capture(self, work: Callable[[Stream], None]) -> Any:
        """What `work` asks for on the stream it is given, kept instead of done; addresses are kept as they are."""
        ...

    def replay(self, captured: Any, stream: Stream) -> None:
        """All of what was captured, by one call."""
        ...

    def after(self, stream: Stream, earlier: Stream) -> None:
        """What is asked for on `stream` from now on happens after all that was asked for on `earlier` until now."""
        ...

    def wait(self, stream: Stream) -> None:
        """Until all that was asked for on the stream is done. The one synchronisation there is."""
        ...
