"""What the engine needs of whatever runs the graphs of a bundle: ranges of draws in, votes and scores out.

The draws of an input are a pure function of its law, a key and an index. How they come to where the network runs (memory of
the host or of a device, padding, compiled noise) is the runtime's business, and nobody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Passes = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Vote (draws,) and OOD score (draws,) of each draw; the vote after the last class is "none", a NaN score is +inf.
Where the bundle claims confidence, votes have grades, see `certify.claims.confidence`: one integer all the same."""


class DrawSource(Protocol):
    """Where perturbed inputs come from: `certify.smoothing.law.LawAt`, or `GivenRows`."""

    def sample(self, key: bytes, start: int, stop: int) -> NDArray[np.int32]:
        """The perturbed inputs of the draws `[start, stop)` of the stream of `key`, (stop - start, *shape of the graph)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class DrawRange:
    """The draws `[start, stop)` of the stream of `key` (16 bytes), of a law that is bound to an input."""

    law: DrawSource
    key: bytes
    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise ValueError(f"expected draws, 0 <= start < stop; got {self.start} to {self.stop}")

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True, eq=False)
class GivenRows:
    """Inputs (rows, *shape) as they are, in the place of a law: what a proof or a replay passes through the network."""

    rows: NDArray[np.int32]

    def sample(self, key: bytes, start: int, stop: int) -> NDArray[np.int32]:
        """Those rows; there is nothing that the key decides."""
        return self.rows[start:stop]


def given(rows: NDArray[np.int32]) -> list[DrawRange]:
    """Draws that are these inputs (rows, *shape)."""
    return [DrawRange(GivenRows(rows), bytes(16), 0, len(rows))] if len(rows) else []


def passing(runtime: Runtime) -> Callable[[NDArray[np.int32]], Passes]:
    """The noisy graph as a function of any number of inputs (rows, *shape), in batches of the served shape."""
    return lambda rows: runtime.noisy(given(rows))


def portions(draws: Sequence[DrawRange], most: int) -> Iterator[list[DrawRange]]:
    """The same draws in the same order, `most` at a time; a range may be cut."""
    portion: list[DrawRange] = []
    room = most
    for each in draws:
        while len(each) > room:
            portion.append(replace(each, stop=each.start + room))
            each = replace(each, start=each.start + room)
            yield portion
            portion, room = [], most
        portion.append(each)
        room -= len(each)
        if not room:
            yield portion
            portion, room = [], most
    if portion:
        yield portion


class ProviderError(RuntimeError):
    """The configured execution provider cannot be used on this machine."""


class DeviceLost(ProviderError):
    """The device behind a runtime has failed, and nothing more will come of this runtime: another replica may answer."""


class InFlight(Protocol):
    """Draws that were submitted."""

    def result(self) -> Passes:
        """Their votes and scores, in their order; waits for them. Raises what went wrong, again if it is asked again."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FinishedPasses:
    """`InFlight` where nothing is left to wait for."""

    passes: Passes | None
    error: Exception | None = None

    @classmethod
    def of(cls, run: Callable[[], Passes]) -> FinishedPasses:
        """What came of a run, now."""
        try:
            return cls(run())
        except Exception as error:  # whose it is asks for it
            return cls(None, error)

    def result(self) -> Passes:
        """See `InFlight.result`."""
        if self.passes is None:
            raise self.error or RuntimeError("there are no results")
        return self.passes


class Runtime(Protocol):
    """Runs the two graphs of one bundle, in batches of fixed shapes. Safe to call from several threads.

    Results of a draw depend on that draw alone: not on its place in a batch, nor on the others, nor on how ranges are cut.
    """

    @property
    def description(self) -> str:
        """Runtime, version and device kind, for the metadata."""
        ...

    @property
    def ahead(self) -> int:
        """How many submissions a thread should keep in flight, so that the device has work while results are counted."""
        ...

    def base(self, lattice: NDArray[np.int32]) -> NDArray[np.float32]:
        """The accurate network's probabilities (rows, C) of any number of grid inputs (rows, *shape) without noise."""
        ...

    def weighted(self, lattice: NDArray[np.int32]) -> NDArray[np.float32]:
        """The same with one column more, the weight of the robust network at each input: for bundles that declare one."""
        ...

    def noisy(self, draws: Sequence[DrawRange]) -> Passes:
        """Votes and scores of any number of draws, one range after another, in batches of the served shape.

        This, `base` and what was submitted raise `DeviceLost` where the device is gone for good.
        """
        ...

    def submit(self, draws: Sequence[DrawRange]) -> InFlight:
        """Begin what `noisy` does. Results may be asked for in any order, by any thread."""
        ...

    def drawn(self, draws: Sequence[DrawRange]) -> NDArray[np.int32]:
        """What the noisy graph would be given for these draws, (draws, *shape): the proof compares it with the law."""
        ...

    @property
    def multiplications(self) -> float:
        """About how many one row takes, which says how large a proof may be."""
        ...

    @property
    def suspects(self) -> Sequence[str]:
        """Nodes, in words, that add up the numbers of a row, whose order a runtime may choose by slot."""
        ...

    def base_evidence(self, lattice: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        """The probabilities and the floats that decide anything in the graph, (rows, ...) each; of what serves."""
        ...

    def noisy_evidence(self, lattice: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        """Vote, score and the floats that decide anything in the graph, (rows, ...) each; of what serves."""
        ...

    def close(self) -> None:
        """Give back what the device holds for it. What is in flight ends first; nothing is asked of it afterwards."""
        ...
