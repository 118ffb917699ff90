"""A second runtime, as a newcomer would write it: numpy evaluates the half-space, on a thread of its own.

It knows the port and nothing else of the server: two submissions are in flight, and every law is drawn by its own `sample`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tests.half_space import CUT, LABELS

DESCRIPTION = "numpy, a second runtime"


class NumpyRuntime:
    """The half-space of `tests.half_space` behind `serving.runtimes.runtime.Runtime`."""

    description, ahead, multiplications = DESCRIPTION, 2, 8.0
    suspects = ()

    def __init__(self, bundle, provider, base_rows):
        self._shape = bundle.manifest.input.shape
        self._device = ThreadPoolExecutor(max_workers=1)

    def base(self, lattice):
        first = lattice[:, 0].astype(np.float32)
        logits = np.stack([CUT - first, first - CUT], axis=1) * np.float32(0.05)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)

    def noisy(self, draws):
        return self.submit(draws).result()

    def submit(self, draws):
        return self._device.submit(lambda: self._passes(self.drawn(draws)))

    def drawn(self, draws):
        rows = [each.law.sample(each.key, each.start, each.stop) for each in draws]
        return np.concatenate([np.empty((0, *self._shape), np.int32), *rows])

    def base_evidence(self, lattice):
        return {"probabilities": self.base(lattice)}

    def noisy_evidence(self, lattice):
        vote, score = self._passes(lattice)
        return {"vote": vote, "score": score}

    def close(self):
        self._device.shutdown()

    def _passes(self, rows):
        first = rows[:, 0]
        assert len(LABELS) == 2
        return (first > CUT).astype(np.int64), first.astype(np.float32)
