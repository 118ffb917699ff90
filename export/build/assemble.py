"""From a foreign model and samples to a bundle: composed, compared with the original, proven, put in place.

One network is both the accurate and the smoothed one, unless a robust one is given to be smoothed. With samples alone
the bundle has certificates only; labelled data add a detector and a mixture, as far as they are enough. Nothing is
put in place that serving would refuse.
"""

from __future__ import annotations

import hashlib
import math
import platform
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from certify.claims.procedures import SLICE
from certify.smoothing.laws import LatticeGaussian, gaussian_on_grid
from export.build import batch_rows, columns, foresee, learn, picture_flags, score_graph
from export.build.calibrate import SCORE_DRAWS, golden_outputs
from export.build.compare import check_expected, check_same, check_varies
from export.build.compose import Composed, Entrance, composed
from export.build.grid import Grid, GridError, GridNumbers, check_moves, declared, one_or_each
from export.build.lattice import lattices
from export.build.learn import Labelled, Learnt, Tell, noisy_run
from export.build.noise_table import rounded_gaussian_tails
from export.build.passes import BaseRun
from export.build.versions import Faults, next_version
from export.bundle import (
    FORMAT,
    AlarmSpec,
    ArgmaxRule,
    Bundle,
    ClaimsSpec,
    Defaults,
    FeaturesKind,
    GaussianSpec,
    GridSpec,
    ImageKind,
    InputSpec,
    Manifest,
    MixtureSpec,
    OodSpec,
    PriorSpec,
    Provenance,
    SourceFile,
    WaveformKind,
    claims,
    graphs,
    with_further,
    write,
)
from export.bundle.batches import NoisyRun, in_batches
from export.graphs.precision import precision_of
from export.graphs.rows import follow
from export.inspection.inspect import Found
from export.options import ExportOptions
from export.options import labels as named_labels
from export.sources.running import GraphRun, open_graph
from export.sources.source import Source, SourceError

ORIGINAL, ROBUST = "original.onnx", "robust.onnx"
_CERTIFYING = {"of_class": 0.8, "upper": 0.2}
_DETECTING = {"of_class": 0.5, "upper": 0.2, "threshold": 0.1, "interval": 0.2}
"""As in the bundled model: class, its upper bound, verdict and interval of the score."""
_ALARM = {"far": 0.05, "of_median": 0.005, "of_bound": 0.005}
"""In all, one clean input of some 17 is flagged, whatever is done to it within the radius."""
_HEAVY = 2**24
"""Multiplications of a row, beyond which little is tried."""
_TRIED = 32


def to_stderr(line: str) -> None:
    """Tell what was found, beside the output of a command."""
    print(line, file=sys.stderr)


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What a bundle is made of. `samples` [n, *shape] are in the caller's units, `options` what the user says beside them.

    `labelled` data, in the same units, are what a detector is learnt from. `tell` is told of what the data fall short of.
    `command` is what the user typed, `robust` the network that votes, where it is another.
    """

    name: str
    samples: NDArray[Any]
    sigma: float
    out: Path
    options: ExportOptions
    expected: NDArray[Any] | None = None
    entrance: Entrance
    labelled: Labelled | None = None
    tell: Tell = to_stderr
    command: str = ""
    robust: tuple[Source, Found] | None = None

    @property
    def low(self) -> GridNumbers:
        """The least value of the grid, or of each column."""
        return one_or_each(self.options.low)

    @property
    def step(self) -> GridNumbers:
        """The step of the grid, or of each column."""
        return one_or_each(self.options.step)

    @property
    def high(self) -> GridNumbers:
        """The largest value of the grid, or of each column."""
        return one_or_each(self.options.high)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Network:
    """One network as it would be served, compared with its original."""

    source: Source
    found: Found
    made: Composed
    run: GraphRun


def assemble(source: Source, found: Found, plan: Plan, faults: Faults) -> Bundle:
    """Write the bundle `out/name/<next version>`. Raises `SourceError` and its like, and leaves nothing behind then."""
    grid = check_moves(_grid(plan))
    lattice = grid.integers(plan.samples)
    spec, labels = _input(found, plan, grid), _labels(source, found, plan)
    data = _enough(plan)
    accurate = _part(source, found, plan, grid, lattice, scored=data is not None)
    voting = accurate
    if plan.robust is not None:
        _check_alike(source, found, *plan.robust)
        voting = _part(*plan.robust, plan, grid, lattice, scored=data is not None)
    if plan.expected is not None:
        check_expected(source, accurate.found, plan.entrance, plan.samples, plan.expected)
    if plan.labelled is not None:
        held_out = plan.labelled.held_out
        some, _ = next(lattices(held_out.every(max(1, len(held_out) // _TRIED)), spec, _TRIED))
        check_varies(source.name, some, _base_run(accurate.run)(some), "held-out rows")
        learn.check_order(plan.labelled.choice, spec, labels, accurate.run)
        learn.check_order(plan.labelled.choice, spec, labels, voting.run)
    made, run = accurate.made, accurate.run
    _manifest(
        source, found, plan, grid, made, "1", plan.options.batch_rows or SLICE, None
    )  # what it refuses is refused now
    tails = rounded_gaussian_tails(grid.sigma_steps)
    law = gaussian_on_grid(grid.sigma_steps, tails)
    work = follow(onnx.load_from_string(voting.made.graph), found.shape, source.name).multiplications
    rows = batch_rows.chosen(voting.made.graph, found.shape, work, plan.tell, plan.options.batch_rows)
    golden_rows = _golden_rows(found, work)
    learnt = None if data is None else _learnt(voting.made, voting.found, plan, data, spec, labels, law, rows)
    one = learnt is None and plan.robust is None  # one graph in both roles
    base = made.graph if one else score_graph.base(made)
    noisy = learnt.graph if learnt else base if one else score_graph.votes(voting.made)
    under_noise = in_batches(noisy_run(open_graph(noisy, f"{source.name}, as it would be served under noise,")), rows)
    plainly = _base_run(run)
    prior = (
        None
        if data is None or learnt is None
        else _prior(plan, data, learnt, spec, len(labels), law, under_noise, plainly)
    )
    golden = golden_outputs(
        _candidates(lattice, 2 * golden_rows),
        law,
        under_noise,
        plainly,
        rows=golden_rows,
    )
    folder = plan.out / plan.name
    folder.mkdir(parents=True, exist_ok=True)
    version = next_version(folder)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as made_in:
        place = Path(made_in) / version
        bundle = write(
            place,
            _manifest(source, found, plan, grid, made, version, rows, learnt, prior, noisy),
            base=base,
            noisy=noisy,
            tails=tails,
            golden=golden,
            calibration=None if learnt is None else learnt.calibration.scores,
            others={ORIGINAL: source.original} | ({ROBUST: voting.source.original} if plan.robust else {}),
        )
        wrong = faults(place)
        if wrong:
            raise SourceError(f"{source.name} is not written, since it could not be served: {'; '.join(wrong)}")
        shutil.move(place, folder / version)
    return bundle


def provisional(source: Source, found: Found, plan: Plan) -> tuple[Manifest, NoisyRun]:
    """What the bundle would declare, and its network as it would vote: to try a sigma before it is settled.

    Raises as `assemble`.
    """
    grid = check_moves(_grid(plan))
    made = composed(found, grid, plan.entrance)
    run = open_graph(made.graph, f"{source.name}, as it would be served,")
    if plan.labelled is not None:
        learn.check_order(plan.labelled.choice, _input(found, plan, grid), _labels(source, found, plan), run)
    return _manifest(source, found, plan, grid, made, "1", batch_rows.TRIED[0], None), noisy_run(run)


def _part(
    source: Source, found: Found, plan: Plan, grid: Grid, lattice: NDArray[np.int32], *, scored: bool
) -> _Network:
    found = score_graph.current(found) if scored else found
    made = composed(found, grid, plan.entrance)
    run = open_graph(made.graph, f"{source.name}, as it would be served,")
    check_same(source, found, grid, plan.entrance, lattice, run)
    return _Network(source=source, found=found, made=made, run=run)


def _check_alike(source: Source, found: Found, robust: Source, of_robust: Found) -> None:
    """The two networks of a mixture tell the same labels apart."""
    if of_robust.output.labels != found.output.labels:
        raise SourceError(
            f"--robust: {robust.name} tells {of_robust.output.labels} labels apart, and {source.name} {found.output.labels};"
            " give a network of the same labels in the same order"
        )


def _enough(plan: Plan) -> Labelled | None:
    """The labelled data, if their held-out rows give a threshold; what they fall short of is told."""
    if plan.labelled is None:
        return None
    try:
        for line in learn.warnings(plan.labelled):
            plan.tell(f"warning: {line}")
    except ValueError as error:
        short = f"no detector, since {len(plan.labelled.held_out)} held-out rows are too few: {error}"
        for name in {"joint", "alarm"}.intersection(plan.options.also):
            raise SourceError(f"--also {name} needs the threshold of a detector, and there is {short}") from error
        plan.tell(f"warning: {short}")
        return None
    return plan.labelled


def _learnt(
    made: Composed,
    found: Found,
    plan: Plan,
    data: Labelled,
    spec: InputSpec,
    labels: tuple[str, ...],
    law: LatticeGaussian,
    rows: int,
) -> Learnt:
    given = score_graph.scorable(made, found)
    work = None if plan.options.work is None else Path(plan.options.work)
    return learn.learn(given, data, spec, labels, law, rows, score=plan.options.score, work=work, tell=plan.tell)


def _base_run(run: GraphRun) -> BaseRun:
    return lambda batch: np.concatenate([run(row[None])["probabilities"] for row in batch])


def _prior(
    plan: Plan,
    data: Labelled,
    learnt: Learnt,
    spec: InputSpec,
    labels: int,
    law: LatticeGaussian,
    noisy: NoisyRun,
    base: BaseRun,
) -> PriorSpec | None:
    """A prior of the votes, where it saves draws on held-out rows, or is asked for; what it saves is told."""
    alpha, made = Defaults.model_fields["alpha"].default, _claims(plan, None, detecting=True)
    two_sided = bool(made.of_class.two_sided)
    asked = foresee.PriorAim(radius=law.sigma / 2, alpha=alpha, split=made.split(), labels=labels, two_sided=two_sided)
    prior, worth = foresee.from_held_out(data.held_out, spec, learnt.calibration, law, noisy, base, asked)
    kept = plan.options.foresee or worth.pays
    why = "as asked for" if plan.options.foresee else "for it saves draws" if kept else "for it saves none to speak of"
    plan.tell(
        f"prior of the votes: {worth.ratio:.3f} of the draws to a decision at the default radius, on"
        f" {len(worth.without)} held-out rows; {'declared' if kept else 'left out'}, {why}"
    )
    return prior if kept else None


def _candidates(lattice: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Distinct samples, over and over: each time with noise of its own."""
    some = lattice[np.sort(np.unique(lattice, axis=0, return_index=True)[1])][:count]
    if len(some) < 2:
        raise SourceError("all samples are the same on the grid; give two or more that differ")
    return np.concatenate([some] * -(-count // len(some)))[:count]


def _golden_rows(found: Found, work: float) -> int:
    """As many as are no larger than the model, in both kinds of golden inputs, two at least."""
    bytes_of_two = 3 * int(np.prod(found.shape))  # a byte and two, as they are stored where they fit
    return int(np.clip(found.size // bytes_of_two, 2, 16 if work <= _HEAVY else 4))


def _labels(source: Source, found: Found, plan: Plan) -> tuple[str, ...]:
    """As said, else as the model says, else as the data say, else numbers."""
    count = found.output.labels
    named = plan.labelled.fit.names if plan.labelled is not None else ()
    labels = _given(plan.options) or source.labels or (named if len(named) == count else tuple(map(str, range(count))))
    if len(labels) != count:
        raise SourceError(f"--labels: {len(labels)} labels were given, and {source.name} tells {count} apart")
    twice = next((label for label, times in Counter(labels).items() if times > 1), None)
    if twice is not None:
        raise SourceError(
            f"--labels: {twice!r} is there twice, and answers name one label; give each a name of its own"
        )
    return labels


def _given(options: ExportOptions) -> tuple[str, ...]:
    """The labels that the user says: as the flag has them, or a sequence of names."""
    said = options.labels
    return named_labels(said) if isinstance(said, str) else tuple(map(str, said))


def _input(found: Found, plan: Plan, grid: Grid) -> InputSpec:
    return InputSpec(
        name=_input_name(found.given.name),
        kind=_kind(plan, found.shape, grid),
        shape=found.shape,
        grid=GridSpec(
            low=_said(grid.low),
            step=_said(grid.step),
            high=_said(grid.high),
            units=grid.units or plan.options.units,
            step_length=grid.length if grid.step.ndim else None,
        ),
    )


def _grid(plan: Plan) -> Grid:
    """One step for all, or a step for each column: as given, or found where that is asked for."""
    if isinstance(plan.step, tuple):
        return columns.given(plan.samples, plan.sigma, plan.step, plan.low, plan.high)
    if plan.options.columns:
        if plan.step is not None:
            raise GridError("--columns finds a step for each column; leave --step out, or give one for each")
        return columns.found_in(plan.samples, plan.sigma, low=plan.low, high=plan.high)
    if isinstance(plan.low, tuple) or isinstance(plan.high, tuple):
        raise GridError("--low and --high: one for each column goes with --columns, or with --step for each")
    return declared(plan.samples, plan.sigma, low=plan.low, step=plan.step, high=plan.high)


def _said(numbers: NDArray[np.float64]) -> float | tuple[float, ...]:
    return tuple(numbers.tolist()) if numbers.ndim else float(numbers)


def _kind(plan: Plan, shape: tuple[int, ...], grid: Grid) -> ImageKind | FeaturesKind | WaveformKind:
    """Sound where a rate is said, pictures where there are as many channels as they have; others are plain numbers."""
    entrance = plan.entrance
    if plan.options.rate is not None:
        if grid.step.ndim or int(grid.tops) != 2**16 - 1 or shape[-1] != math.prod(shape):
            raise GridError(
                f"--rate: sound is one channel of signed samples of 16 bits, as they are or from -1 to 1; got the shape"
                f" {list(shape)} and a grid from {grid.low.min():g} to {grid.high.max():g}"
            )
        return WaveformKind(kind="waveform", rate=plan.options.rate)
    channels = {"CHW": shape[0], "HWC": shape[-1]}.get(entrance.layout)
    if entrance.layout == "features" or channels not in (1, 3):
        if plan.options.resize or plan.options.pictures or plan.options.mode != "RGB":
            raise GridError(f"--mode, --resize and --pictures: inputs of shape {list(shape)} are no pictures")
        return FeaturesKind(kind="features")
    return ImageKind(
        kind="image",
        layout=entrance.layout,
        mode="L" if channels == 1 else plan.options.mode,
        resize=picture_flags.resize(plan.options.resize),
        files=picture_flags.treatments(plan.options.pictures),
    )


def _manifest(
    source: Source,
    found: Found,
    plan: Plan,
    grid: Grid,
    made: Composed,
    version: str,
    rows: int,
    learnt: Learnt | None,
    prior: PriorSpec | None = None,
    noisy: bytes | None = None,
) -> Manifest:
    mixed = (plan.labelled is not None or plan.robust is not None) and _probable(found)
    what = ", ".join(["certificates", *(["detector"] if learnt else []), *(["mixture"] if mixed else [])])
    return Manifest(
        format=FORMAT,
        name=plan.name,
        version=version,
        description=f"{source.name}, exported with {what}",
        labels=_labels(source, found, plan),
        input=_input(found, plan, grid),
        law=GaussianSpec(name="gaussian", stream="noise-v1", sigma=grid.sigma, sigma_steps=grid.sigma_steps),
        graphs=graphs(
            score=learnt is not None,
            gives="probabilities" if _probable(found) else "scores",
            precision=precision_of(onnx.load_from_string(made.graph)),
            noisy=None if noisy is None else precision_of(onnx.load_from_string(noisy)),
        ),
        decision=ArgmaxRule(rule="argmax"),
        claims=_claims(plan, prior, detecting=learnt is not None),
        ood=None if learnt is None else _ood(learnt, grid, alarm="alarm" in plan.options.also),
        mixture=MixtureSpec(robust_weight=learn.ROBUST_WEIGHT) if mixed else None,
        defaults=Defaults(target_radius=grid.sigma / 2),
        batch_rows=rows,
        provenance=_provenance(source, found, plan, made, learnt),
    )


def _claims(plan: Plan, prior: PriorSpec | None, *, detecting: bool) -> ClaimsSpec:
    shares = with_further(_DETECTING, tuple(plan.options.also)) if detecting else _CERTIFYING
    return claims(**shares, prior=prior, two_sided="two_sided" in plan.options.also)


def _provenance(source: Source, found: Found, plan: Plan, made: Composed, learnt: Learnt | None) -> Provenance:
    versions = {name: version_of(name) for name in ("certserve", "onnx", "onnxruntime")}
    return Provenance(
        source=SourceFile(name=source.name, digest="sha256:" + hashlib.sha256(source.original).hexdigest()),
        data=learnt.data if learnt else (),
        versions={**versions, "Python": platform.python_version()},
        commands=(_in_one_line(plan.command),) if plan.command else (),
        notes={
            **source.notes,
            **({f"robust_{name}": note for name, note in plan.robust[0].notes.items()} if plan.robust else {}),
            **(learnt.notes if learnt else {}),
            "output": f"{found.output.name} ({found.output.kind})",
            "samples": len(plan.samples),
            "rewritten_sums": ", ".join(made.sums)[:4_000] or "none",
        },
    )


def _in_one_line(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)[:4_000]


def _ood(learnt: Learnt, grid: Grid, *, alarm: bool) -> OodSpec:
    return OodSpec(
        score=learnt.score.removesuffix("++"),
        normalised=learnt.score.endswith("++"),
        score_draws=SCORE_DRAWS,
        target_tpr=learn.TARGET_TPR,
        eta=learn.ETA,
        threshold=learnt.calibration.threshold,
        radius=grid.sigma / 2,
        alarm=AlarmSpec(radius=grid.sigma / 2, **_ALARM) if alarm else None,
    )


def _probable(found: Found) -> bool:
    return found.output.kind in ("softmax", "logits") or found.output.size == 1


def _input_name(name: str) -> str:
    plain = "".join(each if each.isascii() and (each.isalnum() or each in "._-") else "-" for each in name).strip(".-_")
    return plain[:128] or "input"
