"""Every law that is served, by the name that bundles, answers and receipts give it. A new one is one line more."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from certify.smoothing.gaussian import NAME as GAUSSIAN
from certify.smoothing.gaussian import gaussian_of
from certify.smoothing.law import Guarantee

Rebuild = Callable[[Mapping[str, float | str], float], Guarantee]
"""From a law's parameters and its charge to its formulas; a `ValueError` says what of them was expected."""

__all__ = ["GAUSSIAN", "LAWS", "rebuilt"]

LAWS: dict[str, Rebuild] = {GAUSSIAN: gaussian_of}


def rebuilt(name: str, parameters: Mapping[str, float | str], charge: float) -> Guarantee:
    """The guarantee that these parameters describe. Raises `ValueError`."""
    if name not in LAWS:
        raise ValueError(f"law: expected one of {', '.join(LAWS)}, got {name[:80]!r}")
    return LAWS[name](parameters, charge)
