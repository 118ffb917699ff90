"""A runtime for tests of the engine that can be held, slowed and broken."""

from __future__ import annotations

import threading

from serving.runtimes.onnx_runtime import OnnxRuntime
from serving.runtimes.runtime import FinishedPasses, given
from tests.serving.handed_clock import HandedClock, until


class Wrapped:
    """A runtime around the real one that can be held, broken, and that remembers its batches.

    Each noisy batch `takes` seconds of its `clock`; `begun` and `predicted` count the batches of both kinds.
    """

    description, ahead = "wrapped", 1

    def __init__(self, bundle):
        self._real = OnnxRuntime(bundle)
        self.clock = HandedClock()
        self.go, self.go_base = threading.Event(), threading.Event()
        self.go.set()
        self.go_base.set()
        self.fail_noisy = self.fail_base = 0
        self.takes = 0.0
        self.spoil = lambda votes, scores: (votes, scores)
        self.batches = []
        self.begun = self.predicted = 0

    def hold(self):
        """Let no noisy batch end from now on until `go` is set."""
        self.go.clear()
        self.before = self.begun, self.predicted

    def base(self, lattice):
        assert self.go_base.wait(60)
        self.predicted += 1
        if self.fail_base:
            self.fail_base -= 1
            raise RuntimeError("device lost")
        return self._real.base(lattice)

    def submit(self, draws):
        return FinishedPasses.of(lambda: self.noisy(draws))

    def noisy(self, draws):
        return self.passes(self.drawn(draws))

    def drawn(self, draws):
        return self._real.drawn(draws)

    def passes(self, lattice):
        """Of the rows of a submission, without padding."""
        self.begun += 1
        assert self.go.wait(60)
        if self.takes:
            self.clock.advance(self.takes)
        self.batches.append(lattice)
        if self.fail_noisy:
            self.fail_noisy -= 1
            raise RuntimeError("device lost")
        return self.spoil(*self._real.noisy(given(lattice)))


async def held_in_draws(engine, runtime, requests=1):
    """Wait until so many requests of a row are in flight, held by `Wrapped.hold`: a worker is in a noisy batch, and all base
    predictions are there.
    """
    await until(
        lambda: (
            (engine.load().requests, engine.load().running) == (requests, 1)
            and runtime.begun > runtime.before[0]
            and runtime.predicted == runtime.before[1] + requests
        )
    )
