"""A bundle with its noisy graph in 8 bits, as a version of its own, and what each precision is worth.

What is quantised is another network: it votes otherwise now and then, and its scores are others. So its detector is
calibrated again, on rows that neither the network nor the scales have seen, and its certificates speak of it alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from certify.smoothing.law import scale
from export import data as data_sets
from export.build import enough, learn, score_graph, versions
from export.build.calibrate import Calibration, calibrate_on, golden_outputs
from export.build.lattice import lattices
from export.build.learn import noisy_run, used
from export.build.passes import noisy_lattice, row_key
from export.build.plan import to_stderr
from export.build.quantised import quantised
from export.build.served_pictures import decode_for
from export.build.versions import Faults
from export.bundle import Bundle, Golden, Manifest, load
from export.bundle.batches import NoisyRun, in_batches, without_grades
from export.data import Dataset
from export.evaluation import band
from export.evaluation.band import Between
from export.evaluation.sigma import worth
from export.sources.running import open_graph
from export.sources.source import SourceError

RANGE_ROWS = 256
"""Rows from which scales are taken, by one noisy draw of each."""
IN_SIGMAS = (0.0, 0.5, 1.0, 2.0)
"""The radii of the table."""
_GOLDEN, _HELD_OUT, _TOGETHER = 32, 5_000, 32
_TIMED_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionFigures:
    """Noisy passes a second on one thread, the share of votes that differ from those of floats, certified accuracy."""

    name: str
    draws_per_second: float
    flips: float
    certified: Sequence[Between]


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantized:
    """The new bundle, its folder, and the figures of each precision with their table."""

    bundle: Bundle
    folder: Path
    precisions: Sequence[PrecisionFigures]
    table: str


def quantize(
    bundle: str | Path,
    *,
    data: str | Path,
    calibration: str | Path | None = None,
    test: str | Path | None = None,
    label: str | None = None,
    version: int | None = None,
    rows: int = 100,
    draws: int = 250,
    faults: Faults | None = None,
    tell: Callable[[str], None] = to_stderr,
) -> Quantized:
    """Write the bundle in `bundle` with its noisy graph in 8 bits beside it, as `version`, by default the next.

    Scales come from `data`; a detector is calibrated again on `calibration`, or on a part of `data` where it is left out.
    `rows` of `test`, or of `data`, are measured with `draws` draws each. Raises `SourceError` and its like, and writes
    nothing then.
    """
    old, number = load(Path(bundle)), versions.free(Path(bundle), version)
    decode = decode_for(old.manifest.input)
    everything = data_sets.open(data, label=label, decode=decode)
    given = None if calibration is None else data_sets.open(calibration, label=label, decode=decode)
    ranges, held_out = _parted(everything, given, old, tell)
    base, noisy = _graphs(old)
    made = quantised(noisy, _drawn(ranges, old))
    calibrated = None if held_out is None else _calibrated(made.graph, held_out, old)
    folder = versions.put(
        Path(bundle),
        old,
        _manifest(old, number, calibrated, ranges),
        base=base,
        noisy=made.graph,
        golden=_golden(base, made.graph, old, ranges),
        calibration=None if calibrated is None else calibrated.scores,
        faults=faults,
    )
    measured = everything if test is None else data_sets.open(test, label=label, decode=decode)
    some = measured.every(max(1, len(measured) // rows)).first(rows)
    precisions = _measured({"float32": noisy, "int8": made.graph}, some, old, draws)
    return Quantized(
        bundle=load(folder),
        folder=folder,
        precisions=precisions,
        table=_table(precisions, old, len(some), draws, made.layers),
    )


def _parted(
    data: Dataset, given: Dataset | None, old: Bundle, tell: Callable[[str], None]
) -> tuple[Dataset, Dataset | None]:
    """Rows for the scales and, where the bundle has a detector, other ones for its threshold."""
    if old.manifest.ood is None:
        return data.every(max(1, len(data) // RANGE_ROWS)).first(RANGE_ROWS), None
    if given is not None:
        ranges, held_out = data.every(max(1, len(data) // RANGE_ROWS)).first(RANGE_ROWS), given
    else:
        order = np.random.default_rng(0).permutation(len(data))
        cut = min(RANGE_ROWS, len(data) // 3)
        if not cut:
            raise SourceError(f"{data.source} has {len(data)} rows; too few to quantise and to calibrate on: give more")
        ranges, held_out = (
            data.only(np.sort(each)) for each in (order[:cut], order[cut : cut + min(_HELD_OUT, len(data) - cut)])
        )
        tell(f"warning: {learn.DRAWN}")
    for line in enough.calibration(len(held_out), old.manifest.ood.target_tpr, old.manifest.ood.eta):
        tell(f"warning: {line}")
    return ranges, held_out


def _graphs(old: Bundle) -> tuple[bytes, bytes]:
    """The two graphs apart, where the bundle has one in both roles."""
    if old.base != old.noisy:
        return old.base, old.noisy
    model = onnx.load_from_string(old.base)
    labels = len(old.manifest.labels)
    base = score_graph.ending(model, {"probabilities": (TensorProto.FLOAT, (labels,))})
    return base, score_graph.ending(model, {"vote": (TensorProto.INT64, ())})


def _drawn(data: Dataset, old: Bundle) -> Iterator[NDArray[np.int32]]:
    """One noisy draw of each row."""
    row = 0
    for lattice, _ in lattices(data, old.manifest.input, _TOGETHER):
        yield np.concatenate(
            [noisy_lattice(each, old.law, row_key("ranges", row + at), 0, 1) for at, each in enumerate(lattice)]
        )
        row += len(lattice)


def _calibrated(graph: bytes, held_out: Dataset, old: Bundle) -> Calibration:
    ood, labels = old.manifest.ood, old.manifest.labels
    assert ood is not None
    return calibrate_on(
        held_out,
        old.manifest.input,
        labels,
        old.law,
        _plain(graph, old),
        target_tpr=ood.target_tpr,
        eta=ood.eta,
        least_accuracy=1 / len(labels),
    )


def _run(graph: bytes, old: Bundle) -> NoisyRun:
    return in_batches(noisy_run(open_graph(graph, "the noisy graph")), old.manifest.batch_rows)


def _plain(graph: bytes, old: Bundle) -> NoisyRun:
    """Its votes without grades."""
    return without_grades(_run(graph, old), len(old.manifest.labels))


def _golden(base: bytes, noisy: bytes, old: Bundle, rows: Dataset) -> Golden:
    run = open_graph(base, "the base graph")
    spec = old.manifest.input
    return golden_outputs(
        np.concatenate([lattice for lattice, _ in lattices(rows.first(_GOLDEN), spec, _GOLDEN)]),
        old.law,
        _run(noisy, old),
        lambda batch: np.concatenate([run(row[None])["probabilities"] for row in batch]),
        plain=_plain(noisy, old),
    )


def _manifest(old: Bundle, version: str, calibrated: Calibration | None, ranges: Dataset) -> Manifest:
    provenance = old.manifest.provenance
    noisy = old.manifest.graphs.noisy.model_copy(update={"precision": "int8"})
    changed: dict[str, object] = {
        "version": version,
        "description": f"{old.manifest.description}; the noisy graph in 8 bits",
        "graphs": old.manifest.graphs.model_copy(update={"noisy": noisy}),
        "provenance": provenance.model_copy(
            update={
                "data": (*provenance.data, used("scales of 8 bits", ranges)),
                "notes": provenance.notes
                | {
                    "quantised_from": old.digest,
                    "quantised": "static, activations of 8 bits, weights of 7 by channel, head in float32",
                },
            }
        ),
    }
    if calibrated is not None and old.manifest.ood is not None:
        changed["ood"] = old.manifest.ood.model_copy(update={"threshold": calibrated.threshold})
    return old.manifest.model_copy(update=changed)


def _measured(graphs: dict[str, bytes], some: Dataset, old: Bundle, draws: int) -> list[PrecisionFigures]:
    labels, spec = old.manifest.labels, old.manifest.input
    runs = {name: _plain(graph, old) for name, graph in graphs.items()}
    radii = [scale(old.manifest.formulas) * each for each in IN_SIGMAS]
    lattice = np.concatenate(list(_drawn(some, old)))
    wanted = next(iter(runs.values()))(lattice)[0]
    found = []
    for name, run in runs.items():
        values = worth(spec, labels, some, run, old.law, draws, old.manifest.defaults.alpha, quiet=False)
        found.append(
            PrecisionFigures(
                name=name,
                draws_per_second=_rate(run, lattice[: old.manifest.batch_rows]),
                flips=float(np.mean(run(lattice)[0] != wanted)),
                certified=band.curve(np.fromiter(values, np.float64), radii, 0.95),
            )
        )
    return found


def _rate(run: NoisyRun, batch: NDArray[np.int32]) -> float:
    """Noisy passes a second: the network alone, in batches of this one's rows, on one thread."""
    run(batch)
    done, started = 0, time.monotonic()
    while (spent := time.monotonic() - started) < _TIMED_S:
        run(batch)
        done += len(batch)
    return done / spent


def _table(found: Sequence[PrecisionFigures], old: Bundle, rows: int, draws: int, layers: int) -> str:
    sigma = scale(old.manifest.formulas)
    radii = [sigma * each for each in IN_SIGMAS]
    lines = [
        f"{layers} layers in 8 bits; {rows:,} rows, sigma {sigma:g}, {draws:,} draws bound (100 more choose), alpha"
        f" {old.manifest.defaults.alpha:g}; draws a second of the network alone on one thread of this machine; in brackets a"
        " band at confidence 0.95 for all radii at once.",
        "",
        "| precision | draws a second | votes changed | "
        + " | ".join(f"certified {each:.4g}" for each in radii)
        + " |",
        "|-|-|-|" + "-|" * len(radii),
    ]
    for each in found:
        cells = [each.name, f"{each.draws_per_second:,.0f}", f"{each.flips:.4f}", *map(str, each.certified)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
