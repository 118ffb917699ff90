"""What a bundle declares, from what the user says and what was found: its labels, its grid, its input, its claims."""

from __future__ import annotations

import hashlib
import math
import platform
from collections import Counter
from importlib.metadata import version as version_of

import numpy as np
import onnx
from numpy.typing import NDArray

from export.build import columns, grades, learn, picture_flags
from export.build.calibrate import SCORE_DRAWS
from export.build.grid import Grid, GridError, check_moves, declared
from export.build.learn import Learnt
from export.build.network import ServedNetwork
from export.build.plan import Plan
from export.bundle import (
    FORMAT,
    AlarmSpec,
    ArgmaxRule,
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
    graphs,
    with_further,
)
from export.bundle import claims as claims_of
from export.graphs.precision import precision_of
from export.inspection.inspect import Found
from export.options import ExportOptions
from export.options import labels as named_labels
from export.sources.source import Source, SourceError

SOME = (0.5,)
"""Thresholds of confidence, where it is claimed and before they are chosen."""
_SCORED = {"joint", "alarm"}
"""Further claims that need a detector."""
_CERTIFYING = {"of_class": 0.8, "upper": 0.2}
_DETECTING = {"of_class": 0.5, "upper": 0.2, "threshold": 0.1, "interval": 0.2}
"""As in the bundled model: class, its upper bound, verdict and interval of the score."""
_ALARM = {"far": 0.05, "of_median": 0.005, "of_bound": 0.005}
"""In all, one clean input of some 17 is flagged, whatever is done to it within the radius."""


def labels(source: Source, found: Found, plan: Plan) -> tuple[str, ...]:
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


def input_spec(found: Found, plan: Plan, grid: Grid) -> InputSpec:
    """The input as a bundle has it. Raises `GridError` where flags do not fit it."""
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


def grid_of(plan: Plan) -> Grid:
    """One step for all, or a step for each column: as given, or found where that is asked for. Raises `GridError`."""
    return check_moves(_grid(plan))


def _grid(plan: Plan) -> Grid:
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


def manifest(
    network: ServedNetwork,
    plan: Plan,
    grid: Grid,
    version: str,
    rows: int,
    learnt: Learnt | None = None,
    prior: PriorSpec | None = None,
    noisy: bytes | None = None,
    thresholds: tuple[float, ...] = SOME,
) -> Manifest:
    """All that the bundle of the accurate `network` says, with what was `learnt` from labelled data, and its `noisy` graph,
    whose grades are of these `thresholds` where confidence is claimed.

    Raises pydantic's `ValidationError` for what contradicts itself.
    """
    source, found = network.source, network.found
    mixed = mixture(found, plan)
    what = ", ".join(["certificates", *(["detector"] if learnt else []), *(["mixture"] if mixed else [])])
    return Manifest(
        format=FORMAT,
        name=plan.name,
        version=version,
        description=f"{source.name}, exported with {what}",
        labels=labels(source, found, plan),
        input=input_spec(found, plan, grid),
        law=GaussianSpec(name="gaussian", stream="noise-v1", sigma=grid.sigma, sigma_steps=grid.sigma_steps),
        graphs=graphs(
            score=learnt is not None,
            gives="probabilities" if _probable(found) else "scores",
            precision=precision_of(onnx.load_from_string(network.made.graph)),
            noisy=None if noisy is None else precision_of(onnx.load_from_string(noisy)),
        ),
        decision=ArgmaxRule(rule="argmax"),
        claims=claims(plan, prior, thresholds, detecting=learnt is not None),
        ood=None if learnt is None else _ood(learnt, grid, alarm="alarm" in plan.options.also),
        mixture=mixed,
        defaults=Defaults(target_radius=grid.sigma / 2),
        batch_rows=rows,
        provenance=_provenance(network, plan, learnt),
    )


def mixture(found: Found, plan: Plan) -> MixtureSpec | None:
    """Of the network's own probabilities with its votes, or those of another; None without labelled data or another."""
    mixed = (plan.labelled is not None or plan.robust is not None) and _probable(found)
    return MixtureSpec(robust_weight=learn.ROBUST_WEIGHT) if mixed else None


def claims(plan: Plan, prior: PriorSpec | None, thresholds: tuple[float, ...] = SOME, *, detecting: bool) -> ClaimsSpec:
    """The claims and their shares of alpha, with those that are asked for, as far as there is a detector."""
    also = [each for each in plan.options.also if detecting or each not in _SCORED]
    shares = with_further(_DETECTING if detecting else _CERTIFYING, also)
    return claims_of(**shares, thresholds=thresholds, prior=prior, two_sided="two_sided" in also)


def check_confident(network: ServedNetwork, plan: Plan) -> None:
    """Raise `SourceError` where confidence is claimed of numbers that do not sum to one."""
    if grades.CLAIM in plan.options.also and not _probable(network.found):
        raise SourceError(
            f"--also confidence needs probabilities, and {network.source.name} gives {network.found.output.kind} numbers,"
            " which do not sum to one; leave it out"
        )


def _provenance(network: ServedNetwork, plan: Plan, learnt: Learnt | None) -> Provenance:
    source, output = network.source, network.found.output
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
            "output": f"{output.name} ({output.kind})",
            "samples": len(plan.samples),
            "rewritten_sums": ", ".join(network.made.sums)[:4_000] or "none",
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
