"""A bundle on labelled data, and on foreign ones, through whoever answers as a server does: records, then figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certify.smoothing.law import scale
from export.build import enough
from export.build.choose import rows_of
from export.build.lattice import LatticeRows, label_places, lattices, with_places
from export.build.outside import foreign_sets
from export.bundle import Manifest
from export.data import UNLABELLED, Dataset
from export.evaluation.figures import Attacked, Figures, figures
from export.evaluation.records import TEST, AnswerRows, EvaluationError, Record, Store, collect
from export.progress import ProgressBar, progress

ROWS = 32
"""In one question: enough to keep every thread of an engine at work."""
IN_SIGMAS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
"""The radii of the tables, where no others are asked for."""
FOREIGN_ROWS = 100
"""In each set that is made of the test rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureOptions:
    """What is measured. `confidence` is that of every band and interval; no `radii` means those of `IN_SIGMAS`."""

    confidence: float = 0.95
    radii: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1 or any(not radius >= 0 for radius in self.radii):
            raise EvaluationError(
                f"expected a confidence between 0 and 1 and radii from 0; got {self.confidence:g} and {list(self.radii)}"
            )


def evaluate(
    manifest: Manifest,
    test: Dataset,
    outside: Iterable[Dataset],
    answering: AnswerRows,
    store: Store,
    *,
    run: Mapping[str, object],
    wanted: FigureOptions | None = None,
    attacked: Attacked | None = None,
    quiet: bool = False,
) -> Figures:
    """Ask for every row of `test`, of foreign sets made of it, and of the user's own; not again for what the store holds.

    Foreign sets are asked for only where the bundle has a detector.
    """
    records = list(of_test(manifest, test, answering, store, quiet=quiet))
    if manifest.ood is not None:
        sets = foreign_rows(manifest, test, outside)
        for name, rows in sets.items():
            records += _collected(name, _in_parts(rows), len(rows), manifest, answering, store, quiet)
    return summary(manifest, records, run=run, wanted=wanted, attacked=attacked)


def of_test(
    manifest: Manifest,
    test: Dataset,
    answering: AnswerRows,
    store: Store,
    *,
    part: tuple[int, int] | None = None,
    quiet: bool = False,
) -> Iterator[Record]:
    """The records of the labelled rows, or of those from one number to another.

    Raises `DataError` for rows or labels that the bundle does not take.
    """
    places = label_places(test, manifest.labels)
    start, stop = part or (0, len(test))
    some = lattices(test.first(stop), manifest.input, ROWS, start)
    rows = ((lattice, with_places(labels, places)) for lattice, labels in some)
    return _collected(TEST, rows, stop - start, manifest, answering, store, quiet, start)


def foreign_rows(manifest: Manifest, test: Dataset, outside: Iterable[Dataset]) -> dict[str, LatticeRows]:
    """Foreign sets by name: those made of some test rows, and the first rows of the user's own."""
    sets = foreign_sets(rows_of(test, manifest.input, FOREIGN_ROWS), manifest.input, seed=0)
    for each in outside:
        if each.source in (TEST, *sets):
            raise EvaluationError(f"two foreign sets are called {each.source}; name each once")
        sets[each.source] = rows_of(each, manifest.input)
    return sets


def summary(
    manifest: Manifest,
    records: Sequence[Record],
    *,
    run: Mapping[str, object],
    wanted: FigureOptions | None = None,
    attacked: Attacked | None = None,
) -> Figures:
    """The figures of records, whoever gathered them."""
    wanted = wanted or FigureOptions()
    sigma, tested = scale(manifest.formulas), sum(each.of == TEST for each in records)
    return figures(
        records,
        manifest.labels,
        run=run,
        sigma=sigma,
        radii=wanted.radii or [sigma * each for each in IN_SIGMAS],
        confidence=wanted.confidence,
        target_tpr=manifest.ood.target_tpr if manifest.ood else None,
        attacked=attacked,
        warnings=enough.certified_accuracy(tested, wanted.confidence),
    )


def _in_parts(rows: LatticeRows) -> Iterator[tuple[LatticeRows, NDArray[np.int64]]]:
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        yield part, np.full(len(part), UNLABELLED, dtype=np.int64)


def _collected(
    of: str,
    rows: Iterable[tuple[LatticeRows, NDArray[np.int64]]],
    total: int,
    manifest: Manifest,
    answering: AnswerRows,
    store: Store,
    quiet: bool,
    start: int = 0,
) -> Iterator[Record]:
    bar: ProgressBar[object] = progress(what=of, total=total, unit="row", quiet=quiet)
    with bar:
        for part in collect(of, rows, manifest.labels, answering, store, start):
            bar.update(len(part))
            yield from part
