"""A bundle and the runtime that runs it; what the runtime returns is looked at before anything of it is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from serving.engine.proven import Proven
from serving.runtimes.runtime import InFlight, Passes, Runtime
from serving.security.signing import Notary, Signer


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A bundle and what runs it, proven."""

    bundle: Bundle
    runtime: Runtime

    def proven(self, signer: Signer | None) -> Proven:
        """What the workload has to know of it; with a `signer` it gives receipts."""
        description = self.runtime.description
        return Proven(self.bundle, description, Notary(signer=signer, runtime=description) if signer else None)

    def probabilities(self, lattices: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Of each input, and in one column more its weight where the bundle declares that it depends on the input."""
        bundle = self.bundle
        rows = lattices[0][None] if len(lattices) == 1 else np.stack(lattices)
        mixture = bundle.manifest.mixture
        learnt = mixture is not None and mixture.declared is not None
        found = self.runtime.weighted(rows) if learnt else self.runtime.base(rows)
        if found.shape != (len(rows), len(bundle.manifest.labels) + learnt):
            raise ValueError(f"{bundle.key}: the base graph gave {found.shape} for {len(rows)} rows")
        return found

    def passes(self, results: InFlight, draws: int) -> Passes:
        """What a runtime returns for so many draws, if it is a vote and a score for each: absent ones would count as
        misses.
        """
        votes, scores = results.result()
        if votes.shape != (draws,) or scores.shape != (draws,) or votes.dtype.kind not in "iu":
            raise ValueError(
                f"{self.bundle.key}: the noisy graph gave {votes.dtype} {votes.shape}, {scores.shape} for {draws} draws"
            )
        return votes, scores
