"""From a classifier and labelled data to a network that votes well under noise: trained, measured, written."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from certify.smoothing.ball import Euclidean
from certify.smoothing.laws import LatticeGaussian, gaussian_on_grid
from export import data as data_sets
from export.build.compose import Entrance
from export.build.grid import Grid, declared
from export.build.learn import check_order
from export.build.noise_table import rounded_gaussian_tails
from export.build.taken import arranged, shape_for
from export.build.taken import samples as taken_samples
from export.bundle import FeaturesKind, GridSpec, InputSpec
from export.data import Dataset
from export.inspection import inspect as inspection
from export.inspection.given import given
from export.inspection.outputs import Kind
from export.robust import measure, training, written
from export.robust.measure import Measured
from export.robust.networks import Denoiser, Voter
from export.robust.rows import stored
from export.sources import torch_module
from export.sources.graph_module import GraphModule
from export.sources.opening import opened
from export.sources.source import Source, SourceError

IN_SIGMAS = (0.0, 0.5, 1.0, 2.0)
"""The radii of the table."""
_MEASURED, _HELD_OUT = 200, 1_000
_SAME = 1e-3
"""Of the largest logit: how far a graph may be from itself, run by another library."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Robustified:
    """The file of the graph and that of its weights, and what the network was worth before and is now at the `radii`."""

    graph: Path
    weights: Path
    radii: tuple[float, ...]
    before: Measured
    after: Measured
    table: str


@dataclass(frozen=True, kw_only=True, eq=False)
class _Task:
    """All that is known before anything is trained."""

    source: Source
    found: inspection.Found
    entrance: Entrance
    spec: InputSpec
    law: LatticeGaussian
    labels: tuple[str, ...]
    training: Dataset
    test: Dataset
    sigma: float


def robustify(
    model: str | Path | nn.Module,
    *,
    data: str | Path,
    sigma: float,
    out: str | Path = "robust",
    test: str | Path | None = None,
    label: str | None = None,
    weights: str | Path | None = None,
    labels: Sequence[str] = (),
    denoiser: bool = False,
    epochs: int = 5,
    rate: float = 1e-3,
    rows: int = _MEASURED,
    draws: int = 250,
    low: float | None = None,
    step: float | None = None,
    high: float | None = None,
    layout: Literal["CHW", "HWC", "features"] | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    channels: Literal["as given", "reversed"] = "as given",
    output: str | None = None,
    output_kind: Kind | None = None,
) -> Robustified:
    """Train `model` under the noise that will be served, or a denoiser before it, and write it to the folder `out`.

    `model` is an ONNX file, `package.module:factory`, or a torch module, which stays as it is. `sigma` is in the units of
    the data. `rows` of `test`, or of what is held out of `data`, are measured with `draws` draws each. A run that was broken
    off goes on in the same folder. Raises `SourceError`, `DataError` and `LearningError`.
    """
    everything = data_sets.open(data, label=label)
    source, shape = _opened(model, weights, everything, layout)
    everything = arranged(everything, shape, on_grid=step is not None)
    grid, samples = _grid(everything, sigma, low, step, high)
    entrance = Entrance(
        layout=layout or inspection.layout_of(shape),
        reverse=channels == "reversed",
        mean=tuple(mean),
        deviation=tuple(std),
    )
    seen = entrance.apply(samples[: inspection.TRIED].astype(np.float64))
    found = inspection.inspect(source, samples=seen, output=output, output_kind=output_kind)
    inspection.check_sure(found)
    held_out = None if test is None else arranged(data_sets.open(test, label=label), shape, on_grid=step is not None)
    task = _Task(
        source=source,
        found=found,
        entrance=entrance,
        spec=_spec(found, grid),
        law=_law(grid),
        labels=_labels(source, found, everything, tuple(labels)),
        **_parted(everything, held_out, rows),
        sigma=grid.sigma,
    )
    return _robust(task, Path(out), denoiser, epochs, rate, draws)


def _robust(task: _Task, out: Path, denoising: bool, epochs: int, rate: float, draws: int) -> Robustified:
    radii = tuple(task.sigma * each for each in IN_SIGMAS)
    voter = _voter(task, denoising)
    _check_same(task, voter)
    _check_order(task, voter)
    rows = stored(task.training, task.spec, task.labels, out / "rows")
    measuring = (task.test, task.spec, task.labels, task.law, radii, draws)
    plan = training.Learning(
        sigma_steps=task.law.table.sigma_steps,
        epochs=epochs,
        rate=rate,
        identity=_identity(task, denoising),
    )
    training.learn(plan, voter, rows, task.spec, out / "checkpoint.pt")
    written.write(out, voter, task.found)
    before = measure.measured(_voter(task, False), *measuring)
    after = measure.measured(voter, *measuring)
    name = "behind the denoiser" if denoising else "robust"
    table = measure.table({"original": before, name: after}, radii, count=len(task.test), draws=draws, sigma=task.sigma)
    return Robustified(
        graph=out / written.GRAPH,
        weights=out / written.WEIGHTS,
        radii=radii,
        before=before,
        after=after,
        table=table,
    )


def _opened(
    model: str | Path | nn.Module,
    weights: str | Path | None,
    data: Dataset,
    layout: Literal["CHW", "HWC", "features"] | None,
) -> tuple[Source, tuple[int, ...]]:
    shape = shape_for(data, layout)
    if isinstance(model, nn.Module):
        if weights is not None:
            raise SourceError("weights go with package.module:factory; a module in memory has them already")
        source = torch_module.source(copy.deepcopy(model).eval(), shape)
    else:
        source = opened(model, weights, shape)
    return source, shape_for(data, layout, given(source.model, source.name).axes[1:])


def _grid(
    data: Dataset, sigma: float, low: float | None, step: float | None, high: float | None
) -> tuple[Grid, NDArray[Any]]:
    samples = taken_samples(data, low, step)
    return declared(samples, sigma, low=low, step=step, high=high), samples


def _law(grid: Grid) -> LatticeGaussian:
    """Its sigma and radii are in the units of the data."""
    tails = rounded_gaussian_tails(grid.sigma_steps)
    return gaussian_on_grid(grid.sigma_steps, tails, grid.sigma, Euclidean("units of the data", (float(grid.step),)))


def _spec(found: inspection.Found, grid: Grid) -> InputSpec:
    return InputSpec(
        name="input",
        kind=FeaturesKind(kind="features"),  # rows come in the shape that the network takes
        shape=found.shape,
        grid=GridSpec(low=float(grid.low), step=float(grid.step), high=float(grid.high), units="units of the data"),
    )


def _labels(source: Source, found: inspection.Found, data: Dataset, named: tuple[str, ...]) -> tuple[str, ...]:
    count = found.output.labels
    labels = named or source.labels or (data.names if len(data.names) == count else tuple(map(str, range(count))))
    if len(labels) != count:
        raise SourceError(f"--labels: {len(labels)} labels were given, and {source.name} tells {count} apart")
    return labels


def _parted(data: Dataset, test: Dataset | None, rows: int) -> dict[str, Dataset]:
    """What is learnt from, and the rows that are measured on: evenly spaced in the test data, or a seeded draw."""
    if test is not None:
        return {"training": data, "test": test.every(max(1, len(test) // rows)).first(rows)}
    order = np.random.default_rng(0).permutation(len(data))
    held_out = order[: min(len(data) // 10, _HELD_OUT)]
    if not len(held_out):
        raise SourceError(f"{data.source} has {len(data)} rows; too few to learn from and to measure on: give more")
    left = data.only(np.sort(order[len(held_out) :]))
    return {"training": left, "test": data.only(np.sort(held_out)).first(rows)}


def _voter(task: _Task, denoising: bool) -> Voter:
    """The network as it came, with a fresh denoiser if one is asked for."""
    module = task.source.module
    network = GraphModule(task.found.model, task.source.name) if module is None else copy.deepcopy(module)
    first = None
    if denoising:
        spread = task.entrance.deviation or (1.0,)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            first = Denoiser(task.found.shape, task.entrance.layout, task.sigma / float(np.mean(spread)))
    return Voter(network, first, task.entrance, task.found.output, len(task.found.shape)).eval()


def _check_same(task: _Task, voter: Voter) -> None:
    """What is trained is the network that was given."""
    batch = next(task.training.batches(inspection.TRIED))
    values = task.entrance.apply(np.asarray(batch.inputs, np.float64).reshape(-1, *task.found.shape))
    rows = torch.from_numpy(values).float()
    kind = task.found.given.type_name
    wanted = torch.from_numpy(
        np.asarray(task.found.original(rows.numpy().astype(kind))[task.found.output.name])
    ).float()
    with torch.no_grad():
        got = voter.numbers(rows).float().reshape(wanted.shape)
    off = float((got - wanted).abs().max())
    if not off <= _SAME * max(1.0, float(wanted.abs().max())):
        raise SourceError(
            f"{task.source.name} gives other numbers in torch than by itself, off by {off:.2g}; give the"
            " torch module that it was exported from, as package.module:factory"
        )


def _check_order(task: _Task, voter: Voter) -> None:
    check_order(task.test, task.spec, task.labels, lambda lattice: {"vote": measure.votes(voter, task.spec, lattice)})


def _identity(task: _Task, denoising: bool) -> str:
    """What a training depends on, besides its plan."""
    parts = [task.training.digest, task.spec.model_dump_json(), repr(task.entrance), str(denoising), *task.labels]
    return hashlib.sha256(task.source.original + "\0".join(parts).encode()).hexdigest()
