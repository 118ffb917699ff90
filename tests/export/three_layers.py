"""A network of three layers that takes the column with the largest number, with rows for it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from export.sources.torch_module import to_onnx

COLUMNS, SIGMA = 6, 0.1


def rows_of(count, seed):
    chance = np.random.default_rng(seed)
    truth = chance.integers(3, size=count)
    rows = np.clip(0.3 + 0.08 * chance.standard_normal((count, COLUMNS)), 0, 1)
    rows[np.arange(count), truth] += 0.5
    return np.minimum(rows, 1).astype(np.float32), truth


def written(folder):
    """Its graph and two files of rows."""
    torch.manual_seed(0)
    first, last = nn.Linear(COLUMNS, 24), nn.Linear(24, 3)
    with torch.no_grad():
        first.weight.mul_(0.2)
        last.weight.mul_(0.2)
        first.weight[:3] = 6 * torch.eye(COLUMNS)[:3]
        last.weight[:, :3] += 2 * torch.eye(3)
    network = nn.Sequential(first, nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), last).eval()
    with torch.no_grad():
        network[2].weight.mul_(0.2).add_(torch.eye(24))
    example = torch.zeros(2, COLUMNS)
    (folder / "net.onnx").write_bytes(to_onnx(network, (COLUMNS,), ("y",), names=("x",), example=example))
    for name, count, seed in (("data", 600, 0), ("held", 250, 1)):
        rows, truth = rows_of(count, seed)
        np.savez(folder / f"{name}.npz", x=rows, y=truth)
