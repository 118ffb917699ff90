"""A runtime for tests of the engine that can be held, slowed and broken."""

from __future__ import annotations

import threading
import time

from serving.runtimes.onnx_runtime import OnnxRuntime


class Wrapped:
    """A runtime around the real one that can be held, broken, and that remembers its batches."""

    description = "wrapped"

    def __init__(self, bundle):
        self._real = OnnxRuntime(bundle)
        self.go, self.go_base = threading.Event(), threading.Event()
        self.go.set()
        self.go_base.set()
        self.fail_noisy = self.fail_base = 0
        self.pause = 0.0
        self.spoil = lambda votes, scores: (votes, scores)
        self.batches = []

    def base(self, lattice):
        assert self.go_base.wait(20)
        if self.fail_base:
            self.fail_base -= 1
            raise RuntimeError("device lost")
        return self._real.base(lattice)

    def noisy(self, lattice):
        assert self.go.wait(20)
        time.sleep(self.pause)
        self.batches.append(lattice)
        if self.fail_noisy:
            self.fail_noisy -= 1
            raise RuntimeError("device lost")
        return self.spoil(*self._real.noisy(lattice))
