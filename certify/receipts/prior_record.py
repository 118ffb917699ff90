"""The prior of a class's bounds as receipts have it: what the bundle foresees of an input from its base pass."""

from __future__ import annotations

from dataclasses import dataclass

from certify.bounds.prior import Prior


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorRecord:
    """See `certify.bounds.prior.Prior`."""

    atoms: tuple[float, ...]
    weights: tuple[float, ...]

    def prior(self) -> Prior:
        """The prior itself; `ValueError` if it is none."""
        return Prior(atoms=self.atoms, weights=self.weights)


def prior_record(prior: Prior | None) -> PriorRecord | None:
    """A prior as a receipt has it."""
    return None if prior is None else PriorRecord(atoms=prior.atoms, weights=prior.weights)
