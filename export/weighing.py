"""A weight of the mixture that is learnt, by input: trained, put into the base graph, and certified by its minimum.

The mixture `(1 - w) g + w h` keeps the label y wherever `h_y - h_i > (1 - w) / w` for all other i, whatever the accurate g
says. `(1 - w) / w` falls in w. So where `w(x) >= m` at *every* x, what holds for the fixed weight m holds for w(x), and at
x + d, where the weight is another, too. Certified is therefore what the fixed weight m certifies; what is learnt moves the
accuracy of the labels that are not certified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from certify.bounds import binomial
from certify.mixture.mix import WeightRange
from certify.smoothing.law import scale
from certify.smoothing.margins import needed_alone
from export import data as data_sets
from export.build import versions
from export.build.lattice import label_places, lattices, with_places
from export.build.learn import noisy_run, used
from export.build.passes import draw_rows
from export.build.served_pictures import decode_for
from export.build.versions import Faults
from export.build.weight_graph import Weighable, Weighing, features, weighable, weighted
from export.bundle import Bundle, Manifest, MixtureSpec, load
from export.bundle.batches import in_batches, without_grades
from export.data import Dataset
from export.evaluation.sigma import CHOOSING
from export.progress import ProgressBar, progress
from export.sources.running import GraphRun, open_graph
from export.sources.source import SourceError

OfRows = NDArray[np.float64]
MINIMA = (0.6, 0.7, 0.8, 0.9)
"""Of the table, beside the one that is asked for."""
IN_SIGMAS = (1.0, 2.0)
_FINE = tuple(round(0.5 + each / 100, 2) for each in range(1, 51))
"""Fixed weights that a learnt one is compared with."""
_TOGETHER, _STEPS, _RATE, _BATCH = 16, 400, 2e-3, 256


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Seen:
    """Of each row: features of both networks, the accurate one's probabilities, vote shares, and the true label.

    `chosen` is the smoothed label, `complement` an upper bound of the probability of all others.
    """

    accurate: NDArray[np.float32]
    robust: NDArray[np.float32]
    probabilities: OfRows
    shares: OfRows
    truth: NDArray[np.int64]
    chosen: NDArray[np.int64]
    complement: OfRows


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One minimum: accuracy with it as the fixed weight and with the learnt one, and what both certify at each radius.

    `equal` is the largest fixed weight that is as accurate as the learnt one, with what that certifies, if there is one.
    """

    minimum: float
    fixed: float
    learnt: float
    certified: tuple[float, ...]
    equal: tuple[float, tuple[float, ...]] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighed:
    """The new bundle, its folder, the curve and its table."""

    bundle: Bundle
    folder: Path
    points: Sequence[CurvePoint]
    table: str

    def lines(self) -> dict[str, list[tuple[float, float]]]:
        """Accuracy and certified accuracy of fixed weights and of the learnt one, at each radius, to be drawn."""
        found: dict[str, list[tuple[float, float]]] = {}
        sigma = scale(self.bundle.manifest.formulas)
        for place, sigmas in enumerate(IN_SIGMAS):
            radius = f"at {sigmas * sigma:.4g}"
            found[f"fixed, {radius}"] = [(each.fixed, each.certified[place]) for each in self.points]
            found[f"learnt, {radius}"] = [(each.learnt, each.certified[place]) for each in self.points]
        return found


def weigh(
    bundle: str | Path,
    *,
    data: str | Path,
    test: str | Path,
    label: str | None = None,
    minimum: float | None = None,
    maximum: float = 1.0,
    version: int | None = None,
    fit_draws: int = 32,
    rows: int = 200,
    draws: int = 1_500,
    faults: Faults | None = None,
) -> Weighed:
    """Learn a weight from `data`, rows that no network was trained on, and write the bundle with it as `version`.

    It ranges from `minimum`, by default the bundle's fixed weight, to `maximum`. `rows` of `test`, which are others, are
    measured with `draws` draws each, at several minima. Raises `SourceError` and its like, and writes nothing then.
    """
    old, number = load(Path(bundle)), versions.free(Path(bundle), version)
    spec = old.manifest.mixture
    if spec is None:
        raise SourceError(f"{old.key} declares no mixture, whose weight could be learnt; export it with labelled data")
    declared = WeightRange(minimum=spec.robust_weight if minimum is None else minimum, maximum=maximum)
    given = weighable(old.base, old.noisy, old.manifest.input.shape)
    decode = decode_for(old.manifest.input)
    everything, others = (data_sets.open(each, label=label, decode=decode) for each in (data, test))
    learnt_from = seen(old, given, everything, fit_draws, "fit")
    judged = seen(old, given, others.every(max(1, len(others) // rows)).first(rows), CHOOSING + draws, "test")
    minima = sorted({*MINIMA, declared.minimum} - {1.0})
    heads = {each: learnt(learnt_from, WeightRange(minimum=each, maximum=maximum)) for each in minima}
    points = [point(judged, heads[each], WeightRange(minimum=each, maximum=maximum), old) for each in minima]
    folder = versions.put(
        Path(bundle),
        old,
        _manifest(old, number, declared, everything),
        base=weighted(given, heads[declared.minimum], declared, len(old.manifest.labels)),
        noisy=old.noisy,
        golden=old.golden,
        calibration=None if old.detector is None else old.detector.calibration,
        faults=faults,
    )
    table = _table(points, old, len(judged.truth), draws, maximum)
    return Weighed(bundle=load(folder), folder=folder, points=points, table=table)


def seen(old: Bundle, given: Weighable, data: Dataset, draws: int, purpose: str) -> Seen:
    """Every row through both networks, and `draws` noisy passes; the first 100, if there are more, choose its label."""
    labels, spec = old.manifest.labels, old.manifest.input
    run_features, run_base = open_graph(features(given), "the features"), open_graph(old.base, "the base graph")
    run = noisy_run(open_graph(old.noisy, "the noisy graph", _outputs(old)))
    noisy = without_grades(in_batches(run, old.manifest.batch_rows), len(labels))
    charge = old.law.at(np.zeros(spec.shape, np.int32)).guarantee.charge
    first = CHOOSING if draws > CHOOSING else 0
    places, start = label_places(data, labels), 0
    kept: list[tuple[NDArray[np.generic], ...]] = []
    bar: ProgressBar[object] = progress(what=purpose, total=len(data), unit="row")
    with bar:
        for lattice, truth in lattices(data, spec, _TOGETHER):
            drawn = draw_rows(lattice, old.law, noisy, purpose, draws, first=start, quiet=True)
            chosen = _counts(drawn.votes[:, : first or draws], len(labels)).argmax(axis=1)
            counts = _counts(drawn.votes[:, first:], len(labels))
            hits = counts[np.arange(len(counts)), chosen]
            bounds = [_complement(draws - first, int(each), old.manifest.defaults.alpha, charge) for each in hits]
            kept.append(
                (
                    *_features(run_features, given, lattice),
                    run_base(lattice)["probabilities"].astype(np.float64),
                    counts / (draws - first),
                    with_places(truth, places),
                    chosen,
                    np.array(bounds),
                )
            )
            start += len(lattice)
            bar.update(len(lattice))
    columns = [np.concatenate(each) for each in zip(*kept, strict=True)]
    return Seen(**dict(zip(Seen.__slots__, columns, strict=True)))


def _outputs(old: Bundle) -> list[str]:
    return ["vote"] if old.manifest.ood is None else ["vote", "score"]


def _features(
    run: GraphRun, given: Weighable, lattice: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    found = run(lattice)
    return found[given.accurate[0]], found[given.robust[0]]


def _counts(votes: NDArray[np.int64], labels: int) -> NDArray[np.int64]:
    return np.stack([(votes == label).sum(axis=1) for label in range(labels)], axis=1)


def _complement(draws: int, hits: int, alpha: float, charge: float) -> float:
    return min(1.0, binomial.clopper_pearson_complement(draws, hits, alpha) + charge)


def learnt(rows: Seen, declared: WeightRange) -> Weighing:
    """The head that makes the mixture's probability of the true label large on these rows."""
    both = np.concatenate([rows.accurate, rows.robust], axis=1).astype(np.float64)
    head = _fresh(both)
    first, second = torch.from_numpy(rows.accurate), torch.from_numpy(rows.robust)
    places = np.arange(len(rows.truth)), rows.truth
    own = torch.from_numpy(np.stack([each[places] for each in (rows.probabilities, rows.shares)], axis=1)).float()
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(head.parameters(), lr=_RATE, weight_decay=1e-2)
    head.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # dropout draws from the global generator
        for _ in range(_STEPS):
            some = torch.randint(len(own), (min(_BATCH, len(own)),), generator=generator)
            weight = declared.minimum + (declared.maximum - declared.minimum) * head(first[some], second[some])
            loss = _loss(own[some], weight)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return head.eval()


def _fresh(both: OfRows) -> Weighing:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Weighing(both.mean(axis=0), both.std(axis=0) + 1e-3)


def _loss(own: Tensor, weight: Tensor) -> Tensor:
    mixed = (1 - weight) * own[:, 0] + weight * own[:, 1]
    return -mixed.clamp_min(1e-3).log().mean()


def point(rows: Seen, head: Weighing, declared: WeightRange, old: Bundle) -> CurvePoint:
    """What the learnt weight and fixed ones are worth on these rows."""
    with torch.no_grad():
        place = head(torch.from_numpy(rows.accurate), torch.from_numpy(rows.robust)).double().numpy()
    weights = np.clip(
        declared.minimum + (declared.maximum - declared.minimum) * place, declared.minimum, declared.maximum
    )
    fixed = _accuracy(rows, np.full(len(weights), declared.minimum), declared.minimum, old)
    accuracy = _accuracy(rows, weights, declared.minimum, old)
    as_good = [each for each in _FINE if _accuracy(rows, np.full(len(weights), each), each, old) >= accuracy]
    equal = (max(as_good), _certified(rows, max(as_good), old)) if as_good else None
    certified = _certified(rows, declared.minimum, old)
    return CurvePoint(minimum=declared.minimum, fixed=fixed, learnt=accuracy, certified=certified, equal=equal)


def _radii(rows: Seen, weight: float, old: Bundle) -> OfRows:
    """Of each row that of the mixture whose weight is at least this everywhere; 0 where nothing is proven."""
    if weight <= 0.5:
        return np.zeros(len(rows.complement))
    guarantee = old.law.at(np.zeros(old.manifest.input.shape, np.int32)).guarantee
    needed = needed_alone(weight)
    return np.array([guarantee.radius(float(each), needed).size for each in rows.complement])


def _accuracy(rows: Seen, weights: OfRows, minimum: float, old: Bundle) -> float:
    """Of the label that is served: the smoothed one where it is certified, else the mixture's largest."""
    mixed = (1 - weights[:, None]) * rows.probabilities + weights[:, None] * rows.shares
    labels = np.where(_radii(rows, minimum, old) > 0, rows.chosen, mixed.argmax(axis=1))
    return float(np.mean(labels == rows.truth))


def _certified(rows: Seen, minimum: float, old: Bundle) -> tuple[float, ...]:
    radii, right, sigma = _radii(rows, minimum, old), rows.chosen == rows.truth, scale(old.manifest.formulas)
    return tuple(float(np.mean(right & (radii > 0) & (radii >= each * sigma))) for each in IN_SIGMAS)


def _manifest(old: Bundle, version: str, declared: WeightRange, data: Dataset) -> Manifest:
    provenance = old.manifest.provenance
    return old.manifest.model_copy(
        update={
            "version": version,
            "description": f"{old.manifest.description}; the weight of the mixture learnt",
            "mixture": MixtureSpec(robust_weight=declared.minimum, most_weight=declared.maximum),
            "provenance": provenance.model_copy(
                update={
                    "data": (*provenance.data, used("weight of the mixture", data)),
                    "notes": provenance.notes | {"weighed_from": old.digest},
                }
            ),
        }
    )


def _table(points: Sequence[CurvePoint], old: Bundle, rows: int, draws: int, maximum: float) -> str:
    sigma = scale(old.manifest.formulas)
    radii = [f"certified {each * sigma:.4g}" for each in IN_SIGMAS]
    lines = [
        f"{rows:,} rows, sigma {sigma:g}, {draws:,} draws bound ({CHOOSING} more choose), alpha"
        f" {old.manifest.defaults.alpha:g}; learnt weights reach from the minimum to {maximum:g}, and certify what the"
        " minimum does. The last columns: the largest fixed weight that is at least as accurate, and what it certifies.",
        "",
        "| minimum | accuracy, fixed | accuracy, learnt | "
        + " | ".join(radii)
        + " | fixed weight as accurate | "
        + " | ".join(radii)
        + " |",
        "|-" * (4 + 2 * len(radii)) + "|",
    ]
    for each in points:
        other = ["none", *["-"] * len(radii)]
        if each.equal is not None:
            other = [f"{each.equal[0]:g}", *(f"{share:.3f}" for share in each.equal[1])]
        cells = [f"{each.minimum:g}", f"{each.fixed:.3f}", f"{each.learnt:.3f}"]
        lines.append("| " + " | ".join([*cells, *(f"{share:.3f}" for share in each.certified), *other]) + " |")
    return "\n".join(lines)
