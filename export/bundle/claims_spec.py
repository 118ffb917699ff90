"""What a bundle states of its inputs, and how one alpha is shared by the statements of one answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field, model_validator

from certify.bounds.anytime import MAX_DRAWS
from certify.bounds.prior import PriorTable
from certify.claims.certificate import AlphaSplit
from certify.claims.confidence import check_thresholds
from certify.mixture.mix import WeightRange
from certify.ood.scores import SCORES
from export.bundle.schema import Positive, Strict, Text

DrawCount = Annotated[int, Field(gt=0, le=MAX_DRAWS)]
ShareOfAlpha = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(gt=0, lt=1)]


class ClaimSpec(Strict):
    """A statement that answers make, with the share of alpha that bounds its being false."""

    alpha: ShareOfAlpha


class PriorSpec(Strict):
    """What the base pass tells of the votes, see `certify.bounds.prior`: it saves draws where it is right, and costs few
    where it is not; what is claimed holds either way.

    Edges of the margin of the base pass, the largest number less the second, make one cell more than there are edges;
    `weights` has, for each, those of the `atoms`: how rare misses are, as parts of what a radius allows.
    """

    atoms: Annotated[tuple[float, ...], Field(strict=False)]
    margin_edges: Annotated[tuple[float, ...], Field(strict=False)]
    weights: Annotated[tuple[Annotated[tuple[float, ...], Field(strict=False)], ...], Field(strict=False)]

    def table(self) -> PriorTable:
        """The table as bounds take it; raises `ValueError` where it is none."""
        cells = tuple((each,) for each in self.weights)
        return PriorTable(atoms=self.atoms, margin_edges=self.margin_edges, score_edges=(), weights=cells)

    @model_validator(mode="after")
    def _is_one(self) -> PriorSpec:
        self.table()
        return self


class ClassClaim(ClaimSpec):
    """The claim of the smoothed class; without a `prior` its bounds expect nothing of an input.

    `two_sided` says that the class is compared with the best of the others instead of with one half, see
    `certify.claims.two_sided`: it reaches farther where there are many classes over which misses spread. The share of
    `upper` is then for two classes, half each, and refuting a target takes more draws.
    """

    prior: PriorSpec | None = None
    two_sided: Literal[True] | None = None


class GradedClaim(ClaimSpec):
    """The claim of the mean confidence in the certified class, see `certify.claims.confidence`: in the noisy graph each vote
    has a grade, how many of the `thresholds` the voted label's own probability exceeds there.
    """

    alpha: Annotated[float, Field(gt=0, le=1)]
    thresholds: Annotated[tuple[float, ...], Field(strict=False)]

    @model_validator(mode="after")
    def _rises(self) -> GradedClaim:
        check_thresholds(self.thresholds)
        return self


class ClaimsSpec(Strict):
    """The statements of one answer by name; what is not named is not claimed. Their shares sum to 1 at most.

    `class`: the smoothed class. `upper`: how probable it is at most, for refutations and `precision`. `threshold`: on which
    side of the threshold the score lies. `interval`: both ends of the score. `joint`: the class together with the side of
    the threshold, as one label. `confidence`: the mean confidence in the certified class. Another claim is one field more,
    and where it has parameters, a class derived from `ClaimSpec`.
    """

    of_class: Annotated[ClassClaim, Field(alias="class")]
    upper: ClaimSpec | None = None
    threshold: ClaimSpec | None = None
    interval: ClaimSpec | None = None
    joint: ClaimSpec | None = None
    confidence: GradedClaim | None = None

    @model_validator(mode="after")
    def _bounds_others(self) -> ClaimsSpec:
        if self.of_class.two_sided and not _share(self.upper):
            raise ValueError(
                "claims.class.two_sided needs claims.upper, whose alpha is that of the other classes' bounds"
            )
        return self

    def split(self) -> AlphaSplit:
        """The shares as the procedures take them; raises `ValueError` if they sum to more than one."""
        others = map(_share, (self.upper, self.threshold, self.interval, self.joint, self.confidence))
        return _split(self.of_class.alpha, *others)


@lru_cache(maxsize=256)
def _split(
    of_class: float, upper: float, threshold: float, interval: float, joint: float, confidence: float
) -> AlphaSplit:
    """Made once for the same shares, for every request asks."""
    return AlphaSplit(
        of_class=of_class,
        of_upper=upper,
        of_threshold=threshold,
        of_interval=interval,
        of_joint=joint,
        of_confidence=confidence,
    )


def claims(
    *,
    of_class: float,
    upper: float = 0.0,
    threshold: float = 0.0,
    interval: float = 0.0,
    joint: float = 0.0,
    confidence: float = 0.0,
    thresholds: tuple[float, ...] = (),
    prior: PriorSpec | None = None,
    two_sided: bool = False,
) -> ClaimsSpec:
    """The claims with these shares of alpha; one without a share is not made. `thresholds` are those of `confidence`."""
    shares = {"upper": upper, "threshold": threshold, "interval": interval, "joint": joint}
    made = {name: ClaimSpec(alpha=share) for name, share in shares.items() if share}
    graded = GradedClaim(alpha=confidence, thresholds=thresholds) if confidence else None
    one = ClassClaim(alpha=of_class, prior=prior, two_sided=two_sided or None)
    return ClaimsSpec(of_class=one, confidence=graded, **made)


FURTHER: dict[str, dict[str, float]] = {
    "joint": {"of_class": -0.1, "joint": 0.1},
    "two_sided": {},
    "alarm": {},
    "confidence": {"of_class": -0.1, "confidence": 0.1},
}
"""What each claim that is made on demand alone moves between the shares of the others: it takes its own from one of them.
Two-sided bounds divide the share of `upper`; an alarm has none, see `certify.ood.robust_alarm`."""


def with_further(shares: Mapping[str, float], also: Iterable[str]) -> dict[str, float]:
    """The shares of a bundle, as `claims` takes them, that makes further claims as well."""
    moves = [FURTHER[name] for name in also]
    names = {**shares, **{name: 0.0 for move in moves for name in move}}
    # Decimal as they are declared, so that a manifest does not say 0.30000000000000004.
    return {name: round(shares.get(name, 0.0) + sum(move.get(name, 0.0) for move in moves), 9) for name in names}


def _share(claim: ClaimSpec | None) -> float:
    return 0.0 if claim is None else claim.alpha


class ArgmaxRule(Strict):
    """The most probable label decides."""

    rule: Literal["argmax"]


class AlarmSpec(Strict):
    """An alarm that stays rare under attack, see `certify.ood.robust_alarm`: a clean input perturbed by at most `radius` is
    flagged with probability at most `far + of_median + of_bound`, which has nothing to do with alpha.
    """

    far: Level
    radius: Positive
    of_median: Level
    of_bound: Level


class OodSpec(Strict):
    """The score's definition, its calibration and the radius at which it is certified. In-distribution is positive.

    `score` is a name of the registry `certify.ood.scores`; `normalised` says that it is the form on unit features (`++`).
    `threshold` is the score that the calibration gives at `target_tpr` and `eta`, to the last bit.
    """

    score: Text
    normalised: bool
    score_draws: Literal[32]
    target_tpr: Annotated[float, Field(gt=0, lt=1)]
    eta: Annotated[float, Field(gt=0, lt=1)]
    threshold: float
    radius: Positive
    alarm: AlarmSpec | None = None

    @property
    def name(self) -> str:
        """The score's name in the registry."""
        return self.score + ("++" if self.normalised else "")

    @model_validator(mode="after")
    def _registered(self) -> OodSpec:
        if self.name not in SCORES:
            raise ValueError(f"score {self.name!r} is not known; expected one of {', '.join(SCORES)}")
        return self


class MixtureSpec(Strict):
    """The weight of the robust network in the mixture.

    With `most_weight` it depends on the input: the base graph gives it, between `robust_weight` and this. What is certified
    is certified by its minimum, `robust_weight`.
    """

    robust_weight: Annotated[float, Field(ge=0.5, le=1)]
    most_weight: Annotated[float, Field(ge=0.5, le=1)] | None = None

    @property
    def declared(self) -> WeightRange | None:
        """The range of a weight that depends on the input; None for a fixed one."""
        return None if self.most_weight is None else WeightRange(minimum=self.robust_weight, maximum=self.most_weight)

    @model_validator(mode="after")
    def _ranges(self) -> MixtureSpec:
        if self.most_weight is not None and self.most_weight < self.robust_weight:
            raise ValueError("mixture.most_weight must not be below mixture.robust_weight")
        return self


class Defaults(Strict):
    """What a request gets that does not say otherwise."""

    target_radius: Annotated[float, Field(ge=0)]
    alpha: Annotated[float, Field(ge=1e-12, le=0.5)] = 0.001
    max_draws: DrawCount = 10_000
    deadline_ms: Annotated[int, Field(gt=0, le=86_400_000)] = 10_000
