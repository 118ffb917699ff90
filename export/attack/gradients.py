"""The network's own gradient, where the recipe's checkpoint is at hand: projected ascent on the expectation over noise.

The checkpoint has to vote and score as the bundle's graph does on its golden inputs; one of another training is refused,
as its gradient would point nowhere and the attack would look stronger than it is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from certify.claims.confidence import labels_of
from export.attack.campaign import AttackError
from export.attack.claims import Aim
from export.attack.search import Ascent, Direction
from export.build.score_heads import HEADS, Head
from export.bundle import Bundle
from export.recipes.networks import SmallNet

CHECKPOINT = "noisy.pt"


def from_checkpoint(bundle: Bundle, work: Path) -> Ascent:
    """The gradient of the robust network in `work`, the recipe's folder of checkpoints."""
    network = _network(bundle, work / CHECKPOINT)
    score = _score(bundle) if bundle.manifest.ood else None
    _check(bundle, network, score, work / CHECKPOINT)

    def ascent(rows: NDArray[np.int32], aim: Aim) -> Direction:
        lattice = torch.from_numpy(rows).float().requires_grad_()
        features = network.features(lattice)
        logits = network.head(features)
        if aim.way == "away":
            goal = _away(logits, aim.label)
        elif score is not None:
            goal = _median(score(features, logits)) * (1 if aim.way == "up" else -1)
        else:
            raise AttackError("the bundle has no score to push")
        (slope,) = torch.autograd.grad(goal, lattice)
        found: Direction = slope.sum(0).double().numpy()
        return found

    return ascent


def _away(logits: Tensor, label: int) -> Tensor:
    """The mean chance of any other class: a smooth stand-in for the share of votes against the label."""
    others = logits.clone()
    others[:, label] = -torch.inf
    return torch.sigmoid(others.logsumexp(1) - logits[:, label]).mean()


def _median(scores: Tensor) -> Tensor:
    """The mean of the middle half: what moves it moves the median."""
    ordered = scores.sort().values
    return ordered[len(scores) // 4 : -(len(scores) // 4)].mean()


def _network(bundle: Bundle, path: Path) -> SmallNet:
    network = SmallNet(len(bundle.manifest.labels))
    try:
        network.load_state_dict(torch.load(path, weights_only=True)["average"])
    except (OSError, KeyError, RuntimeError) as error:
        raise AttackError(f"{path} cannot be read as a checkpoint of the recipe ({error}); leave out --work") from error
    return network.eval().requires_grad_(False)


def _score(bundle: Bundle) -> Head:
    """The head with the constants that the bundle's graph carries."""
    spec = bundle.manifest.ood
    assert spec is not None
    prefix = "score."
    constants = {
        each.name.removeprefix(prefix): numpy_helper.to_array(each)
        for each in onnx.load_from_string(bundle.noisy).graph.initializer
        if each.name.startswith(prefix)
    }
    return HEADS[spec.name].head(constants)


def _check(bundle: Bundle, network: SmallNet, score: Head | None, path: Path) -> None:
    golden = bundle.golden
    with torch.no_grad():
        features = network.features(torch.from_numpy(golden.noisy_input).float())
        logits = network.head(features)
        votes = logits.argmax(1).numpy()
        scores = golden.scores if score is None else score(features, logits).numpy()
    served = labels_of(golden.votes, len(bundle.manifest.labels))
    if not np.array_equal(votes, served) or not np.allclose(scores, golden.scores, rtol=1e-2):
        raise AttackError(f"{path} is not the network of {bundle.key}: golden votes or scores differ; leave out --work")
