"""The figures of a bundle on labelled data: accuracy, certified accuracy, mixture, detection, false alarms.

Certification follows the literature, not the server's default, so that rows can be compared: 100 draws choose a class,
1,000 fresh draws bound it (Clopper-Pearson, Cohen et al. 2019). Everything runs through the bundle's own graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certify.bounds import binomial
from certify.claims.certificate import Certificate, LowerBound, certifying
from certify.claims.counts import Counts
from certify.mixture import mix
from certify.ood import conformal
from export.build.outside import auroc
from export.build.passes import BATCH, BaseRun, Drawn, draw_rows
from export.bundle import Bundle
from export.bundle.batches import NoisyRun

ALPHA = 0.001
CHOOSING, BOUNDING = 100, 1_000
_TOP = 255
RADII = (0.0, 0.25, 0.5, 0.75, 1.0)


class EvaluationError(ValueError):
    """A bundle cannot be measured on this data; the message says what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoothed:
    """One classifier under attack: its accuracy, and the share that is right and certified at each of `RADII`."""

    accuracy: float
    certified: tuple[float, ...]
    mean_radius: float
    abstained: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """How a set of foreign pictures scores: AUROC against the ordinary ones, and the share beyond the threshold."""

    pictures: int
    auroc: float
    flagged: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that one evaluation measured. Accuracies are shares of all pictures, certified ones of a part of them."""

    model: str
    sigma: float
    pictures: int
    base_accuracy: float
    robust_accuracy: float
    one_draw_accuracy: float
    certified_pictures: int
    base_accuracy_there: float
    smoothed: Smoothed
    robust_weight: float | None
    mixed: Smoothed | None
    claimed_alarms: float
    false_alarms: float
    small_p_values: float
    outside: Mapping[str, Outside]


def shaped(pictures: NDArray[np.uint8], bundle: Bundle, source: str) -> NDArray[np.uint8]:
    """Pictures [n, height, width] from `source` as inputs [n, 1, height, width] of the bundle."""
    spec = bundle.manifest.input
    if not len(pictures) or spec.shape != (1, *pictures.shape[1:]) or spec.top != _TOP:
        raise EvaluationError(
            f"{source} holds {len(pictures)} pictures of shape {list(pictures.shape[1:])}, values 0 to {_TOP}; {bundle.key}"
            f" takes inputs of shape {list(spec.shape)}, values 0 to {spec.top}"
        )
    return pictures[:, None]


def evaluate(
    bundle: Bundle,
    noisy: NoisyRun,
    base: BaseRun,
    images: NDArray[np.integer],
    labels: NDArray[np.integer],
    outside: Mapping[str, NDArray[np.integer]],
    *,
    every: int = 20,
    quiet: bool = False,
) -> Figures:
    """Measure a bundle on pictures [n, *shape] of the model's own kind, every `every`-th of them for certification."""
    spec = bundle.manifest
    if bundle.detector is None or spec.ood is None:
        raise EvaluationError(f"{bundle.key} has no out-of-distribution score to evaluate")
    if labels.max(initial=0) >= len(spec.labels):
        raise EvaluationError(
            f"the data set has {labels.max() + 1} labels or more; {bundle.key} has {len(spec.labels)}"
        )
    probabilities = np.concatenate([base(part) for part in _parts(images)])
    some, truth = images[::every], labels[::every]
    certificates, counts = certify_rows(bundle, noisy, some, quiet=quiet)
    drawn = draw_rows(images, bundle.noise, noisy, "test", spec.ood.score_draws, quiet=quiet)
    scores, threshold = drawn.median_scores(), spec.ood.threshold
    p_values = np.array([conformal.p_value(bundle.detector.calibration, score) for score in scores])
    weight = spec.mixture.robust_weight if spec.mixture else None
    return Figures(
        model=f"{spec.name}/{spec.version}",
        sigma=spec.noise.sigma,
        pictures=len(images),
        base_accuracy=_share(probabilities.argmax(axis=1) == labels),
        robust_accuracy=_share(np.concatenate([noisy(part)[0] for part in _parts(images)]) == labels),
        one_draw_accuracy=_share(drawn.votes[:, 0] == labels),
        certified_pictures=len(some),
        base_accuracy_there=_share(probabilities[::every].argmax(axis=1) == truth),
        smoothed=_smoothed(certificates, counts, truth),
        robust_weight=weight,
        mixed=None if weight is None else _mixed(certificates, counts, probabilities[::every], truth, weight),
        claimed_alarms=1 - spec.ood.target_tpr,
        false_alarms=_share(scores > threshold),
        small_p_values=_share(p_values <= 1 - spec.ood.target_tpr),
        outside={
            name: _outside(
                draw_rows(pictures, bundle.noise, noisy, name, spec.ood.score_draws, quiet=quiet), scores, threshold
            )
            for name, pictures in outside.items()
        },
    )


def certify_rows(
    bundle: Bundle, noisy: NoisyRun, images: NDArray[np.integer], *, quiet: bool = False
) -> tuple[list[Certificate], list[Counts]]:
    """Cohen's procedure on each image: the certificate, and the counts of the draws that bounded it."""
    drawn = draw_rows(images, bundle.noise, noisy, "certification", CHOOSING + BOUNDING, quiet=quiet)
    classes = len(bundle.manifest.labels)
    choosing = Drawn(drawn.votes[:, :CHOOSING], drawn.scores).counts(classes).argmax(axis=1)
    bounding = Drawn(drawn.votes[:, CHOOSING:], drawn.scores).counts(classes)
    counts = [Counts(draws=BOUNDING, votes=tuple(row.tolist())) for row in bounding]
    return [_certificate(bundle, int(c), each) for c, each in zip(choosing, counts, strict=True)], counts


def _certificate(bundle: Bundle, chosen: int, counts: Counts) -> Certificate:
    complement = binomial.clopper_pearson_complement(counts.draws, counts.votes[chosen], ALPHA)
    law = bundle.law.at(np.zeros(bundle.manifest.input.shape, dtype=np.int32)).guarantee
    charged = min(1.0, complement + law.charge)
    bound = certifying(LowerBound(class_index=chosen, complement=charged, draws=counts.draws, alpha=ALPHA))
    return Certificate(
        status="certified" if bound else "undecided",
        procedure="choose-then-bound",
        law=law,
        bound=bound,
        p_b_upper=charged,
        draws=counts.draws,
        lost=0,
    )


def _smoothed(certificates: list[Certificate], counts: list[Counts], truth: NDArray[np.integer]) -> Smoothed:
    labels = [each.leader() for each in counts]
    certified = [-1 if each.class_index is None else each.class_index for each in certificates]
    return _figures(labels, certified, [each.radius for each in certificates], truth)


def _mixed(
    certificates: list[Certificate],
    counts: list[Counts],
    probabilities: NDArray[np.float32],
    truth: NDArray[np.integer],
    weight: float,
) -> Smoothed:
    rows = zip(certificates, counts, probabilities, strict=True)
    mixed = [mix.mix(certificate, count, accurate, weight) for certificate, count, accurate in rows]
    certified = [each.class_index if each.radius > 0 else -1 for each in mixed]
    return _figures([each.class_index for each in mixed], certified, [each.radius for each in mixed], truth)


def _figures(labels: list[int], certified: list[int], radii: list[float], truth: NDArray[np.integer]) -> Smoothed:
    right = np.array(certified) == truth
    return Smoothed(
        accuracy=_share(np.array(labels) == truth),
        certified=tuple(_share(right & (np.array(radii) >= radius)) for radius in RADII),
        mean_radius=float(np.mean(np.where(right, radii, 0.0))),
        abstained=_share(np.array(certified) < 0),
    )


def _outside(drawn: Drawn, inside: NDArray[np.float64], threshold: float) -> Outside:
    scores = drawn.median_scores()
    return Outside(pictures=len(scores), auroc=auroc(inside, scores), flagged=_share(scores > threshold))


def _share(hits: NDArray[np.bool_]) -> float:
    return float(np.mean(hits))


def _parts(images: NDArray[np.integer]) -> list[NDArray[np.int32]]:
    return [images[start : start + BATCH].astype(np.int32) for start in range(0, len(images), BATCH)]


def markdown(figures: Figures) -> str:
    """The figures as Markdown tables, ready for a README."""
    blocks = [_accuracy_table(figures), _outside_table(figures), _alarm_lines(figures)]
    return "\n\n".join(blocks) + "\n"


def _accuracy_table(figures: Figures) -> str:
    radii = " | ".join(f"certified {radius:g}" for radius in RADII)
    empty = " | ".join("-" for _ in RADII)
    lines = [
        f"{figures.model}, sigma {figures.sigma:g}: the first two rows on {figures.pictures:,} pictures, the others on"
        f" {figures.certified_pictures:,} (accurate network there: {figures.base_accuracy_there:.3f});"
        f" {CHOOSING} draws choose, {BOUNDING:,} fresh draws bound, alpha {ALPHA:g}.",
        "",
        f"| | accuracy | {radii} | mean radius | abstained |",
        "|-|" + "-|" * (len(RADII) + 3),
        f"| accurate network, no noise | {figures.base_accuracy:.3f} | {empty} | - | - |",
        f"| robust network, no noise / one draw | {figures.robust_accuracy:.3f} / {figures.one_draw_accuracy:.3f}"
        f" | {empty} | - | - |",
        _row("smoothed", figures.smoothed),
    ]
    if figures.mixed:
        lines.append(_row(f"mixture, robust weight {figures.robust_weight:g}", figures.mixed))
    return "\n".join(lines)


def _row(name: str, row: Smoothed) -> str:
    certified = " | ".join(f"{share:.3f}" for share in row.certified)
    return f"| {name} | {row.accuracy:.3f} | {certified} | {row.mean_radius:.3f} | {row.abstained:.3f} |"


def _outside_table(figures: Figures) -> str:
    rows = [
        f"| {name} | {each.pictures:,} | {each.auroc:.3f} | {each.flagged:.3f} |"
        for name, each in figures.outside.items()
    ]
    return "\n".join(["| outside set | pictures | AUROC | flagged |", "|-|-|-|-|", *rows])


def _alarm_lines(figures: Figures) -> str:
    return (
        f"False alarms on {figures.pictures:,} test pictures: {figures.false_alarms:.4f} beyond the threshold"
        f" (claimed: at most {figures.claimed_alarms:g}); {figures.small_p_values:.4f} with"
        f" p <= {figures.claimed_alarms:g}."
    )
