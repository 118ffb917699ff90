"""From records to figures: accuracy, certified accuracy against radius, abstention, detection, calibration. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from export.build.outside import aupr, auroc, far_at_tpr_ood95, miss_at_tpr_id95
from export.evaluation import band
from export.evaluation.band import Between
from export.evaluation.records import TEST, Record

BINS = 15
Line = Literal["smoothed", "mixture", "joint"]
"""What may be right and certified: the smoothed class, the mixture's, or a class together with being in distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoothed:
    """One classifier under attack: the share of rows that are right and certified at each radius, all radii at once."""

    certified: list[Between]
    mean_radius: float
    abstained: Between


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """The joint label on ordinary rows: right is the row's class together with being in distribution, and `out` is the share
    that is certified to be out, which is neither right nor abstained.
    """

    smoothed: Smoothed
    out: Between


@dataclass(frozen=True, slots=True, kw_only=True)
class Sure:
    """What is proven of the mean confidence in the certified class under noise, on average over the `rows` with a certified
    one: everywhere in its ball, and at the input itself. Not how often that class is right.
    """

    rows: int
    in_ball: float
    at_input: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OfLabel:
    """The rows of one label; its band is that label's alone."""

    label: str
    rows: int
    accuracy: float
    smoothed: Smoothed


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """How a foreign set scores against the ordinary rows. No polarity is taken for granted: each name says which.

    `far_at_tpr_ood95`: share of ordinary rows flagged where 95 % of the foreign are. `miss_at_tpr_id95`: share of foreign
    rows missed where 95 % of the ordinary are kept. `aupr_out` takes foreign rows as positive, `aupr_in` ordinary ones.
    `certified_auroc` takes each foreign row at the lower bound of its score within the bundle's radius: no attack within it
    brings the smoothed score lower. `flagged`: beyond the threshold; `certified_out`: proven to stay beyond it.
    """

    name: str
    rows: int
    auroc: float
    aupr_out: float
    aupr_in: float
    far_at_tpr_ood95: float
    miss_at_tpr_id95: float
    certified_auroc: float
    flagged: Between
    certified_out: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """The detector on ordinary rows: false alarms beside what was claimed of them, and how often a verdict is proven."""

    claimed_alarms: float
    false_alarms: Between
    small_p_values: Between
    certified_in: float
    outside: list[Outside]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFigures:
    """How far printed probabilities are from what comes true.

    `error` is the expected calibration error of Guo et al. (2017): rows fall into 15 bins of equal width by the largest
    probability p; it is the mean over rows of the distance between a bin's accuracy and its mean p. `confidence` is the
    mean p over all rows.
    """

    error: float
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """The base network under a search: the share of rows still right, an upper bound of what stands any attack."""

    radius: float
    rows: int
    clean: float
    accuracy: Between


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that one evaluation measured; radii in the caller's units, shares of all rows of the test set."""

    run: Mapping[str, object]
    sigma: float
    confidence: float
    radii: list[float]
    rows: int
    accuracy: Between
    smoothed: Smoothed
    mixture_accuracy: Between | None
    mixed: Smoothed | None
    joint: Joint | None
    sure: Sure | None
    labels: list[OfLabel]
    detection: Detection | None
    base_calibration: CalibrationFigures | None
    mixture_calibration: CalibrationFigures | None
    attacked: Attacked | None
    mean_draws: float
    lost_draws: int
    warnings: list[str]


def figures(
    records: Sequence[Record],
    labels: Sequence[str],
    *,
    run: Mapping[str, object],
    sigma: float,
    radii: Sequence[float],
    confidence: float,
    target_tpr: float | None,
    attacked: Attacked | None = None,
    warnings: Sequence[str] = (),
) -> Figures:
    """The figures of all records of a run; those of the set `test` have labels. `target_tpr` is None without a detector."""
    test = [each for each in records if each.of == TEST]
    mixes = any(each.mixture >= 0 for each in test)
    return Figures(
        run=run,
        sigma=sigma,
        confidence=confidence,
        radii=list(radii),
        rows=len(test),
        accuracy=_share([each.base == each.label for each in test], confidence),
        smoothed=_smoothed(test, radii, confidence),
        mixture_accuracy=_share([each.mixture == each.label for each in test], confidence) if mixes else None,
        mixed=_smoothed(test, radii, confidence, "mixture") if mixes else None,
        joint=_joint(test, radii, confidence),
        sure=_sure(test),
        labels=[_of_label(test, place, name, radii, confidence) for place, name in enumerate(labels)],
        detection=None if target_tpr is None else _detection(records, test, 1 - target_tpr, confidence),
        base_calibration=_calibrated([(each.confidence, each.base == each.label) for each in test]),
        mixture_calibration=_calibrated([(each.mixture_confidence, each.mixture == each.label) for each in test]),
        attacked=attacked,
        mean_draws=float(np.mean([each.draws for each in test])),
        lost_draws=sum(each.lost for each in records),
        warnings=list(warnings),
    )


def worth(records: Sequence[Record], line: Line = "smoothed") -> NDArray[np.float64]:
    """For each row the radius within which it is right and certified; -1 where it is not."""
    pairs = [_certified(each, line) for each in records]
    return np.array(
        [radius if label == each.label else -1.0 for (label, radius), each in zip(pairs, records, strict=True)]
    )


def _certified(record: Record, line: Line) -> tuple[int, float]:
    match line:
        case "smoothed":
            return record.certified, record.radius
        case "mixture":
            return record.mixed, record.mixed_radius
        case "joint":
            return record.joint, record.joint_radius


def _is_out(record: Record) -> bool:
    return record.joint_verdict == "out_of_distribution"


def _joint(rows: Sequence[Record], radii: Sequence[float], confidence: float) -> Joint | None:
    if all(each.joint_verdict is None for each in rows):
        return None
    out = _share([_is_out(each) for each in rows], confidence)
    return Joint(smoothed=_smoothed(rows, radii, confidence, "joint"), out=out)


def _sure(rows: Sequence[Record]) -> Sure | None:
    told = [(each.sure, each.sure_at_input) for each in rows if each.sure is not None]
    if not told:
        return None
    in_ball, at_input = np.mean(np.array(told, dtype=float), axis=0)
    return Sure(rows=len(told), in_ball=float(in_ball), at_input=float(at_input))


def _smoothed(rows: Sequence[Record], radii: Sequence[float], confidence: float, line: Line = "smoothed") -> Smoothed:
    values = worth(rows, line)
    abstained = [_certified(each, line)[0] < 0 and not (line == "joint" and _is_out(each)) for each in rows]
    return Smoothed(
        certified=band.curve(values, radii, confidence),
        mean_radius=float(np.mean(np.maximum(values, 0.0))) if len(rows) else 0.0,
        abstained=_share(abstained, confidence),
    )


def _of_label(test: Sequence[Record], place: int, name: str, radii: Sequence[float], confidence: float) -> OfLabel:
    rows = [each for each in test if each.label == place]
    right = sum(each.base == place for each in rows)
    return OfLabel(
        label=name,
        rows=len(rows),
        accuracy=right / max(1, len(rows)),
        smoothed=_smoothed(rows, radii, confidence),
    )


def _detection(records: Sequence[Record], test: Sequence[Record], far: float, confidence: float) -> Detection | None:
    scored = [each for each in test if each.flagged is not None]
    if not scored:
        return None
    inside = _scores(scored)
    names = list(dict.fromkeys(each.of for each in records if each.of != TEST))
    sets = [(name, [each for each in records if each.of == name and each.flagged is not None]) for name in names]
    return Detection(
        claimed_alarms=far,
        false_alarms=_share([bool(each.flagged) for each in scored], confidence),
        small_p_values=_share([each.p_value is not None and each.p_value <= far for each in scored], confidence),
        certified_in=float(np.mean([each.verdict == "in_distribution" for each in scored])),
        outside=[_outside(name, rows, inside, confidence) for name, rows in sets if rows],
    )


def _outside(name: str, rows: Sequence[Record], inside: NDArray[np.float64], confidence: float) -> Outside:
    scores = _scores(rows)
    lowest = np.array([-np.inf if each.score_lower is None else each.score_lower for each in rows])
    return Outside(
        name=name,
        rows=len(rows),
        auroc=auroc(inside, scores),
        aupr_out=aupr(inside, scores),
        aupr_in=aupr(-scores, -inside),
        far_at_tpr_ood95=far_at_tpr_ood95(inside, scores),
        miss_at_tpr_id95=miss_at_tpr_id95(inside, scores),
        certified_auroc=auroc(inside, lowest),
        flagged=_share([bool(each.flagged) for each in rows], confidence),
        certified_out=float(np.mean([each.verdict == "out_of_distribution" for each in rows])),
    )


def _calibrated(pairs: Sequence[tuple[float | None, bool]]) -> CalibrationFigures | None:
    known = [(each, right) for each, right in pairs if each is not None]
    if not known:
        return None
    confidence, right = np.array([each for each, _ in known]), np.array([right for _, right in known], dtype=float)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return CalibrationFigures(
        error=float(np.abs(gaps).sum() / len(known)),
        confidence=float(confidence.mean()),
        accuracy=float(right.mean()),
    )


def _scores(rows: Sequence[Record]) -> NDArray[np.float64]:
    """Of rows with a verdict; a score that is no number is the farthest there is."""
    return np.array([np.inf if each.score is None else each.score for each in rows], dtype=np.float64)


def _share(hits: Sequence[bool], confidence: float) -> Between:
    return band.share(sum(hits), len(hits), confidence)
