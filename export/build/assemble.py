"""From a foreign model and samples to a bundle: composed, compared with the original, proven, put in place.

One network is both the accurate and the smoothed one, unless a robust one is given to be smoothed. With samples alone
the bundle has certificates only; labelled data add a detector and a mixture, as far as they are enough. Nothing is
put in place that serving would refuse.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from certify.claims.procedures import SLICE
from certify.smoothing.law import Law, scale
from certify.smoothing.laws import gaussian_on_grid
from export.build import batch_rows, declaration, foresee, grades, learn, network, score_graph, two_sides
from export.build.calibrate import golden_outputs
from export.build.compare import check_expected, check_varies
from export.build.grid import Grid
from export.build.lattice import lattices
from export.build.learn import Labelled, Learnt, noisy_run
from export.build.network import ServedNetwork
from export.build.noise_table import rounded_gaussian_tails
from export.build.plan import Plan
from export.build.versions import Faults, next_version
from export.bundle import Bundle, Defaults, Golden, InputSpec, Manifest, PriorSpec, write
from export.bundle.batches import NoisyRun, in_batches, without_grades
from export.graphs.rows import follow
from export.inspection.inspect import Found
from export.sources.running import open_graph
from export.sources.source import Source, SourceError

ORIGINAL, ROBUST = "original.onnx", "robust.onnx"
_HEAVY = 2**24
"""Multiplications of a row, beyond which little is tried."""
_TRIED = 32
_GRADED = 128
"""Rows whose noisy passes choose the thresholds of confidence."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Settled:
    """What is settled before anything is learnt. `data` are the labelled rows, if they are enough for a detector."""

    plan: Plan
    grid: Grid
    spec: InputSpec
    labels: tuple[str, ...]
    data: Labelled | None
    accurate: ServedNetwork
    voting: ServedNetwork


@dataclass(frozen=True, kw_only=True, eq=False)
class _ServedGraphs:
    """The two graphs of the bundle, what was learnt for them, and the noisy one at work in batches of `rows`: `graded` as it
    is served, `under_noise` with labels alone for votes. `thresholds` are those of its grades.
    """

    base: bytes
    noisy: bytes
    rows: int
    learnt: Learnt | None
    thresholds: tuple[float, ...]
    graded: NoisyRun
    under_noise: NoisyRun


def assemble(source: Source, found: Found, plan: Plan, faults: Faults) -> Bundle:
    """Write the bundle `out/name/<next version>`. Raises `SourceError` and its like, and leaves nothing behind then."""
    grid = declaration.grid_of(plan)
    lattice = grid.integers(plan.samples)
    settled = _settled(source, found, plan, grid, lattice)
    law = gaussian_on_grid(grid.sigma_steps, rounded_gaussian_tails(grid.sigma_steps))
    work = follow(onnx.load_from_string(settled.voting.made.graph), found.shape, source.name).multiplications
    served = _served(settled, law, work)
    settled = replace(settled, plan=_with_two_sides(settled, served, law))
    prior = _prior(settled, served, law)
    golden_rows = _golden_rows(found, work)
    golden = golden_outputs(
        _candidates(lattice, 2 * golden_rows),
        law,
        served.graded,
        settled.accurate.plainly,
        rows=golden_rows,
        plain=served.under_noise,
    )
    return _put_in_place(settled, served, prior, law, golden, faults)


def provisional(source: Source, found: Found, plan: Plan) -> tuple[Manifest, NoisyRun]:
    """What the bundle would declare, and its network as it would vote: to try a sigma before it is settled.

    Raises as `assemble`.
    """
    grid = declaration.grid_of(plan)
    made = network.served(source, found, grid, plan.entrance)
    if plan.labelled is not None:
        spec, labels = declaration.input_spec(found, plan, grid), declaration.labels(source, found, plan)
        learn.check_order(plan.labelled.choice, spec, labels, made.run)
    return declaration.manifest(made, plan, grid, "1", batch_rows.TRIED[0]), noisy_run(made.run)


def _settled(source: Source, found: Found, plan: Plan, grid: Grid, lattice: NDArray[np.int32]) -> _Settled:
    spec, labels = declaration.input_spec(found, plan, grid), declaration.labels(source, found, plan)
    data = _enough(plan)
    scored = data is not None or grades.CLAIM in plan.options.also
    accurate = voting = network.compared(source, found, grid, plan.entrance, lattice, scored=scored)
    if plan.robust is not None:
        network.check_alike(source, found, *plan.robust)
        voting = network.compared(*plan.robust, grid, plan.entrance, lattice, scored=scored)
    if plan.expected is not None:
        check_expected(source, accurate.found, plan.entrance, plan.samples, plan.expected)
    if plan.labelled is not None:
        _check_labelled(plan.labelled, spec, labels, accurate, voting)
    for each in (accurate, voting):
        declaration.check_confident(each, plan)
    # What a manifest refuses is refused now, and not behind the walks over the data.
    declaration.manifest(accurate, plan, grid, "1", plan.options.batch_rows or SLICE)
    return _Settled(plan=plan, grid=grid, spec=spec, labels=labels, data=data, accurate=accurate, voting=voting)


def _check_labelled(
    rows: Labelled, spec: InputSpec, labels: tuple[str, ...], accurate: ServedNetwork, voting: ServedNetwork
) -> None:
    """Something of the rows comes through both networks, and their labels stand in the networks' order."""
    held_out = rows.held_out
    some, _ = next(lattices(held_out.every(max(1, len(held_out) // _TRIED)), spec, _TRIED))
    check_varies(accurate.source.name, some, accurate.plainly(some), "held-out rows")
    for each in (accurate, voting):
        learn.check_order(rows.choice, spec, labels, each.run)


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


def _served(settled: _Settled, law: Law, work: float) -> _ServedGraphs:
    """The graphs, once a score is learnt where there are data for one; a noisy row takes `work` multiplications."""
    plan, accurate, voting = settled.plan, settled.accurate, settled.voting
    rows = batch_rows.chosen(voting.made.graph, voting.found.shape, work, plan.tell, plan.options.batch_rows)
    learnt = _learnt(settled, law, rows)
    one = learnt is None and plan.robust is None  # one graph in both roles
    base = accurate.made.graph if one else score_graph.base(accurate.made)
    noisy = learnt.graph if learnt else base if one else score_graph.votes(voting.made)
    thresholds = _thresholds(settled, law, work)
    if thresholds:
        noisy = grades.graded(noisy, voting.made.graph, thresholds, len(settled.labels))
        base = noisy if one else base
    run = open_graph(noisy, f"{accurate.source.name}, as it would be served under noise,")
    graded = in_batches(noisy_run(run), rows)
    return _ServedGraphs(
        base=base,
        noisy=noisy,
        rows=rows,
        learnt=learnt,
        thresholds=thresholds,
        graded=graded,
        under_noise=without_grades(graded, len(settled.labels)),
    )


def _thresholds(settled: _Settled, law: Law, work: float) -> tuple[float, ...]:
    """Where confidence is claimed, what it is compared with: chosen on held-out rows, or on the samples."""
    plan = settled.plan
    if grades.CLAIM not in plan.options.also:
        return ()
    rows = _GRADED if work <= _HEAVY else _GRADED // 8
    if plan.labelled is None:
        lattice = settled.grid.integers(plan.samples[:: max(1, len(plan.samples) // rows)][:rows])
    else:
        held_out = plan.labelled.held_out
        lattice, _ = next(lattices(held_out.every(max(1, len(held_out) // rows)), settled.spec, rows))
    seen = grades.confidences(settled.voting.run, lattice, law, SLICE)
    found = grades.chosen(seen)
    plan.tell(f"confidence: mean {float(np.mean(seen)):.3f} in the voted label under noise; thresholds {found}")
    return found


def _learnt(settled: _Settled, law: Law, rows: int) -> Learnt | None:
    if settled.data is None:
        return None
    plan, voting = settled.plan, settled.voting
    given = score_graph.scorable(voting.made, voting.found)
    work = None if plan.options.work is None else Path(plan.options.work)
    return learn.learn(
        given,
        settled.data,
        settled.spec,
        settled.labels,
        law,
        rows,
        score=plan.options.score,
        work=work,
        tell=plan.tell,
    )


def _with_two_sides(settled: _Settled, served: _ServedGraphs, law: Law) -> Plan:
    """The plan, with two-sided bounds where they reach farther on held-out rows; how far they reach is told."""
    plan = settled.plan
    if settled.data is None or len(settled.labels) == 2:
        return plan
    mixed = declaration.mixture(settled.accurate.found, plan)
    found = two_sides.from_held_out(
        settled.data.held_out,
        settled.spec,
        law,
        served.under_noise,
        alpha=Defaults.model_fields["alpha"].default,
        split=declaration.claims(plan, None, detecting=True).split(),
        labels=len(settled.labels),
        robust_weight=mixed.robust_weight if mixed else None,
    )
    asked = "two_sided" in plan.options.also
    why = (
        "as asked for" if asked else "for they reach farther" if found.pays else "for they reach no farther to speak of"
    )
    plan.tell(f"two-sided bounds: {found}; {'declared' if asked or found.pays else 'left out'}, {why}")
    if asked or not found.pays:
        return plan
    return replace(plan, options=replace(plan.options, also=(*plan.options.also, "two_sided")))


def _prior(settled: _Settled, served: _ServedGraphs, law: Law) -> PriorSpec | None:
    """A prior of the votes, where it saves draws on held-out rows, or is asked for; what it saves is told."""
    plan, data, learnt = settled.plan, settled.data, served.learnt
    if data is None or learnt is None:
        return None
    alpha, made = Defaults.model_fields["alpha"].default, declaration.claims(plan, None, detecting=True)
    asked = foresee.PriorAim(
        radius=scale(law.at(np.zeros(settled.spec.shape, np.int32)).guarantee) / 2,
        alpha=alpha,
        split=made.split(),
        labels=len(settled.labels),
        two_sided=bool(made.of_class.two_sided),
    )
    prior, worth = foresee.from_held_out(
        data.held_out, settled.spec, learnt.calibration, law, served.under_noise, settled.accurate.plainly, asked
    )
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


def _put_in_place(
    settled: _Settled,
    served: _ServedGraphs,
    prior: PriorSpec | None,
    law: Law,
    golden: Golden,
    faults: Faults,
) -> Bundle:
    """The bundle as its next version, once it is proven as serving would. Raises `SourceError`, and leaves nothing then."""
    plan, accurate, learnt = settled.plan, settled.accurate, served.learnt
    folder = plan.out / plan.name
    folder.mkdir(parents=True, exist_ok=True)
    version = next_version(folder)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as made_in:
        place = Path(made_in) / version
        bundle = write(
            place,
            declaration.manifest(
                accurate,
                plan,
                settled.grid,
                version,
                served.rows,
                learnt,
                prior,
                served.noisy,
                served.thresholds or declaration.SOME,
            ),
            base=served.base,
            noisy=served.noisy,
            noise=law.tensors,
            golden=golden,
            calibration=None if learnt is None else learnt.calibration.scores,
            others={ORIGINAL: accurate.source.original}
            | ({ROBUST: settled.voting.source.original} if plan.robust else {}),
        )
        wrong = faults(place)
        if wrong:
            raise SourceError(
                f"{accurate.source.name} is not written, since it could not be served: {'; '.join(wrong)}"
            )
        shutil.move(place, folder / version)
    return bundle
