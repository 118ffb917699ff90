"""From a foreign model and samples to a bundle: composed, compared with the original, proven, put in place.

With samples alone the bundle has certificates only: one network is both the accurate and the smoothed one, and there is no
score and no mixture. Nothing is put in place that serving would refuse.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from certify.smoothing.laws import gaussian_on_grid
from export.build.calibrate import golden_outputs
from export.build.compare import check_expected, check_same
from export.build.compose import Composed, Entrance, composed
from export.build.grid import Grid, declared
from export.build.noise_table import rounded_gaussian_tails
from export.bundle import AlphaShares, Bundle, Defaults, InputSpec, Manifest, NoiseSpec, write
from export.bundle.batches import NoisyRun, in_batches
from export.graphs.rows import follow
from export.inspection.inspect import Found
from export.sources.running import open_graph
from export.sources.source import Source, SourceError

Faults = Callable[[Path], Sequence[str]]
"""Every proof that serving would run on the bundle in a folder: one line for each fault, none if all hold."""

ORIGINAL = "original.onnx"
_LIGHT, _HEAVY = 2**21, 2**24
"""Multiplications of a row: up to the first, batches are large; beyond the second, little is tried."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What a bundle is to declare; None is found or has a default. `samples` [n, *shape] are in the caller's units."""

    name: str
    samples: NDArray[Any]
    sigma: float
    out: Path
    labels: tuple[str, ...] = ()
    expected: NDArray[Any] | None = None
    low: float | None = None
    step: float | None = None
    high: float | None = None
    units: str = "units of the samples"
    entrance: Entrance


def assemble(source: Source, found: Found, plan: Plan, faults: Faults) -> Bundle:
    """Write the bundle `out/name/<next version>`. Raises `SourceError` and its like, and leaves nothing behind then."""
    grid = declared(plan.samples, plan.sigma, low=plan.low, step=plan.step, high=plan.high)
    lattice = grid.integers(plan.samples)
    made = composed(found, grid, plan.entrance)
    run = open_graph(made.graph, f"{source.name}, as it would be served,")
    check_same(source, found, grid, plan.entrance, lattice, run)
    if plan.expected is not None:
        check_expected(source, found, plan.entrance, plan.samples, plan.expected)
    tails = rounded_gaussian_tails(grid.sigma_steps)
    work = follow(onnx.load_from_string(made.graph), found.shape, source.name).multiplications
    rows, golden_rows = 128 if work <= _LIGHT else 32, _golden_rows(found, work)
    golden = golden_outputs(
        _candidates(lattice, 2 * golden_rows),
        gaussian_on_grid(grid.sigma_steps, tails),
        in_batches(_noisy(run), rows),
        lambda batch: np.concatenate([run(row[None])["probabilities"] for row in batch]),
        rows=golden_rows,
    )
    folder = plan.out / plan.name
    folder.mkdir(parents=True, exist_ok=True)
    version = next_version(folder)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as made_in:
        place = Path(made_in) / version
        manifest = _manifest(source, found, plan, grid, made, version, rows)
        bundle = write(
            place,
            manifest,
            base=made.graph,
            noisy=made.graph,
            tails=tails,
            golden=golden,
            others={ORIGINAL: source.original},
        )
        wrong = faults(place)
        if wrong:
            raise SourceError(f"{source.name} is not written, since it could not be served: {'; '.join(wrong)}")
        shutil.move(place, folder / version)
    return bundle


def next_version(folder: Path) -> str:
    """One above the highest version in the folder of a model: nothing is written over."""
    taken = [int(each.name) for each in folder.iterdir() if each.name.isdecimal()]
    return str(max(taken, default=0) + 1)


def _noisy(run: Callable[[NDArray[Any]], dict[str, Any]]) -> NoisyRun:
    def noisy(lattice: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        vote = run(lattice)["vote"]
        return vote, np.zeros(len(vote), np.float32)

    return noisy


def _candidates(lattice: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Distinct samples, over and over: each time with noise of its own."""
    some = lattice[np.sort(np.unique(lattice, axis=0, return_index=True)[1])][:count]
    if len(some) < 2:
        raise SourceError("all samples are the same on the grid; give two or more that differ")
    return np.concatenate([some] * -(-count // len(some)))[:count]


def _golden_rows(found: Found, work: float) -> int:
    """As many as are no larger than the model, in both kinds of golden inputs, four at least."""
    bytes_of_two = 8 * int(np.prod(found.shape))
    return int(np.clip(found.size // bytes_of_two, 4, 16 if work <= _HEAVY else 4))


def _manifest(
    source: Source, found: Found, plan: Plan, grid: Grid, made: Composed, version: str, rows: int
) -> Manifest:
    labels = plan.labels or source.labels or tuple(str(index) for index in range(found.output.labels))
    if len(labels) != found.output.labels:
        raise SourceError(
            f"--labels: {len(labels)} labels were given, and {source.name} tells {found.output.labels} apart"
        )
    return Manifest(
        format="certserve-bundle/1",
        name=plan.name,
        version=version,
        description=f"{source.name}, exported with certificates only",
        labels=labels,
        input=InputSpec(
            name=_input_name(found.given.name),
            shape=found.shape,
            layout=plan.entrance.layout,
            low=grid.low,
            step=grid.step,
            high=grid.high,
            units=plan.units,
        ),
        noise=NoiseSpec(stream="noise-v1", sigma=grid.sigma, sigma_steps=grid.sigma_steps),
        alpha_split=AlphaShares(of_class=0.8, upper=0.2),
        defaults=Defaults(target_radius=grid.sigma / 2),
        batch_rows=rows,
        base_output="probabilities" if _probable(found) else "scores",
        training={
            **source.notes,
            "output": f"{found.output.name} ({found.output.kind})",
            "samples": len(plan.samples),
            "rewritten_sums": ", ".join(made.sums)[:4_000] or "none",
            "exported_with": f"certserve {version_of('certserve')}, onnx {version_of('onnx')}, Python"
            f" {platform.python_version()}",
        },
    )


def _probable(found: Found) -> bool:
    return found.output.kind in ("softmax", "logits") or found.output.size == 1


def _input_name(name: str) -> str:
    plain = "".join(each if each.isascii() and (each.isalnum() or each in "._-") else "-" for each in name).strip(".-_")
    return plain[:128] or "input"
