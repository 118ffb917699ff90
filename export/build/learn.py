"""What labelled data add to the bundle of a foreign model: a detector, fitted, chosen and calibrated, and a mixture.

Three sets that share no row: one to fit the scores on, one to choose among them by, and the held-out one of the threshold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certify.ood.scores import SCORES, Fitting, Scorer, fit_all
from certify.smoothing.law import Law
from export.build import enough, score_graph
from export.build.calibrate import Calibration, calibrate_on
from export.build.choose import MOST_ROWS, choose
from export.build.fit import Gathered, gather
from export.build.lattice import label_places, lattices, with_places
from export.build.passes import BATCH
from export.build.score_graph import Scorable
from export.bundle import InputSpec, UsedData
from export.bundle.batches import NoisyRun, in_batches
from export.data import Dataset
from export.sources.running import open_graph
from export.sources.source import SourceError

TARGET_TPR, ETA = 0.95, 0.01
ROBUST_WEIGHT = 0.9
"""Of the smoothed network in the mixture, as in the bundled model."""
_MOST_HELD_OUT = 5_000
_ENOUGH_TO_TELL = 5
"""Rows of a label, of which the most are voted another."""

DRAWN = (
    "the held-out rows were drawn from the data: the threshold holds only if the network was not trained on these; give"
    " --calibration with rows that it has not seen"
)

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """Sets without a row in common; `held_out`, `drawn` from the same data or not, takes no part in fit and choice.

    `outside` are foreign rows, by which scores are chosen beside those that are made.
    """

    fit: Dataset
    choice: Dataset
    held_out: Dataset
    drawn: bool
    outside: tuple[Dataset, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Learnt:
    """A detector: its score's name, the noisy graph with its head, its calibration, its data, and what is worth a note."""

    score: str
    graph: bytes
    calibration: Calibration
    data: tuple[UsedData, ...]
    notes: Mapping[str, str | int | float]


def parted(data: Dataset, held_out: Dataset | None, outside: tuple[Dataset, ...] = ()) -> Labelled:
    """The three sets, by a seeded draw of rows: a third of `data` is held out where nothing else is, a fifth chooses."""
    order = np.random.default_rng(0).permutation(len(data))
    taken = 0 if held_out is not None else min(len(data) // 3, _MOST_HELD_OUT)
    chosen = min(max(1, len(data) // 5), MOST_ROWS)
    sets = [order[:taken], order[taken : taken + chosen], order[taken + chosen :]]
    if not len(sets[2]) or (held_out is None and not taken):
        raise SourceError(f"{data.source} has {len(data)} rows; too few to fit and to calibrate on: give more")
    return Labelled(
        fit=data.only(np.sort(sets[2])),
        choice=data.only(np.sort(sets[1])),
        held_out=held_out if held_out is not None else data.only(np.sort(sets[0])),
        drawn=held_out is None,
        outside=outside,
    )


def warnings(data: Labelled) -> list[str]:
    """What the held-out rows fall short of. Raises `ValueError` where they give no threshold at all."""
    few = enough.calibration(len(data.held_out), TARGET_TPR, ETA)
    return [*([DRAWN] if data.drawn else []), *few]


def check_order(
    rows: Dataset, spec: InputSpec, labels: tuple[str, ...], run: Callable[[NDArray[Any]], dict[str, Any]]
) -> None:
    """Raise `SourceError` where labels stand in another order than the network's: rows of one are mostly voted another.

    That is, most rows of a first label are voted a second, most of the second a third, and so on, back to the first.
    """
    places = label_places(rows, labels)
    counts = np.zeros((len(labels), len(labels) + 1), dtype=np.int64)
    for lattice, truth in lattices(rows, spec, BATCH):
        np.add.at(counts, (with_places(truth, places), run(lattice)["vote"]), 1)
    seen = counts.sum(axis=1)
    mostly = np.where((seen >= _ENOUGH_TO_TELL) & (2 * counts.max(axis=1) > seen), counts.argmax(axis=1), len(labels))
    for first in range(len(labels)):
        way = [first]
        while (then := int(mostly[way[-1]])) < len(labels) and then not in way:
            way.append(then)
        if then == first and len(way) > 1:
            named = ", ".join(f"most rows of {labels[at]!r} for {labels[int(mostly[at])]!r}" for at in way[:5])
            raise SourceError(
                f"the network takes {named}: its labels are in another order; give them in the network's own with --labels"
            )


def learn(
    given: Scorable,
    data: Labelled,
    spec: InputSpec,
    labels: tuple[str, ...],
    law: Law,
    rows: int,
    *,
    score: str | None = None,
    work: Path | None = None,
    tell: Tell,
) -> Learnt:
    """Fit every score, or the one that is named; choose; calibrate the graph that will be served, `rows` at a time.

    In the folder `work` the walks over the data keep what they have, and go on where they were broken off.
    """
    _check_name(score)
    graph = score_graph.fitted_from(given)
    names = [score_graph.FEATURES, score_graph.LOGITS]
    run = open_graph(graph, "the graph of the features", names)

    def features_of(lattice: NDArray[np.int32]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        found = run(lattice)
        return found[names[0]], found[names[1]]

    known = _identity(graph, spec, law)
    kept = None if work is None else work / "fit.safetensors"
    gathered = gather(data.fit, spec, labels, law, features_of, checkpoint=kept, identity=known)
    for line in enough.fit(gathered.plain.counts.astype(int).tolist(), labels, given.size):
        tell(f"warning: {line}")
    scorers = _fitted(gathered, score)
    name = score or _chosen(scorers, data, spec, law, features_of, tell)
    graph = score_graph.noisy(given, name, scorers[name])
    kept = None if work is None else work / "calibration.safetensors"
    calibration = calibrate_on(
        data.held_out,
        spec,
        labels,
        law,
        in_batches(noisy_run(open_graph(graph, "the noisy graph")), rows),
        target_tpr=TARGET_TPR,
        eta=ETA,
        least_accuracy=1 / len(labels),
        checkpoint=kept,
        identity=_identity(graph, spec, law),
    )
    tell(f"right on {calibration.accuracy:.1%} of {len(data.held_out):,} held-out rows in one noisy pass")
    for line in enough.right(calibration.accuracy, len(data.held_out), len(labels)):
        tell(f"warning: {line}")
    return Learnt(
        score=name,
        graph=graph,
        calibration=calibration,
        data=_used(data),
        notes=_notes(given, data, calibration),
    )


def noisy_run(run: Callable[[NDArray[Any]], dict[str, Any]]) -> NoisyRun:
    """A graph as calibration and golden outputs call it; one without a score gives zeros for it."""

    def noisy(lattice: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        found = run(lattice)
        return found["vote"], found.get("score", np.zeros(len(lattice), np.float32))

    return noisy


def _check_name(score: str | None) -> None:
    if score is not None and score not in SCORES:
        raise SourceError(f"--score: expected one of {', '.join(SCORES)}; got {score!r}")


def _fitted(gathered: Gathered, score: str | None) -> Mapping[str, Scorer]:
    fitting = Fitting(plain=gathered.plain, units=gathered.units, some=gathered.sample)
    if score is None:
        return fit_all(fitting)
    scorer = SCORES[score](fitting)
    if scorer is None:
        raise SourceError(
            f"--score: {score} cannot be fitted to these data and this network; leave it out, or say another"
        )
    return {score: scorer}


def _chosen(
    scorers: Mapping[str, Scorer],
    data: Labelled,
    spec: InputSpec,
    law: Law,
    features_of: Callable[[NDArray[np.int32]], tuple[NDArray[np.floating], NDArray[np.floating]]],
    tell: Tell,
) -> str:
    choice = choose(scorers, data.choice, spec, law, features_of, data.outside)
    tell(f"{choice.table()}\nscore: {choice.name}")
    return choice.name


def _used(data: Labelled) -> tuple[UsedData, ...]:
    sets = [("fit", data.fit), ("choice", data.choice), ("held out", data.held_out)]
    return tuple(used(*each) for each in [*sets, *(("outside", rows) for rows in data.outside)])


def used(purpose: str, rows: Dataset) -> UsedData:
    """What the bundle's provenance says of these rows."""
    return UsedData(purpose=purpose, source=rows.source, rows=len(rows), digest=rows.digest)


def _notes(given: Scorable, data: Labelled, calibration: Calibration) -> Mapping[str, str | int | float]:
    return {
        "features": given.taken or "the numbers that are voted by",
        "held_out_rows": "drawn from the data" if data.drawn else "given apart",
        "held_out_accuracy_of_one_draw": round(calibration.accuracy, 4),
    }


def _identity(graph: bytes, spec: InputSpec, law: Law) -> str:
    """What a walk over data depends on, besides them."""
    parameters = dict(law.at(np.zeros(spec.shape, np.int32)).guarantee.parameters)
    return hashlib.sha256(graph + spec.model_dump_json().encode() + repr(parameters).encode()).hexdigest()
