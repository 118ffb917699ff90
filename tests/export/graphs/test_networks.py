"""Networks as people have them, through the exporter: each is followed to its end, and none is refused for its shape."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import nn

from export.graphs.facts import Place
from export.graphs.reading import GraphError
from export.graphs.rows import follow
from export.sources.torch_module import to_onnx

SIDE, CLASSES, WIDTH = 28, 5, 16


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, WIDTH, 3, 2, 1), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.MaxPool2d(2))
        self.second = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, 1, 1), nn.BatchNorm2d(WIDTH))

    def forward(self, x):
        x = self.first(x)
        return nn.functional.adaptive_avg_pool2d(torch.relu(x + self.second(x)), 1).flatten(1)


class Mobile(nn.Module):
    """Depthwise convolutions, and channels that are weighed by their means."""

    def __init__(self):
        super().__init__()
        self.first, self.deep = nn.Conv2d(3, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 3, 2, 1, groups=WIDTH)
        self.squeeze, self.dropout = nn.Conv2d(WIDTH, WIDTH, 1), nn.Dropout(0.2)

    def forward(self, x):
        x = nn.functional.silu(self.deep(nn.functional.hardswish(self.first(x))))
        x = x * nn.functional.hardsigmoid(self.squeeze(x.mean((2, 3), keepdim=True)))
        return self.dropout(x.mean((2, 3)))


class Vision(nn.Module):
    """A vision transformer: a class token for each row, and heads that share an axis with the rows."""

    def __init__(self):
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, WIDTH, 7, 7), nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.norm, self.attention = nn.LayerNorm(WIDTH), nn.MultiheadAttention(WIDTH, 2)

    def forward(self, x):
        x = self.patches(x).flatten(2).permute(2, 0, 1)
        x = torch.cat([self.token.expand(-1, x.shape[1], -1), x])
        y = self.norm(x)
        return (x + self.attention(y, y, y, need_weights=False)[0])[0]


class Windows(nn.Module):
    """Attention within shifted windows, which are put beside the rows on the first axis and taken apart again."""

    def __init__(self):
        super().__init__()
        self.patches, self.mix = nn.Conv2d(3, WIDTH, 2, 2), nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x):
        x = torch.roll(self.patches(x).permute(0, 2, 3, 1), (3, 3), (1, 2))
        rows = x.shape[0]
        windows = x.reshape(rows, 2, 7, 2, 7, WIDTH).permute(0, 1, 3, 2, 4, 5).reshape(-1, 49, WIDTH)
        query, key, value = self.mix(windows).reshape(-1, 49, 3, 2, WIDTH // 2).permute(2, 0, 3, 1, 4).unbind(0)
        windows = ((query @ key.transpose(-2, -1)).softmax(-1) @ value).transpose(1, 2).reshape(-1, 7, 7, WIDTH)
        x = windows.reshape(rows, 2, 2, 7, 7, WIDTH).permute(0, 1, 3, 2, 4, 5).reshape(rows, 14, 14, WIDTH)
        return x.mean((1, 2))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = nn.LSTM(3 * SIDE, WIDTH, batch_first=True)

    def forward(self, x):
        return self.steps(x.permute(0, 2, 1, 3).flatten(2))[0][:, -1]


class Resized(nn.Module):
    def forward(self, x):
        x = nn.functional.pixel_unshuffle(nn.functional.interpolate(x, scale_factor=0.5, mode="bilinear"), 2)
        x = nn.functional.instance_norm(nn.functional.group_norm(nn.functional.pad(x, (1, 1, 1, 1)), 4))
        left, right = x.chunk(2, 1)
        return torch.cat([left.amax((2, 3)), right.amin((2, 3)), x.std((2, 3))[:, :4]], 1)


class Whole(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body, self.head = body(), nn.Linear(WIDTH, CLASSES)

    def forward(self, lattice):
        return self.head(self.body(lattice.float() / 255)).softmax(1)


class BatchMean(Residual):
    """What normalises by the batch that is served, instead of that of the training."""

    def forward(self, x):
        x = super().forward(x)
        return x - x.mean(0)


def followed(body):
    graph = to_onnx(Whole(body).eval(), (3, SIDE, SIDE), ("probabilities",))
    return follow(onnx.load_from_string(graph), (3, SIDE, SIDE), "model/1: base.onnx")


@pytest.mark.parametrize("body", [Residual, Mobile, Vision, Windows, Recurrent, Resized])
def test_a_network_is_followed_to_its_probabilities(body):
    found = followed(body).facts["probabilities"]
    assert (found.place, found.depends, found.shapes[0][1:]) == (Place(0), True, (CLASSES,))


def test_a_network_that_looks_at_its_batch_is_refused():
    with pytest.raises(GraphError, match=r"model/1: base\.onnx .*\(ReduceMean\) reduces over the rows"):
        followed(BatchMean)
