"""The three networks of the tables, as bundles: the demo, a small CNN and a ResNet-20, the last two with random weights.

A passes-per-second figure does not depend on weights; everything that does is measured on the demo alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import OUT
from certify.ood.conformal import pac_threshold
from certify.ood.mahalanobis import Moments, fit
from certify.smoothing.laws import gaussian_on_grid
from export.build.calibrate import golden_outputs
from export.build.heads import BaseGraph, NoisyGraph
from export.build.noise_table import rounded_gaussian_tails
from export.build.score_heads import distance_head
from export.bundle import (
    FORMAT,
    ArgmaxRule,
    Bundle,
    BundleError,
    Defaults,
    GaussianSpec,
    GridSpec,
    ImageKind,
    InputSpec,
    Manifest,
    OodSpec,
    claims,
    graphs,
    load,
    write,
)
from export.recipes.fashion_mnist import GRID_STEP, SIGMA, SIGMA_STEPS
from export.recipes.networks import convolution
from export.sources.torch_module import base_to_onnx, noisy_to_onnx
from serving.runtimes.onnx_runtime import open_graph

DEMO = "fashion-mnist"
NAMES = ("cnn", DEMO, "resnet20")
CLASSES = 10
_DEMO_FOLDER = Path(__file__).resolve().parent.parent / "models" / DEMO
_SHAPES = {"cnn": (1, 28, 28), "resnet20": (3, 32, 32), "large": (3, 224, 224), "resnet18": (3, 224, 224)}
_BATCH_ROWS = {
    "cnn": 128,
    "resnet20": 32,
    "large": 32,
    "resnet18": 32,
}  # a batch of a few milliseconds, where a slice is not longer


class Cnn(nn.Module):
    """105,866 parameters, [n, 1, 28, 28]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU()),
        )
        self.head = nn.Linear(64, CLASSES)

    def features(self, lattice: Tensor) -> Tensor:
        return self.body(lattice / 255)


class Block(nn.Module):
    """Two convolutions beside the identity, or beside a convolution of 1x1 where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride=stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.beside = nn.Identity()
        if stride > 1:
            shrinking = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.beside = nn.Sequential(shrinking, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.beside(x) + self.second(self.first(x)))


class ResNet20(nn.Module):
    """He et al. (2016) for CIFAR, [n, 3, 32, 32]."""

    def __init__(self) -> None:
        super().__init__()
        widths = (
            [(16, 16, 1)] + [(16, 16, 1)] * 2 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
        )
        blocks = [Block(*each) for each in widths]
        self.body = nn.Sequential(convolution(3, 16), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(64, CLASSES)

    def features(self, lattice: Tensor) -> Tensor:
        return self.body(lattice / 255)


class Large(nn.Module):
    """4.9 million parameters, [n, 3, 224, 224]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(convolution(3, 32, size=7, stride=2), nn.MaxPool2d(3, 2, 1), Block(32, 64, 2), Block(64, 128, 2)),
            *(Block(128, 256, 2), Block(256, 512, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        self.head = nn.Linear(512, CLASSES)

    def features(self, lattice: Tensor) -> Tensor:
        return self.body(lattice / 255)


class ResNet18(nn.Module):
    """He et al. (2016) for ImageNet, layer for layer as torchvision has it: 11.7 million parameters, [n, 3, 224, 224]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*(convolution(3, 64, size=7, stride=2), nn.MaxPool2d(3, 2, 1)))
        width = 64
        for outputs in (64, 128, 256, 512):
            self.body.extend([Block(width, outputs, 1 if width == outputs else 2), Block(outputs, outputs, 1)])
            width = outputs
        self.body.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten()])
        self.head = nn.Linear(512, 1_000)

    def features(self, lattice: Tensor) -> Tensor:
        return self.body(lattice / 255)


def _kept(folder: Path) -> bool:
    """Whether the bundle of an earlier run is there, and still one that loads."""
    try:
        load(folder)
    except BundleError:
        return False
    return True


def repository() -> Path:
    """A folder with all three bundles, made on first use."""
    folder = OUT / "models"
    for name, network in (("cnn", Cnn), ("resnet20", ResNet20)):
        if not _kept(folder / name / "1"):
            torch.manual_seed(0)
            write_random(folder, name, network().eval())
    shutil.rmtree(folder / DEMO, ignore_errors=True)
    shutil.copytree(_DEMO_FOLDER, folder / DEMO)
    return folder


def bundle(name: str) -> Bundle:
    return load(repository() / name / "1")


def pictures(shape: tuple[int, ...], count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.int32)


def write_random(folder: Path, name: str, network: nn.Module, tried: int = 256, golden_tried: int = 32) -> None:
    """A bundle of random weights: complete and proven like any other, but it knows nothing."""
    shape, tails, classes = _SHAPES[name], rounded_gaussian_tails(SIGMA_STEPS), network.head.out_features
    images = pictures(shape, tried)
    with torch.no_grad():
        parts = torch.from_numpy(images).split(32)
        features = torch.cat([network.features(part.float()) for part in parts]).numpy()
    # Each class has two rows or more: where there are few, the same stand for several classes.
    some = np.resize(features, (max(len(features), 2 * classes), features.shape[1]))
    moments = Moments.empty(features.mean(axis=0), classes).add(some, np.arange(len(some)) % classes)
    score = distance_head(fit(moments, normalised=False), "md")
    noisy = noisy_to_onnx(NoisyGraph(network, score, classes), shape)
    base = base_to_onnx(BaseGraph(network), shape)
    noisy_graph, base_graph = open_graph(noisy), open_graph(base)
    scores = np.concatenate([noisy_graph(part.numpy())[1] for part in parts]).astype(np.float64)
    manifest = Manifest(
        format=FORMAT,
        name=name,
        version="1",
        description="random weights, for measuring speed",
        labels=tuple(f"class {label}" for label in range(classes)),
        input=InputSpec(
            name="image",
            kind=ImageKind(kind="image", layout="CHW", mode="L" if shape[0] == 1 else "RGB"),
            shape=shape,
            grid=GridSpec(low=0.0, step=GRID_STEP, high=1.0, units="pixels"),
        ),
        law=GaussianSpec(name="gaussian", stream="noise-v1", sigma=SIGMA, sigma_steps=SIGMA_STEPS),
        graphs=graphs(score=True),
        decision=ArgmaxRule(rule="argmax"),
        claims=claims(of_class=0.5, upper=0.2, threshold=0.1, interval=0.2),
        ood=OodSpec(
            score="md",
            normalised=False,
            score_draws=32,
            target_tpr=0.95,
            eta=0.01,
            threshold=pac_threshold(scores, 1 - 0.95, 0.01),
            radius=SIGMA / 2,
        ),
        defaults=Defaults(target_radius=SIGMA),
        batch_rows=_BATCH_ROWS[name],
    )
    golden = golden_outputs(
        images[:golden_tried],
        gaussian_on_grid(SIGMA_STEPS, tails),
        lambda x: tuple(noisy_graph(x)),
        lambda x: base_graph(x)[0],
    )
    write(
        folder / name / "1", manifest, base=base, noisy=noisy, noise={"tails": tails}, golden=golden, calibration=scores
    )
