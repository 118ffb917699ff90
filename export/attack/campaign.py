"""A run of the falsifier: ask for answers, search inside what they claim, judge with fresh draws.

Three chances are kept apart. The judge is wrong somewhere in a run with probability at most `alpha`. An *honest* server
is entitled to `issued_alpha` of false answers: over its key, at most that many of the answers hold a false claim, summed
in `honest_chance`. Ask for a small alpha where a counterexample has to mean a fault.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certify.smoothing.law import Guarantee, scale
from export.attack.ball import GridBall
from export.attack.claims import Aim, Claim, issued
from export.attack.judge import Judgement, judge, level_of
from export.attack.sample import Sample, joined, own_key, passes
from export.attack.search import Ascent, Direction, Purse, search
from export.build.passes import BATCH
from export.bundle import Bundle
from export.bundle.batches import NoisyRun
from export.progress import progress

Answering = Callable[[NDArray[np.integer]], Mapping[str, Any]]
"""One grid input to one `predictions[i]` of the friendly route."""


class AttackError(ValueError):
    """An attack cannot be run as asked; the message says how to mend it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignPlan:
    """How much is spent. `draws` bounds each search, and is what the judge draws at each attacked input."""

    pictures: int = 20
    seconds: float = 600.0
    draws: int = 10_000
    alpha: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pictures < 1 or not self.seconds > 0 or self.draws < BATCH or not 0 < self.alpha < 1 or self.seed < 0:
            raise AttackError(
                f"expected pictures from 1, seconds above 0, draws from {BATCH}, alpha between 0 and 1, seed from 0;"
                f" got {self.pictures}, {self.seconds:g}, {self.draws}, {self.alpha:g}, {self.seed}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One claim of one answer under attack. `distance` is of the attacked input, in the caller's units."""

    picture: int
    claim: str
    statement: str
    radius: float
    distance: float
    verdict: Judgement
    point: list[int]


@dataclass(slots=True, kw_only=True)
class Findings:
    """What a run did and found."""

    model: str
    digest: str
    sigma: float
    plan: CampaignPlan
    searched_by: str
    answers: int = 0
    honest_chance: float = 0.0
    passes: int = 0
    seconds: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def counterexamples(self) -> list[Attempt]:
        """The claims that were proven false."""
        return [each for each in self.attempts if each.verdict.contradicted]

    @property
    def closest(self) -> Attempt | None:
        """The attempt with the smallest proven margin."""
        return min(self.attempts, key=lambda each: each.verdict.proven_margin, default=None)


def shaped(images: NDArray[np.integer], bundle: Bundle) -> NDArray[np.integer]:
    """Pictures [n, height, width] as grid inputs of the bundle."""
    spec = bundle.manifest.input
    if not len(images):
        raise AttackError("the data set holds no picture")
    if images[0].size != spec.size or any(np.any(each.reshape(spec.shape) > spec.tops) for each in images):
        raise AttackError(
            f"pictures of shape {images.shape[1:]} with values up to {images.max()} are no inputs of {bundle.key},"
            f" which takes {spec.shape} of 0 to {spec.tops}"
        )
    return images.reshape(len(images), *spec.shape)


def attack(
    bundle: Bundle,
    noisy: NoisyRun,
    answering: Answering,
    inputs: NDArray[np.integer],
    labels: NDArray[np.integer],
    plan: CampaignPlan,
    ascent: Ascent | None = None,
    *,
    runtime: str,
    quiet: bool = False,
) -> Findings:
    """Attack the answers to the first inputs [n, *shape]; `labels` are only used to aim at pictures of other classes.

    `runtime` is the description of what runs `noisy`: answers of another one are of another classifier, and refused.
    """
    spec = bundle.manifest
    how = "projected gradients and gradient-free" if ascent else "gradient-free"
    model = f"{spec.name}/{spec.version}"
    findings = Findings(
        model=model, digest=bundle.digest, sigma=scale(bundle.manifest.formulas), plan=plan, searched_by=how
    )
    started = time.monotonic()
    attacker = _Attacker(bundle, noisy, runtime, inputs, labels, plan, ascent, findings, started + plan.seconds)
    pictures = range(min(plan.pictures, len(inputs)))
    with progress(pictures, what="attack", unit="picture", quiet=quiet) as bar:
        for picture in pictures:
            if time.monotonic() > attacker.deadline:
                break
            attacker.attack(picture, answering(inputs[picture]))
            bar.update()
            bar.set_postfix(claims=len(findings.attempts), counterexamples=len(findings.counterexamples))
    findings.seconds = time.monotonic() - started
    return findings


@dataclass(frozen=True, eq=False, slots=True)
class _Attacker:
    bundle: Bundle
    noisy: NoisyRun
    runtime: str
    inputs: NDArray[np.integer]
    labels: NDArray[np.integer]
    plan: CampaignPlan
    ascent: Ascent | None
    findings: Findings
    deadline: float

    def attack(self, picture: int, answer: Mapping[str, Any]) -> None:
        """Search and judge every claim of one answer."""
        hunts: dict[tuple[Aim | None, float], list[Claim]] = {}
        for claim in self._claims(answer):
            hunts.setdefault((claim.aim, claim.radius), []).append(claim)
        for number, ((aim, radius), claims) in enumerate(hunts.items()):
            # The time decides whether a test is made at all, never how it ends.
            if time.monotonic() <= self.deadline:
                self._hunt(picture, number, aim, radius, claims)

    def _claims(self, answer: Mapping[str, Any]) -> list[Claim]:
        """What an answer claims, once it is counted; any server may have given it."""
        try:
            self._check_origin(answer["model"])
            claims, chance = issued(answer, self.bundle.manifest.labels, self._law()), float(answer["alpha"])
        except (KeyError, TypeError, AttributeError) as error:
            raise AttackError(f"the answer is none of certserve's ({type(error).__name__}: {error})") from error
        self.findings.answers += 1
        self.findings.honest_chance = min(1.0, self.findings.honest_chance + chance)
        return claims

    def _law(self) -> Guarantee:
        return self.bundle.law.at(self.inputs[0]).guarantee

    def _check_origin(self, model: Mapping[str, Any]) -> None:
        if model["digest"] != self.bundle.digest:
            raise AttackError(
                f"the answer comes from {model['digest']}, and the bundle at hand is {self.bundle.digest}:"
                " attack the bundle that is served"
            )
        if model["runtime"] != self.runtime:
            raise AttackError(
                f"the answer comes from {model['runtime']!r}, and here runs {self.runtime!r}, whose votes may"
                " differ: attack from a machine of the server's kind and version"
            )

    def _hunt(self, picture: int, number: int, aim: Aim | None, radius: float, claims: list[Claim]) -> None:
        spec = self.bundle.manifest.input
        ball = GridBall.of(self.inputs[picture], radius, spec.length, spec.tops)
        place = ("search", picture, number)
        purse = Purse(self.noisy, self.bundle.law, self.plan.seed, place, self.plan.draws, self.deadline)
        if aim is None:
            drawn = passes(self.noisy, self.bundle.law, ball.centre, own_key(self.plan.seed, *place), BATCH * 8)
            found = [(ball.centre, joined([sample for _, sample in drawn]))] * len(claims)
            purse.spent = BATCH * 8
        else:
            towards = self._towards(picture) if radius > 0 else []
            best = search(ball, spec.length, claims, aim, towards, purse, self.ascent)
            found = [(each.point, each.sample) for each in best]
        self.findings.passes += purse.spent
        judged: dict[bytes, Sample] = {}
        for claim, (point, seen) in zip(claims, found, strict=True):
            if not ball.holds(point):
                raise RuntimeError("the search left its ball; this is a fault of the falsifier")
            digest = point.tobytes()
            if digest not in judged:
                judged[digest] = self._fresh(picture, number, point)
            self._judge(picture, claim, ball, point, seen, judged[digest])

    def _fresh(self, picture: int, number: int, point: NDArray[np.integer]) -> Sample:
        """The judge's own draws at a point; two claims there may share them, as Bonferroni asks for no independence."""
        key = own_key(self.plan.seed, "judge", picture, number, point.tobytes().hex())
        drawn = passes(self.noisy, self.bundle.law, point, key, self.plan.draws)
        self.findings.passes += self.plan.draws
        return joined([sample for _, sample in drawn])

    def _judge(
        self, picture: int, claim: Claim, ball: GridBall, point: NDArray[np.int64], seen: Sample, fresh: Sample
    ) -> None:
        spec = self.bundle.manifest.input
        distance = float(np.sqrt(ball.squared(point))) * spec.length
        level = level_of(self.plan.alpha, self.plan.pictures)
        events = claim.events(seen, distance)
        self.findings.attempts.append(
            Attempt(
                picture=picture,
                claim=claim.name,
                statement=str(claim),
                radius=claim.radius,
                distance=distance,
                verdict=judge(fresh, events, self._law().charge, level),
                point=point.ravel().tolist(),
            )
        )

    def _towards(self, picture: int) -> Sequence[Direction]:
        """From a picture to the mean of the nearest other class, and to its nearest member at hand."""
        own, others = self.inputs[picture].astype(np.float64), self.labels != self.labels[picture]
        if not others.any():
            return []
        foreign = self.inputs[others].astype(np.float64)
        names = self.labels[others]
        means = [foreign[names == name].mean(axis=0) for name in np.unique(names)]
        nearest = (min(group, key=lambda each: float(np.sum((each - own) ** 2))) for group in (means, foreign))
        return [each - own for each in nearest]
