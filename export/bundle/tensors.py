"""What the tensor files of a bundle have to hold: names, types, shapes, ranges, and what they have to prove together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from certify.bounds.anytime import MAX_DRAWS
from certify.ood.conformal import pac_threshold
from certify.ood.robust_alarm import AlarmTerms, threshold_of
from certify.ood.verdict import Detector
from certify.smoothing.law import Guarantee, Law
from certify.strict_json import shown
from export.bundle.claims_spec import AlarmSpec, OodSpec
from export.bundle.manifest import Manifest
from export.bundle.schema import BundleError

LEAST_ROWS = 2
"""Golden rows of either kind: one row alone cannot show that an answer does not depend on its mates."""
_OF_ONE = 1e-3
"""How far the golden probabilities of a row may sum from 1: far more than rounding, far less than another meaning."""
_FINITE = (np.finfo(np.float32).min, np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False, kw_only=True)
class Golden:
    """Inputs and outputs that every runtime reproduces before it serves: labels exactly, numbers to a tolerance."""

    base_input: NDArray[np.int32]
    base_probabilities: NDArray[np.float32]
    noisy_input: NDArray[np.int32]
    votes: NDArray[np.int64]
    scores: NDArray[np.float32]


_NARROW = (np.uint8, np.int16, np.int32)
"""Types in which golden inputs may be stored: the first that holds them, for they would else outweigh a small model."""

_GOLDEN: Mapping[str, type[np.generic]] = {
    "base_input": np.int32,
    "base_probabilities": np.float32,
    "noisy_input": np.int32,
    "votes": np.int64,
    "scores": np.float32,
}


def law(path: Path, data: bytes, manifest: Manifest) -> Law:
    """The declared law with the tables in `data`, proven to be those of its noise; raises `BundleError`."""
    tables = _tensors(path, data, manifest.law.TENSORS)
    try:
        return manifest.law.drawn(tables, manifest.input.grid)
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error


def golden(path: Path, data: bytes, manifest: Manifest, law: Law) -> Golden:
    """The golden inputs and outputs in `data`, of a model that the manifest declares, under its `law`; raises
    `BundleError`.
    """
    found = Golden(**_tensors(path, data, _GOLDEN, {"base_input", "noisy_input"}))
    _check_shapes(path, found, manifest)
    top = manifest.input.tops
    lowest, highest = law.span(0, manifest.input.top)
    ranges = {
        "base_input": (0, top),
        "noisy_input": (lowest, top + (highest - manifest.input.top)),
        "base_probabilities": (0, 1 + 1e-6) if manifest.base_output == "probabilities" else _FINITE,
        "votes": (0, manifest.last_vote),
        "scores": _FINITE,
    }
    for name, (low, high) in ranges.items():
        values = getattr(found, name)
        if not np.all((values >= low) & (values <= high)):
            raise BundleError(
                f"{path}: {name} must lie in {np.min(low):g} to {np.max(high):g}, and some do not (or are not numbers);"
                " export again"
            )
    sums = found.base_probabilities.sum(axis=1, dtype=np.float64)
    if manifest.base_output == "probabilities" and np.any(np.abs(sums - 1) > _OF_ONE):
        raise BundleError(f"{path}: the base_probabilities of a row must sum to 1, and some do not; export again")
    return found


def detector(path: Path, data: bytes, spec: OodSpec, law: Guarantee) -> Detector:
    """The calibrated detector that the manifest declares, with the scores in `data`; raises `BundleError`.

    The declared threshold must be exactly, to the last bit, the score that `pac_threshold` gives: it is one of the
    scores, and a lower one would flag more ordinary inputs than is claimed.
    """
    scores = _tensors(path, data, {"scores": np.float64})["scores"]
    if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
        raise BundleError(f"{path}: expected one vector of finite scores, at least one; calibrate again")
    if np.any(scores[1:] < scores[:-1]):
        raise BundleError(f"{path}: the scores are not sorted; export the bundle again")
    try:
        threshold = pac_threshold(scores, 1 - spec.target_tpr, spec.eta)
    except ValueError as error:
        raise BundleError(f"{path}: {error}; calibrate on more inputs, or declare less") from error
    if threshold != spec.threshold:
        raise BundleError(
            f"{path}: at target_tpr={spec.target_tpr:g} and eta={spec.eta:g} these scores give the threshold"
            f" {threshold!r}, and the manifest declares ood.threshold={spec.threshold!r}; export the bundle again"
        )
    try:
        alarm = None if spec.alarm is None else _alarm(scores, spec.alarm, spec.score_draws, law)
    except ValueError as error:
        raise BundleError(f"{path}: ood.alarm: {error}; calibrate on more inputs, or declare another alarm") from error
    return Detector(
        threshold=threshold, radius=spec.radius, score_draws=spec.score_draws, calibration=scores, alarm=alarm
    )


def _alarm(scores: NDArray[np.float64], spec: AlarmSpec, score_draws: int, law: Guarantee) -> AlarmTerms:
    """The declared alarm with its threshold; `ValueError` where it could never be raised."""
    threshold = threshold_of(scores, spec.far)
    levels = {"far": spec.far, "of_median": spec.of_median, "of_bound": spec.of_bound}
    terms = AlarmTerms(radius=spec.radius, threshold=threshold, **levels)
    if terms.rule(law, score_draws).least_above(MAX_DRAWS) is None:
        raise ValueError(f"no number of draws raises it within {spec.radius:g}")
    return terms


def stored(golden: Golden) -> dict[str, NDArray[Any]]:
    """The tensors of the file: inputs in the narrowest type that holds them."""
    found = {name: np.ascontiguousarray(value) for name, value in vars(golden).items()}
    return found | {name: _narrow(found[name]) for name in ("base_input", "noisy_input")}


def _narrow(values: NDArray[np.int32]) -> NDArray[Any]:
    kinds = (kind for kind in _NARROW if np.array_equal(values.astype(kind), values))
    return values.astype(next(kinds, np.int32))


def _tensors(
    path: Path, data: bytes, expected: Mapping[str, type[np.generic]], narrow: Collection[str] = ()
) -> dict[str, NDArray[Any]]:
    try:
        found: dict[str, NDArray[Any]] = load_tensors(data)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:  # the last: types numpy lacks
        raise BundleError(f"{path} holds no tensors that can be read ({error}); export the bundle again") from error
    for name in narrow:
        if name in found and found[name].dtype in _NARROW:
            found[name] = found[name].astype(np.int32)
    types = {name: tensor.dtype for name, tensor in found.items()}
    if types != {name: np.dtype(kind) for name, kind in expected.items()}:
        wanted = ", ".join(f"{name} {np.dtype(kind)}" for name, kind in expected.items())
        got = ", ".join(f"{shown(name)[1:-1]} {kind}" for name, kind in sorted(types.items())[:10])
        raise BundleError(f"{path}: expected the tensors {wanted}; got {got or 'none'}; export the bundle again")
    return found


def _check_shapes(path: Path, found: Golden, manifest: Manifest) -> None:
    shape, labels = manifest.input.shape, len(manifest.labels)
    base, noisy = (each.shape[0] if each.ndim else 0 for each in (found.base_input, found.votes))
    if min(base, noisy) < LEAST_ROWS:
        raise BundleError(
            f"{path}: expected {LEAST_ROWS} or more rows of base_input and of noisy_input, got {base} and {noisy};"
            " export the bundle again with more"
        )
    shapes = {
        "base_input": (base, *shape),
        "base_probabilities": (base, labels),
        "noisy_input": (noisy, *shape),
        "votes": (noisy,),
        "scores": (noisy,),
    }
    for name, expected in shapes.items():
        if getattr(found, name).shape != expected:
            raise BundleError(
                f"{path}: {name} has shape {getattr(found, name).shape}, expected {expected}; export again"
            )
