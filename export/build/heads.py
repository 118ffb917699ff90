"""The outputs that leave the device: a vote and a score for each noisy row, or the probabilities of a clean one.

A head is part of the graph, so that a noisy pass sends two numbers back instead of its features. It computes in float32
whatever precision the body has: whitening spans orders of magnitude, and squares overflow half precision.

A sum over a row is a product with a vector of ones: runtimes may add up a row by itself in an order that depends on where
in the batch it begins (ONNX Runtime does, for lengths that are no multiple of 4), and a product not.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from certify.ood.mahalanobis import TINY, Mahalanobis


class Classifier(Protocol):
    """A network that shows the features entering its last layer; it takes grid values as floats."""

    def features(self, lattice: Tensor) -> Tensor:
        """[n, *shape] to [n, d]."""
        ...

    def head(self, features: Tensor) -> Tensor:
        """[n, d] to logits [n, C]."""
        ...


class Score(nn.Module):
    """`certify.ood.mahalanobis.Mahalanobis.scores` in float32: features [n, d] to scores [n], larger = farther out."""

    def __init__(self, fitted: Mahalanobis, kind: Literal["md", "rmd"]) -> None:
        super().__init__()
        self.kind, self.normalised = kind, fitted.normalised
        self.centre, self.whitening = _constant(fitted.centre), _constant(fitted.whitening)
        self.means = _constant(fitted.class_means.T)
        self.lengths = _constant(np.sum(fitted.class_means**2, axis=1))
        self.pull = _constant(fitted.pull)
        self.ones_of_features = _constant(np.ones((len(fitted.centre), 1)))
        self.ones_of_whitened = _constant(np.ones((fitted.whitening.shape[1], 1)))
        self.ones_of_classes = _constant(np.ones((len(fitted.class_means), 1)))

    def forward(self, features: Tensor) -> Tensor:
        """The score of each row; what is not a number becomes +inf, so that it is never taken for an ordinary one."""
        features = features.float()
        if self.normalised:
            features = features / ((features * features) @ self.ones_of_features).sqrt().clamp_min(TINY)
        whitened = (features - self.centre) @ self.whitening
        inner = whitened @ self.means
        if self.kind == "md":
            rest = (whitened * whitened) @ self.ones_of_whitened
        else:
            rest = ((inner @ self.pull) * inner) @ self.ones_of_classes
        scores = (self.lengths - 2 * inner).amin(1) + rest.squeeze(1)
        return torch.where(scores.isnan(), torch.inf, scores)


class NoisyGraph(nn.Module):
    """lattice int32 [n, *shape], never clipped -> vote int64 [n], score float32 [n].

    The lattice is turned to float once, here; a vote of C, the number of labels, means none: a logit was not finite, and
    the argmax of such logits would be an arbitrary label.
    """

    def __init__(self, network: Classifier, score: Score, classes: int) -> None:
        super().__init__()
        self.network, self.score, self.classes = network, score, classes

    def forward(self, lattice: Tensor) -> tuple[Tensor, Tensor]:
        """One vote and one score for each row."""
        features = self.network.features(lattice.float())
        logits = self.network.head(features)
        finite = logits.isfinite().all(dim=1)
        return torch.where(finite, logits.argmax(1), self.classes), self.score(features)


class BaseGraph(nn.Module):
    """lattice int32 [n, *shape] -> probabilities float32 [n, C]."""

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, lattice: Tensor) -> Tensor:
        """The softmax of the logits of each row."""
        return self.network.head(self.network.features(lattice.float())).float().softmax(1)


def _constant(values: NDArray[np.float64]) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float32), requires_grad=False)
