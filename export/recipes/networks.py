"""The network of the Fashion-MNIST recipe: 317,000 parameters, small enough to train on two cores in minutes.

The stem halves the picture at once (stride 2), which is what makes a CPU enough. Everything from the grid integers on
is inside the network: the normalisation cannot be forgotten or done twice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FEATURES = 128
SIDE = 28
STEP = 1 / 255  # the grid 0..255 in units of [0, 1]
_MEAN, _DEVIATION = 0.2860, 0.3530  # of the training pixels, in [0, 1]


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] to the same shape."""
        return torch.relu(x + self.second(self.first(x)))


class SmallNet(nn.Module):
    """Grid values [n, 1, 28, 28] as floats to logits [n, classes]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(1, 32, size=5, stride=2),  # [n, 32, 14, 14]
            convolution(32, 64),
            nn.MaxPool2d(2),  # [n, 64, 7, 7]
            Residual(64),
            convolution(64, 128),
            nn.MaxPool2d(2),  # [n, 128, 3, 3]
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(128 * 9, FEATURES, bias=False),
            nn.BatchNorm1d(FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, classes)

    def features(self, lattice: Tensor) -> Tensor:
        """What enters the last layer, [n, 128], of grid values in float32."""
        features: Tensor = self.body((lattice * STEP - _MEAN) / _DEVIATION)
        return features

    def forward(self, lattice: Tensor) -> Tensor:
        """Logits of grid values in float32."""
        logits: Tensor = self.head(self.features(lattice))
        return logits


def convolution(inputs: int, outputs: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the picture's size (up to the stride), batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
