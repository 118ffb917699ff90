"""The scores of `certify.ood.scores` inside a graph: for each name of that registry, what its head computes and with what.

A head computes in float32 whatever precision the body has, since whitening spans orders of magnitude and squares overflow
half precision; what is made of the few logits alone, in double precision. A sum over a row is a product with ones: runtimes
may add up a row in an order that depends on where in the batch it begins, and a product not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from certify.ood.mahalanobis import KINDS, TINY, Mahalanobis
from certify.ood.scores import GEN_CLASSES, GEN_POWER, NEIGHBOURS, Distance, NearestNeighbours, Scorer, VirtualLogit

Constants = Mapping[str, NDArray[Any]]


class Head(nn.Module):
    """Features [n, d] and logits [n, C] to scores [n], larger = farther out; what is not a number becomes +inf."""

    def __init__(self, constants: Constants) -> None:
        super().__init__()
        for name, values in constants.items():
            setattr(self, name, nn.Parameter(torch.tensor(values, dtype=torch.float32), requires_grad=False))

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """The score of each row."""
        scores = self.rule(features.float(), logits).float()
        return torch.where(scores.isnan(), torch.inf, scores)

    def rule(self, features: Tensor, logits: Tensor) -> Tensor:
        """The score by its formula, [n] or [n, 1]."""
        raise NotImplementedError


class DistanceHead(Head):
    """`md`, `rmd` or `marginal` of plain or of unit features."""

    centre: Tensor
    whitening: Tensor
    means: Tensor
    lengths: Tensor
    pull: Tensor

    def __init__(self, constants: Constants, *, kind: str, normalised: bool) -> None:
        super().__init__(constants)
        self.kind, self.normalised = kind, normalised

    def rule(self, features: Tensor, logits: Tensor) -> Tensor:
        """See `certify.ood.mahalanobis.Mahalanobis.scores`."""
        if self.normalised:
            features = unit_rows(features)
        whitened = (features - self.centre) @ self.whitening
        inner = whitened @ self.means
        if self.kind == "marginal":
            return (added(whitened * whitened) - added((inner @ self.pull) * inner)).clamp_min(0).squeeze(1)
        rest = added(whitened * whitened) if self.kind == "md" else added((inner @ self.pull) * inner)
        return (self.lengths - 2 * inner).amin(1) + rest.squeeze(1)


class LogitsHead(Head):
    """A score of the logits alone; where the largest of them is not finite there is no order among classes: +inf."""

    def rule(self, features: Tensor, logits: Tensor) -> Tensor:
        """In double precision."""
        rows = logits.double()
        largest = rows.amax(1, keepdim=True)
        scores = self.of(rows, largest)
        return torch.where(largest.isfinite(), scores, torch.inf).squeeze(1)

    def of(self, rows: Tensor, largest: Tensor) -> Tensor:
        """From logits [n, C] and the largest of each row [n, 1] to scores [n, 1]."""
        raise NotImplementedError


class EnergyHead(LogitsHead):
    """`-logsumexp(l)`."""

    def of(self, rows: Tensor, largest: Tensor) -> Tensor:
        """See `LogitsHead`."""
        return -(largest + added((rows - largest).exp()).log())


class MaxSoftmaxHead(LogitsHead):
    """`-max softmax(l)`."""

    def of(self, rows: Tensor, largest: Tensor) -> Tensor:
        """See `LogitsHead`."""
        return -1 / added((rows - largest).exp())


class MaxLogitHead(LogitsHead):
    """`-max l`."""

    def of(self, rows: Tensor, largest: Tensor) -> Tensor:
        """See `LogitsHead`."""
        return -largest


class GeneralizedEntropyHead(LogitsHead):
    """`sum p^g (1 - p)^g` over the largest probabilities."""

    def of(self, rows: Tensor, largest: Tensor) -> Tensor:
        """See `LogitsHead`."""
        powers = (rows - largest).exp()
        p = powers / added(powers)
        p = p.topk(GEN_CLASSES, dim=1).values if p.shape[1] > GEN_CLASSES else p
        return added((p * (1 - p)).pow(GEN_POWER))


class NeighboursHead(Head):
    """The distance of unit features to their 50-th nearest in the bank."""

    bank: Tensor
    squares: Tensor

    def rule(self, features: Tensor, logits: Tensor) -> Tensor:
        """See `certify.ood.scores.NearestNeighbours`."""
        rows = unit_rows(features)
        squares = added(rows * rows) + self.squares - 2 * (rows @ self.bank)
        nearest = (-squares).topk(NEIGHBOURS, dim=1).values[:, -1]
        return (-nearest).clamp_min(0).sqrt()


class VirtualLogitHead(Head):
    """`scale |(z - origin) @ residual| - logsumexp(l)`."""

    origin: Tensor
    residual: Tensor
    scale: Tensor

    def rule(self, features: Tensor, logits: Tensor) -> Tensor:
        """See `certify.ood.scores.VirtualLogit`."""
        left = (features - self.origin) @ self.residual
        energy = EnergyHead({}).rule(features, logits).float()
        return self.scale * added(left * left).sqrt().squeeze(1) + energy


@dataclass(frozen=True, slots=True)
class HeadMaker:
    """What a head needs of a fitted score, and the head that is made of it."""

    constants: Callable[[Any], Constants]
    head: Callable[[Constants], Head]


def head(name: str, scorer: Scorer) -> Head:
    """The head of a fitted score, by its name in the registry."""
    return HEADS[name].head(HEADS[name].constants(scorer))


def distance_head(fitted: Mahalanobis, kind: str) -> Head:
    """The head of a Mahalanobis distance."""
    return head(kind + ("++" if fitted.normalised else ""), Distance(fitted, kind))


def added(rows: Tensor) -> Tensor:
    """The sum of each row, [n, d] to [n, 1], in an order that does not depend on the row's place."""
    return rows @ torch.ones((rows.shape[1], 1), dtype=rows.dtype)


def unit_rows(features: Tensor) -> Tensor:
    """Rows divided by their length."""
    return features / added(features * features).sqrt().clamp_min(TINY)


def _of_distance(scorer: Distance) -> Constants:
    fitted = scorer.fitted
    return {
        "centre": fitted.centre,
        "whitening": fitted.whitening,
        "means": fitted.class_means.T,
        "lengths": np.sum(fitted.class_means**2, axis=1),
        "pull": fitted.pull,
    }


def _of_neighbours(scorer: NearestNeighbours) -> Constants:
    return {"bank": scorer.bank.T, "squares": np.sum(scorer.bank**2, axis=1)}


def _of_virtual_logit(scorer: VirtualLogit) -> Constants:
    return {"origin": scorer.origin, "residual": scorer.residual, "scale": np.array(scorer.scale)}


def _of_nothing(scorer: Scorer) -> Constants:
    return {}


HEADS: dict[str, HeadMaker] = {
    "energy": HeadMaker(_of_nothing, EnergyHead),
    "max softmax": HeadMaker(_of_nothing, MaxSoftmaxHead),
    "max logit": HeadMaker(_of_nothing, MaxLogitHead),
    "gen": HeadMaker(_of_nothing, GeneralizedEntropyHead),
    "knn": HeadMaker(_of_neighbours, NeighboursHead),
    "vim": HeadMaker(_of_virtual_logit, VirtualLogitHead),
    **{
        kind + mark: HeadMaker(_of_distance, partial(DistanceHead, kind=kind, normalised=bool(mark)))
        for mark in ("", "++")
        for kind in KINDS
    },
}
"""Beside `certify.ood.scores.SCORES`: a score that serves is in both, and nowhere else."""
