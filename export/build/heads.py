"""The outputs that leave the device: a vote and a score for each noisy row, or the probabilities of a clean one.

A head is part of the graph, so that a noisy pass sends two numbers back instead of its features.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from export.build.score_heads import Head


class Classifier(Protocol):
    """A network that shows the features entering its last layer; it takes grid values as floats."""

    def features(self, lattice: Tensor) -> Tensor:
        """[n, *shape] to [n, d]."""
        ...

    def head(self, features: Tensor) -> Tensor:
        """[n, d] to logits [n, C]."""
        ...


class NoisyGraph(nn.Module):
    """lattice int32 [n, *shape], never clipped -> vote int64 [n], score float32 [n].

    The lattice is turned to float once, here; a vote of C, the number of labels, means none: a logit was not finite, and
    the argmax of such logits would be an arbitrary label.
    """

    def __init__(self, network: Classifier, score: Head, classes: int) -> None:
        super().__init__()
        self.network, self.score, self.classes = network, score, classes

    def forward(self, lattice: Tensor) -> tuple[Tensor, Tensor]:
        """One vote and one score for each row."""
        features = self.network.features(lattice.float())
        logits = self.network.head(features)
        finite = logits.isfinite().all(dim=1)
        return torch.where(finite, logits.argmax(1), self.classes), self.score(features, logits)


class BaseGraph(nn.Module):
    """lattice int32 [n, *shape] -> probabilities float32 [n, C]."""

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, lattice: Tensor) -> Tensor:
        """The softmax of the logits of each row."""
        return self.network.head(self.network.features(lattice.float())).float().softmax(1)
