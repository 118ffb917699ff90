"""What was answered to each row, one line of JSON a row, kept in a file so that a run that was broken off goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.build.lattice import LatticeRows

TEST = "test"
"""The name of the set that has labels; every other set is of foreign inputs."""

AnswerRows = Callable[[LatticeRows], Sequence[Mapping[str, Any]]]
"""Grid inputs int32 [n, *shape] to `predictions` of the friendly route, one a row."""


class EvaluationError(ValueError):
    """Something cannot be evaluated as asked; the message says how to mend it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The answer to one row of a set. Labels are indices, -1 for none; radii are in the caller's units.

    `certified` and `mixed` are the labels that were certified, -1 where the answer abstained; `mixture` is the mixture's
    own label. `joint` is the class that is certified together with being in distribution; `joint_verdict` is None where the
    bundle declares no joint label. `confidence` and `mixture_confidence` are the largest probabilities. `score_lower` and
    `score_upper` bound the smoothed score within the bundle's radius, None where they are trivial. `sure` and
    `sure_at_input` are lower bounds of the mean confidence in the certified class, in its ball and at the input; None where
    none is claimed.
    """

    of: str
    row: int
    digest: str
    label: int
    base: int
    confidence: float | None = None
    certified: int = -1
    radius: float = 0.0
    mixture: int = -1
    mixed: int = -1
    mixture_confidence: float | None = None
    mixed_radius: float = 0.0
    score: float | None = None
    p_value: float | None = None
    flagged: bool | None = None
    verdict: str | None = None
    score_lower: float | None = None
    score_upper: float | None = None
    joint_verdict: str | None = None
    joint: int = -1
    joint_radius: float = 0.0
    sure: float | None = None
    sure_at_input: float | None = None
    draws: int = 0
    lost: int = 0


def digest(row: NDArray[np.int32]) -> str:
    """By which a row is known again."""
    return hashlib.sha256(np.ascontiguousarray(row, "<i4").tobytes()).hexdigest()[:32]


def record(
    answer: Mapping[str, Any], labels: Mapping[str, int], of: str, row: int, lattice: NDArray[np.int32], label: int
) -> Record:
    """From one `predictions[i]`. Raises `EvaluationError` for one that overload has cut short."""
    if answer.get("granted_draws") is not None:
        raise EvaluationError(
            f"row {row} of {of} was granted fewer draws than were asked for: whoever answers has too much to do; evaluate"
            " when it has not"
        )
    certificate, mixture, ood = (answer.get(part) or {} for part in ("certificate", "mixture", "ood"))
    inside, joint, sure = ood.get("certified") or {}, answer.get("joint") or {}, answer.get("confidence") or {}
    certified = labels.get(certificate.get("label") or "", -1)
    of_mixture = labels.get(mixture.get("label") or "", -1)
    return Record(
        of=of,
        row=row,
        digest=digest(lattice),
        label=label,
        base=int(answer["class_index"]),
        confidence=_largest(answer.get("probabilities")),
        certified=certified,
        radius=float(certificate.get("radius") or 0.0),
        mixture=of_mixture,
        mixed=of_mixture if (mixture.get("radius") or 0.0) > 0 else -1,
        mixture_confidence=_largest(mixture.get("probabilities")),
        mixed_radius=float(mixture.get("radius") or 0.0),
        score=ood.get("score"),
        p_value=ood.get("p_value"),
        flagged=None if not ood else not ood["in_distribution"],
        verdict=inside.get("verdict"),
        score_lower=inside.get("score_lower"),
        score_upper=inside.get("score_upper"),
        joint_verdict=joint.get("verdict"),
        joint=labels.get(joint.get("label") or "", -1),
        joint_radius=float(joint.get("radius") or 0.0),
        sure=sure.get("lower"),
        sure_at_input=sure.get("lower_at_input"),
        draws=int(answer["draws"]),
        lost=int(answer["lost_draws"]),
    )


def _largest(probabilities: Sequence[float | None] | None) -> float | None:
    numbers = [each for each in probabilities or () if each is not None]
    return max(numbers) if numbers else None


class Store:
    """The records of one run. With a file, each is written when it is there, and read again by the next run.

    `run` says what the answers depend on: bundle, runtime, what was asked. A file of another run is refused.
    """

    def __init__(self, path: Path | None, run: Mapping[str, Any]) -> None:
        self._path = path
        self._found: dict[tuple[str, int], Record] = {}
        if path is None:
            return
        if path.exists():
            self._read(path, dict(run))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"run": run}) + "\n")

    def get(self, of: str, row: int, lattice: NDArray[np.int32]) -> Record | None:
        """The record of this very row, if it is there."""
        found = self._found.get((of, row))
        return found if found and found.digest == digest(lattice) else None

    def of(self, name: str) -> list[Record]:
        """The records of one set, in the order of its rows."""
        return sorted((each for each in self._found.values() if each.of == name), key=lambda each: each.row)

    def complete(self, name: str) -> int:
        """How many rows of a set are there without a gap, from the first on."""
        rows = {row for of, row in self._found if of == name}
        return next(row for row in range(len(rows) + 1) if row not in rows)

    def add(self, records: Iterable[Record]) -> None:
        """Keep these."""
        added = list(records)
        if self._path is not None:
            with self._path.open("a") as stream:
                stream.writelines(json.dumps(asdict(each)) + "\n" for each in added)
        self._found.update({(each.of, each.row): each for each in added})

    def _read(self, path: Path, run: dict[str, Any]) -> None:
        lines = path.read_text().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        try:
            head = json.loads(whole[0])["run"] if whole else run
            found = [Record(**json.loads(line)) for line in whole[1:]]
        except (ValueError, KeyError, TypeError) as error:
            raise EvaluationError(
                f"{path} holds no records of an evaluation ({error}); remove it, or name another"
            ) from error
        differ = [name for name in run.keys() | head.keys() if head.get(name) != json.loads(json.dumps(run.get(name)))]
        if differ:
            raise EvaluationError(
                f"{path} holds the records of another run: {', '.join(sorted(differ))} differ; remove it, or name another"
            )
        if len(whole) < len(lines) or not whole:  # the last line was broken off while it was written
            path.write_text("".join(whole) or json.dumps({"run": run}) + "\n")
        self._found = {(each.of, each.row): each for each in found}


def collect(
    of: str,
    rows: Iterable[tuple[LatticeRows, NDArray[np.int64]]],
    labels: Sequence[str],
    answering: AnswerRows,
    store: Store,
    start: int = 0,
) -> Iterator[list[Record]]:
    """The records of all rows, in order, as they come: from the store, or else from answers, which are kept there.

    `rows` are grid inputs with their labels, some at a time; `start` is the number of the first.
    """
    places = {name: index for index, name in enumerate(labels)}
    for lattice, truth in rows:
        known = [store.get(of, start + place, row) for place, row in enumerate(lattice)]
        missing = [place for place, each in enumerate(known) if each is None]
        answers = answering(lattice[missing]) if missing else []
        made = [
            record(answer, places, of, start + place, lattice[place], int(truth[place]))
            for place, answer in zip(missing, answers, strict=True)
        ]
        store.add(made)
        fresh = iter(made)
        yield [next(fresh) if each is None else each for each in known]
        start += len(lattice)
