from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from export.attack.campaign import AttackError
from export.attack.claims import Aim
from export.attack.gradients import CHECKPOINT, _score, from_checkpoint
from export.bundle import load
from export.recipes.networks import SmallNet

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bundle():
    return load(ROOT / "models" / "fashion-mnist" / "1")


@pytest.fixture
def network(tmp_path):
    torch.manual_seed(0)
    network = SmallNet(10).eval()
    torch.save({"average": network.state_dict()}, tmp_path / CHECKPOINT)
    return network


def test_another_network_is_refused(bundle, network, tmp_path):
    with pytest.raises(AttackError, match="is not the network of fashion-mnist/1"):
        from_checkpoint(bundle, tmp_path)
    with pytest.raises(AttackError, match="leave out --work"):
        from_checkpoint(bundle, tmp_path / "nowhere")


def test_the_gradient_climbs(bundle, network, tmp_path):
    rows = torch.from_numpy(bundle.golden.noisy_input).float()
    with torch.no_grad():
        features = network.features(rows)
        votes, scores = (
            network.head(features).argmax(1).numpy(),
            _score(bundle)(features, network.head(features)).numpy(),
        )
    own = dataclasses.replace(bundle, golden=dataclasses.replace(bundle.golden, votes=votes, scores=scores))
    ascent, score = from_checkpoint(own, tmp_path), _score(bundle)
    label = int(votes[0])
    for aim in (Aim("away", label), Aim("up"), Aim("down")):
        slope = ascent(bundle.golden.noisy_input, aim)
        moved = rows + torch.from_numpy(20 * slope / np.linalg.norm(slope)).float()
        with torch.no_grad():
            before, after = network.features(rows), network.features(moved)
            if aim.way == "away":
                chance = [network.head(each).softmax(1)[:, label].mean() for each in (before, after)]
                assert chance[1] < chance[0]
            else:
                change = score(after, network.head(after)).median() - score(before, network.head(before)).median()
                assert change > 0 if aim.way == "up" else change < 0
