"""What would be served, compared with the original on real inputs, in probabilities: they may differ by rounding alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from export.build.compose import Entrance
from export.build.grid import Grid
from export.inspection.inspect import Found
from export.inspection.outputs import OF_ONE, varies
from export.sources.source import Source, SourceError

TOLERANCE = 1e-5
"""The largest difference of a probability, or of an original number in 0 to 1, that is taken for rounding."""
COMPARED = 256
_TOGETHER = 32


def check_same(
    source: Source,
    found: Found,
    grid: Grid,
    entrance: Entrance,
    lattice: NDArray[np.int32],
    run: Callable[[NDArray[Any]], dict[str, Any]],
) -> None:
    """Raise `SourceError` unless the composed graph gives the original's own numbers on these inputs, and its labels."""
    compared = lattice[:COMPARED]
    numbers = []
    for start in range(0, len(compared), _TOGETHER):
        part = compared[start : start + _TOGETHER]
        numbers.append(_original(source, found, entrance.apply(grid.values(part))))
        wanted = probabilities(found, numbers[-1])
        served = run(part)
        _refuse(source.name, served["probabilities"], wanted, "the graph that would be served")
        _check_votes(source.name, found, served["vote"], wanted)
    check_varies(source.name, compared, np.concatenate(numbers), "samples")


def check_varies(name: str, rows: NDArray[np.int32], numbers: NDArray[Any], what: str) -> None:
    """Raise `SourceError` where inputs that differ all get the same numbers: a certificate of these would say nothing."""
    if (rows != rows[0]).any() and not varies(numbers):
        raise SourceError(
            f"{name} gives the same numbers for all {len(rows)} {what} that were tried, so that nothing of an input comes"
            " through: expected a trained network, and inputs in the units that it takes (see --mean and --std)"
        )


def check_expected(
    source: Source, found: Found, entrance: Entrance, samples: NDArray[Any], expected: NDArray[Any]
) -> None:
    """Raise `SourceError` unless the model gives, on samples, what its owner says that the original gives."""
    if len(expected) != len(samples):
        raise SourceError(f"--expected has {len(expected)} rows and --samples {len(samples)}; give one row for each")
    given = expected.reshape(len(expected), -1).astype(np.float64)
    if given.shape[1] not in (found.output.size, found.output.labels):
        raise SourceError(
            f"--expected has {given.shape[1]} numbers a row, and {source.name} gives {found.output.size}; give the"
            " original's own outputs"
        )
    for start in range(0, len(samples), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        own = probabilities(found, _original(source, found, entrance.apply(samples[part].astype(np.float64))))
        wanted = _meant(found, given[part], own)
        _refuse(source.name, own, wanted, f"{source.name}")


def probabilities(found: Found, numbers: NDArray[Any]) -> NDArray[np.float64]:
    """What the original's own numbers say, one column a label; those that are no probabilities as they are."""
    flat = np.asarray(numbers).reshape(len(numbers), -1).astype(np.float64)
    if found.output.kind == "logits":
        flat = np.concatenate([0 * flat, flat], axis=1) if flat.shape[1] == 1 else flat
        with np.errstate(invalid="ignore"):
            powers = np.exp(flat - flat.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    return np.concatenate([1 - flat, flat], axis=1) if flat.shape[1] == 1 else flat


def _meant(found: Found, given: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
    """Owners give logits or probabilities: rows that lie in 0 to 1 and sum to one are taken for what they are."""
    sums_to_one = bool(np.all(given >= 0) and np.all(np.abs(given.sum(axis=1) - 1) <= OF_ONE))
    return given if sums_to_one and given.shape == own.shape else probabilities(found, given)


def _original(source: Source, found: Found, values: NDArray[np.float64]) -> NDArray[Any]:
    typed = values.astype(helper.tensor_dtype_to_np_dtype(found.given.kind))
    if source.reference is not None:
        return np.asarray(source.reference(typed)[found.output.name])
    return np.asarray(found.original(typed)[found.output.name])


def _refuse(name: str, served: NDArray[Any], wanted: NDArray[np.float64], what: str) -> None:
    if served.shape != wanted.shape:
        raise SourceError(
            f"{name}: {what} gives numbers of shape {list(served.shape)}, the original {list(wanted.shape)}"
        )
    scale = np.maximum(1.0, np.abs(wanted))
    off = np.abs(served.astype(np.float64) - wanted) / scale
    both_lost = ~np.isfinite(served) & ~np.isfinite(wanted)
    off = np.where(both_lost, 0.0, np.where(np.isfinite(off), off, np.inf))
    worst = float(off.max(initial=0))
    if worst > TOLERANCE:
        row = int(np.argmax(off.max(axis=1)))
        raise SourceError(
            f"{name}: {what} differs from the original by {worst:.2g} on sample {row}, more than {TOLERANCE:g}: it was"
            " exported in training mode, with another activation, or with operators that compute otherwise, as those of half"
            " precision do; put the original into evaluation mode (eval()) and floats of 32 bits, and export it again"
        )


def _check_votes(name: str, found: Found, votes: NDArray[Any], wanted: NDArray[np.float64]) -> None:
    """But at ties, and where the original gives what is not finite."""
    scale = max(1.0, float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0)))
    for row, vote in enumerate(votes):
        if not np.isfinite(wanted[row]).all():
            continue
        if vote >= found.output.labels or wanted[row, vote] < wanted[row].max() - 2 * TOLERANCE * scale:
            raise SourceError(
                f"{name}: the graph that would be served votes for label {vote} on a sample where the original gives"
                f" label {int(wanted[row].argmax())}; report this, with the model"
            )
