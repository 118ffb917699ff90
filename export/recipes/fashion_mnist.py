"""The bundled model: train an accurate and a robust network on Fashion-MNIST, fit, calibrate, write the bundle.

    train   accurate network on clean pictures; robust network under the noise it will be served with
    fit     the Mahalanobis head on features of noisy training pictures, one draw each
    choose  MD or RMD, on plain or unit features, by AUROC against outside sets made from training pictures
    export  one graph for the noisy pass with its head, one for the clean pass
    calibrate  on 5,000 pictures that neither training nor fit nor choice has seen

Every step is seeded. Training resumes at the last finished epoch from the work folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from certify.ood.mahalanobis import Mahalanobis, Moments, fit, unit
from certify.smoothing.law import Law
from certify.smoothing.laws import gaussian_on_grid
from export.build.calibrate import SCORE_DRAWS, Calibration, calibrate, golden_outputs
from export.build.grid import exact
from export.build.heads import BaseGraph, NoisyGraph
from export.build.noise_table import rounded_gaussian_tails
from export.build.outside import auroc, outside_sets
from export.build.passes import BATCH, BaseRun, noisy_lattice, row_key
from export.build.score_heads import distance_head
from export.bundle import (
    FORMAT,
    ArgmaxRule,
    Bundle,
    Defaults,
    GaussianSpec,
    GridSpec,
    ImageKind,
    InputSpec,
    Manifest,
    MixtureSpec,
    OodSpec,
    Provenance,
    UsedData,
    claims,
    graphs,
    write,
)
from export.bundle.batches import NoisyRun, in_batches
from export.data.idx import IdxError, LabelledImages, read_split
from export.progress import progress
from export.recipes.networks import SIDE, SmallNet
from export.recipes.training import TrainingPlan, train
from export.sources.torch_module import base_to_onnx, noisy_to_onnx

LABELS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
SHAPE = (1, SIDE, SIDE)
SIGMA = 0.25
GRID_STEP, SIGMA_STEPS = exact(SIGMA, 1 / 255)
BATCH_ROWS = 32  # about 6 ms on one core

BASE = TrainingPlan(name="base", seed=1, epochs=28, shift=2, erase=True, label_smoothing=0.05)
NOISY = TrainingPlan(name="noisy", seed=2, epochs=14, sigma_steps=SIGMA_STEPS, consistency=10.0, entropy=0.5)

HeadKind = Literal["md", "rmd"]
Graph = Callable[[NDArray[np.int32]], list[NDArray[np.generic]]]
"""A graph in some runtime: its one input to all its outputs."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained and how it is judged. `least_accuracy` is of single noisy draws on held-out pictures."""

    base: TrainingPlan = BASE
    noisy: TrainingPlan = NOISY
    held_out: int = 5_000
    choosing: int = 500
    least_accuracy: float = 0.8
    target_tpr: float = 0.95
    eta: float = 0.01


@dataclass(frozen=True, kw_only=True)
class HeadChoice:
    """The detector that serves, and the mean AUROC of every variant it was chosen from."""

    fitted: Mahalanobis
    kind: HeadKind
    aurocs: dict[str, float]

    @property
    def name(self) -> str:
        """As in `aurocs`."""
        return variant(self.kind, self.fitted.normalised)


def run(
    data: Path, work: Path, out: Path, open_graph: Callable[[bytes], Graph], recipe: Recipe | None = None
) -> Bundle:
    """Make the bundle `out/fashion-mnist/1` from the IDX files in `data`, keeping checkpoints in `work`.

    `open_graph` turns the bytes of an ONNX graph into a callable: the caller chooses the runtime.
    """
    recipe = recipe or Recipe()
    everything = read_pictures(data, "train")
    cut = len(everything) - recipe.held_out
    if cut < recipe.base.batch:
        raise IdxError(f"{data} holds {len(everything)} training pictures; {recipe.held_out} are held out of training")
    training, held_out = everything[slice(0, cut)], everything[slice(cut, cut + recipe.held_out)]
    base, noisy = (trained(plan, training, work) for plan in (recipe.base, recipe.noisy))
    tails = rounded_gaussian_tails(SIGMA_STEPS)
    law = gaussian_on_grid(SIGMA_STEPS, tails)
    choice = choose(noisy, training, law, recipe.choosing)
    print(
        "\n".join(f"{name}: mean AUROC {value:.4f}" for name, value in choice.aurocs.items()), "\nserved:", choice.name
    )
    base_graph = base_to_onnx(BaseGraph(base), SHAPE)
    noisy_graph = noisy_to_onnx(NoisyGraph(noisy, distance_head(choice.fitted, choice.kind), len(LABELS)), SHAPE)
    run_noisy = in_batches(as_noisy_run(open_graph(noisy_graph)), BATCH_ROWS)
    run_base = as_base_run(open_graph(base_graph))
    pictures = held_out.images[:, None].astype(np.int32)
    calibration = calibrate(
        pictures,
        held_out.labels,
        law,
        run_noisy,
        target_tpr=recipe.target_tpr,
        eta=recipe.eta,
        least_accuracy=recipe.least_accuracy,
    )
    return write(
        out / "fashion-mnist" / "1",
        manifest(recipe, choice, calibration, len(training)),
        base=base_graph,
        noisy=noisy_graph,
        noise=law.tensors,
        golden=golden_outputs(pictures[:64], law, run_noisy, run_base),
        calibration=calibration.scores,
    )


def read_pictures(data: Path, split: str) -> LabelledImages:
    """One half of the data set in `data`, refused unless it has this recipe's picture size and labels."""
    pictures = read_split(data, split)
    if pictures.images.shape[1:] != (SIDE, SIDE) or pictures.labels.max(initial=0) >= len(LABELS):
        raise IdxError(
            f"{data} holds pictures of {pictures.images.shape[1:]} with labels up to {pictures.labels.max(initial=0)};"
            f" this recipe expects {(SIDE, SIDE)} and the {len(LABELS)} labels 0 to {len(LABELS) - 1}"
        )
    return pictures


def trained(plan: TrainingPlan, data: LabelledImages, work: Path) -> SmallNet:
    """One network trained by `plan`, resumed from `work` where it was begun."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = SmallNet(len(LABELS))
    images, labels = torch.from_numpy(data.images[:, None].copy()), torch.from_numpy(data.labels)
    return cast(SmallNet, train(plan, network, images, labels, work))


def noisy_features(
    network: SmallNet, images: NDArray[np.uint8], law: Law, purpose: str, draw: int = 0
) -> NDArray[np.float32]:
    """Features [n, d] of one noisy draw of each picture [n, 28, 28], keyed by its row."""
    parts = []
    for first in progress(range(0, len(images), BATCH), what=purpose):
        rows = range(first, min(first + BATCH, len(images)))
        lattice = [noisy_lattice(images[row][None], law, row_key(purpose, row), draw, draw + 1) for row in rows]
        with torch.no_grad():
            parts.append(network.features(torch.from_numpy(np.concatenate(lattice)).float()).numpy())
    return np.concatenate(parts)


def choose(network: SmallNet, data: LabelledImages, law: Law, pictures: int) -> HeadChoice:
    """Fit on one noisy draw of each training picture, and take the variant with the largest mean AUROC.

    The choice looks at training pictures and what is made of them, never at calibration or test pictures: those would
    no longer be exchangeable with what is served.
    """
    features = noisy_features(network, data.images, law, "fit")
    fits = {normalised: _fitted(features, data.labels, normalised) for normalised in (False, True)}
    some = data.images[:: max(1, len(data) // pictures)][:pictures]
    inside = noisy_features(network, some, law, "inside")
    outside = {
        name: noisy_features(network, each[:, 0], law, name) for name, each in outside_sets(some[:, None], 0).items()
    }
    kinds: tuple[HeadKind, ...] = ("md", "rmd")
    aurocs = {
        (kind, normalised): float(
            np.mean([auroc(fitted.scores(inside, kind), fitted.scores(each, kind)) for each in outside.values()])
        )
        for normalised, fitted in fits.items()
        for kind in kinds
    }
    kind, normalised = max(aurocs, key=lambda each: aurocs[each])
    return HeadChoice(
        fitted=fits[normalised], kind=kind, aurocs={variant(*each): value for each, value in aurocs.items()}
    )


def variant(kind: HeadKind, normalised: bool) -> str:
    """What a detector is called in print."""
    return kind + (" on unit features" if normalised else "")


def _fitted(features: NDArray[np.float32], labels: NDArray[np.int64], normalised: bool) -> Mahalanobis:
    rows = unit(features) if normalised else features
    moments = Moments.empty(rows[:BATCH].mean(axis=0), len(LABELS))
    for first in range(0, len(rows), BATCH * 8):
        part = slice(first, first + BATCH * 8)
        moments = moments.add(rows[part], labels[part])
    return fit(moments, normalised=normalised)


def manifest(recipe: Recipe, choice: HeadChoice, calibration: Calibration, training: int) -> Manifest:
    """What the bundle declares; `write` fills in the files."""
    return Manifest(
        format=FORMAT,
        name="fashion-mnist",
        version="1",
        description="Fashion-MNIST: an accurate network, and one trained under Gaussian noise that votes and scores",
        labels=LABELS,
        input=InputSpec(
            name="image",
            kind=ImageKind(kind="image", layout="CHW", mode="L"),
            shape=SHAPE,
            grid=GridSpec(low=0.0, step=GRID_STEP, high=1.0, units="pixel value, 0 to 1"),
        ),
        law=GaussianSpec(name="gaussian", stream="noise-v1", sigma=SIGMA, sigma_steps=SIGMA_STEPS),
        graphs=graphs(score=True),
        decision=ArgmaxRule(rule="argmax"),
        claims=claims(of_class=0.5, upper=0.2, threshold=0.1, interval=0.2),
        ood=OodSpec(
            score=choice.kind,
            normalised=choice.fitted.normalised,
            score_draws=SCORE_DRAWS,
            target_tpr=recipe.target_tpr,
            eta=recipe.eta,
            threshold=calibration.threshold,
            radius=SIGMA / 2,
        ),
        mixture=MixtureSpec(robust_weight=0.9),
        defaults=Defaults(target_radius=0.5),
        batch_rows=BATCH_ROWS,
        provenance=_provenance(recipe, choice, calibration, training),
    )


def _provenance(recipe: Recipe, choice: HeadChoice, calibration: Calibration, training: int) -> Provenance:
    data = {"training and fit": training, "calibration": len(calibration.scores)}
    return Provenance(
        data=tuple(UsedData(purpose=why, source="Fashion-MNIST", rows=rows) for why, rows in data.items()),
        versions={name: version_of(name) for name in ("certserve", "onnx", "torch")},
        commands=("certserve recipe fashion-mnist --data DATA",),
        notes={
            "held_out_accuracy_of_one_draw": round(calibration.accuracy, 4),
            "shrinkage": choice.fitted.shrinkage,
            "base": recipe.base.settings,
            "noisy": recipe.noisy.settings,
        },
    )


def as_noisy_run(graph: Graph) -> NoisyRun:
    """A graph with outputs vote and score as calibration and evaluation call it."""

    def noisy(lattice: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        vote, score = graph(lattice)
        return cast(NDArray[np.int64], vote), cast(NDArray[np.float32], score)

    return noisy


def as_base_run(graph: Graph) -> BaseRun:
    """A graph with the one output probabilities as calibration and evaluation call it."""

    def base(lattice: NDArray[np.int32]) -> NDArray[np.float32]:
        (probabilities,) = graph(lattice)
        return cast(NDArray[np.float32], probabilities)

    return base
