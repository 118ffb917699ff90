"""Seconds per decision, target R = sigma: the served `target` procedure beside the published one in plain torch.

Cohen et al. (2019): 100 draws choose a class, 100,000 bound it, in batches of 400 (their script) or 1,000. The torch
network has the demo's own weights, batch normalisation folded in, and all cores.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from benchmarks import rates
from benchmarks.clients import demo_pictures, png, predict_over_http
from benchmarks.measure import in_turns, main
from benchmarks.networks import CLASSES, DEMO, bundle, repository
from benchmarks.row import Row
from certify.bounds.binomial import clopper_pearson_complement, quantile_of_complement_below
from export.bundle import Bundle
from export.recipes.networks import SmallNet
from tests.servers import command_line

CHOOSING, BOUNDING, ALPHA = 100, 100_000, 0.001
PICTURES, ROUNDS = 200, 2


def rows() -> list[Row]:
    model = bundle(DEMO)
    network, images = in_torch(model), demo_pictures(PICTURES)
    torch.set_num_threads(rates.THREADS)
    with command_line(repository(), local=True) as address:
        ask = predict_over_http(address.http, DEMO, certify="target", target_radius=model.law.sigma)
        ask(png(images[0]))
        sides = {
            f"batch {size}": lambda size=size: _published(network, model, images[0], size) for size in (400, 1_000)
        }
        values = in_turns(ROUNDS, {"ours": lambda: _ours(ask, images)} | sides)
    ours = median(values["ours"])
    return [
        Row(
            f"decision R = sigma, {PICTURES} pictures, beside the published procedure in torch, {name}",
            f"{1e3 * ours:.1f} ms each, over HTTP",
            f"n={BOUNDING:,}: {median(values[name]):.1f} s",
            median(values[name]) / ours,
            300,
            1_000,
        )
        for name in sides
    ]


def _ours(ask, images: np.ndarray) -> float:
    """Seconds a picture, one after the other, the hard ones that run to the cap among them."""
    began = time.perf_counter()
    for picture in images:
        ask(png(picture))
    return (time.perf_counter() - began) / len(images)


def _published(network: nn.Module, model: Bundle, picture: np.ndarray, batch: int) -> float:
    began = time.perf_counter()
    x = torch.from_numpy(picture).float()
    sigma = model.manifest.law.sigma_steps
    chosen = _counts(network, x, sigma, CHOOSING, batch).argmax()
    hits = int(_counts(network, x, sigma, BOUNDING, batch)[chosen])
    quantile_of_complement_below(clopper_pearson_complement(BOUNDING, hits, ALPHA))
    return time.perf_counter() - began


def _counts(network: nn.Module, x: torch.Tensor, sigma: float, draws: int, batch: int) -> np.ndarray:
    counts = np.zeros(CLASSES, dtype=int)
    with torch.no_grad():
        for begin in range(0, draws, batch):
            rows = x.repeat((min(batch, draws - begin), 1, 1, 1))
            votes = network(rows + torch.randn_like(rows) * sigma).argmax(1)
            counts += np.bincount(votes.numpy(), minlength=CLASSES)
    return counts


def in_torch(model: Bundle) -> nn.Module:
    """The demo's noisy network out of its bundle, as torch modules."""
    weights = {each.name: numpy_helper.to_array(each) for each in onnx.load_from_string(model.noisy).graph.initializer}
    network = SmallNet(CLASSES).eval()
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):  # folded into what comes before it
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, nn.Identity())
        elif isinstance(module, nn.Conv2d | nn.Linear):
            full = f"network.{name}.weight"
            bias = weights.get(f"network.{name}.bias", weights.get(f"{full}_bias"))
            module.weight = nn.Parameter(torch.tensor(weights[full]))
            module.bias = nn.Parameter(torch.tensor(bias))
    return network


if __name__ == "__main__":
    main("published", rows)
