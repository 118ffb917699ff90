"""Calibration: the scores of held-out inputs as they will be served, the threshold, and the golden outputs.

Everything goes through a callable that runs the exported graph: what is calibrated is what is served, not the network
that it came from.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from certify.ood.conformal import pac_threshold
from certify.smoothing.law import Law
from export.build.checkpoint import Checkpoint
from export.build.lattice import label_places, lattices, with_places
from export.build.passes import BaseRun, draw_rows, noisy_lattice, row_key
from export.bundle import Golden, InputSpec
from export.bundle.batches import NoisyRun
from export.bundle.tensors import LEAST_ROWS
from export.data import Dataset
from export.progress import ProgressBar, progress

SCORE_DRAWS: Final = 32
_PURPOSE = "calibration"
_ROWS = 64
_NEIGHBOURS = 32
_STEPS_DOWN = 8  # neighbours lie an eighth of the noise away


class CalibrationError(ValueError):
    """A model cannot be calibrated; the message says why."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Calibration:
    """Served scores of the held-out rows, in row order, the threshold, and how well single draws did on them.

    `misses`: of the draws of each row, how many were not for its most voted label, where they were counted.
    """

    scores: NDArray[np.float64]
    threshold: float
    accuracy: float
    misses: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


def key_of_row(row: int) -> bytes:
    """The key of the stream that held-out row `row` is calibrated on."""
    return row_key(_PURPOSE, row)


def calibrate(
    images: NDArray[np.integer],
    labels: NDArray[np.integer],
    law: Law,
    run: NoisyRun,
    *,
    target_tpr: float,
    eta: float,
    least_accuracy: float,
    quiet: bool = False,
) -> Calibration:
    """Score inputs [m, *shape] that neither training nor fit has seen; refuse a graph that does not do its task.

    The score of a row is the lower median of its first 32 noisy draws. With probability at least `1 - eta` over these
    rows and their noise, a fresh input of the same distribution exceeds the threshold with probability at most
    `1 - target_tpr`.
    """
    drawn = draw_rows(images, law, run, _PURPOSE, SCORE_DRAWS, quiet=quiet)
    accuracy = float(np.mean(drawn.votes == labels[:, None]))
    return _judged(drawn.median_scores(), accuracy, target_tpr, eta, least_accuracy)


def calibrate_on(
    dataset: Dataset,
    spec: InputSpec,
    labels: tuple[str, ...],
    law: Law,
    run: NoisyRun,
    *,
    target_tpr: float,
    eta: float,
    least_accuracy: float,
    checkpoint: Path | None = None,
    identity: str = "",
    quiet: bool = False,
) -> Calibration:
    """`calibrate` on a data set of any size: of each row its score is kept, nothing else.

    With a `checkpoint` it goes on where it was broken off; `identity` then says what `run` and `law` are, by a digest.
    """
    places = label_places(dataset, labels)
    kept = Checkpoint(checkpoint, f"calibrate and count {identity} {dataset.digest}" if checkpoint else "")
    found = kept.load() or {}
    scores, shares, misses = (list(found.get(name, np.empty(0))) for name in ("scores", "shares", "misses"))

    def all_kept() -> dict[str, NDArray[np.float64]]:
        return {"scores": np.array(scores), "shares": np.array(shares), "misses": np.array(misses, np.float64)}

    total = len(dataset)
    bar: ProgressBar[object] = progress(what="calibration", total=total, initial=len(scores), unit="row", quiet=quiet)
    with bar:
        for rows, each in lattices(dataset, spec, _ROWS, len(scores)):
            drawn = draw_rows(rows, law, run, _PURPOSE, SCORE_DRAWS, first=len(scores), quiet=True)
            right = drawn.votes == with_places(each, places)[:, None]
            scores.extend(drawn.median_scores())
            shares.extend(right.mean(axis=1))
            misses.extend(SCORE_DRAWS - drawn.counts(len(labels)).max(axis=1))
            kept.keep(all_kept())
            bar.update(len(rows))
    kept.keep(all_kept(), at_once=True)
    judged = _judged(np.array(scores, dtype=np.float64), float(np.mean(shares)), target_tpr, eta, least_accuracy)
    return replace(judged, misses=np.array(misses, dtype=np.int64))


def _judged(
    scores: NDArray[np.float64], accuracy: float, target_tpr: float, eta: float, least_accuracy: float
) -> Calibration:
    if accuracy < least_accuracy:
        raise CalibrationError(
            f"the noisy graph labels {accuracy:.1%} of the held-out draws correctly, expected at least"
            f" {least_accuracy:.1%}: wrong weights, wrong preprocessing or wrong labels"
        )
    if not np.isfinite(scores).all():
        raise CalibrationError(f"{int(np.sum(~np.isfinite(scores)))} calibration scores are not finite; check the head")
    return Calibration(scores=scores, threshold=pac_threshold(scores, 1 - target_tpr, eta), accuracy=accuracy)


def golden_outputs(
    images: NDArray[np.integer],
    law: Law,
    noisy: NoisyRun,
    base: BaseRun,
    *,
    rows: int = 16,
    plain: NoisyRun | None = None,
) -> Golden:
    """Inputs for which any correct runtime must give the same votes, with their outputs.

    Votes are compared exactly, so a row near a tie would fail on another processor for no fault: taken are noisy
    inputs whose vote stays when they are moved an eighth of the noise in 32 random directions. They take turns in
    their votes, so that no label is left out while there is room. `plain` gives the votes of `noisy` without their grades,
    where it has some: thresholds of confidence lie so far apart that no row is next to one but by a rare chance.
    """
    candidates = np.concatenate(
        [noisy_lattice(image, law, row_key("golden", row), 0, 1) for row, image in enumerate(images)]
    )
    plain = plain or noisy
    votes, _ = plain(candidates)
    steady = np.array([_steady(candidates[row], votes[row], law, plain, row) for row in range(len(candidates))])
    turn = np.array([int(np.sum(steady[:row] & (votes[:row] == votes[row]))) for row in range(len(votes))])
    chosen = [int(row) for row in np.lexsort((votes, turn)) if steady[row]][:rows]
    if len(chosen) < LEAST_ROWS:
        raise CalibrationError(
            f"{len(chosen)} of {len(candidates)} noisy inputs have a steady vote, expected {LEAST_ROWS} or more;"
            " check the network, or give more inputs"
        )
    votes, scores = noisy(candidates[chosen])
    clean = images[: len(chosen)].astype(np.int32)
    return Golden(
        base_input=clean, base_probabilities=base(clean), noisy_input=candidates[chosen], votes=votes, scores=scores
    )


def _steady(lattice: NDArray[np.int32], vote: np.int64, law: Law, run: NoisyRun, row: int) -> bool:
    moves = (law.at(lattice).sample(row_key("neighbours", row), 0, _NEIGHBOURS) - lattice) // _STEPS_DOWN
    votes, scores = run(lattice[None] + moves)
    return bool(np.all(votes == vote) and np.all(np.isfinite(scores)))
