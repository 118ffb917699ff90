"""One suite for every score of the registry: fitted, put into a graph, compared with its reference, proven as served.

A score of this file, which no module of the product knows, passes the same suite: that is all that another one takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from certify.ood.mahalanobis import Moments, unit
from certify.ood.scores import SCORES, Fitting
from export.build.heads import NoisyGraph
from export.build.score_heads import HEADS, Head, HeadMaker, added, head
from export.bundle import OodSpec
from export.sources.torch_module import noisy_to_onnx, to_onnx
from serving.models.proof import prove
from serving.runtimes.onnx_runtime import OnnxRuntime, open_graph
from tests.graphs import bundle_of

CLASSES, SIZE = 3, 7
RNG = np.random.default_rng(5)
WEIGHT, BIAS = RNG.standard_normal((CLASSES, SIZE)), RNG.standard_normal(CLASSES)
LABELS = np.arange(200) % CLASSES
FEATURES = 2 * unit(WEIGHT)[LABELS] + 0.5 * RNG.standard_normal((200, SIZE))


@dataclass(frozen=True)
class FarFromOrigin:
    """The reference of a score of this test: how much longer a feature is than the mean one."""

    length: float

    def scores(self, features, logits):
        found = np.sqrt(np.sum(features.astype(float) ** 2, axis=1)) - self.length
        return np.where(np.isnan(found), np.inf, found)


class FarHead(Head):
    def rule(self, features, logits):
        return added(features * features).sqrt().squeeze(1) - self.length


def fit_far(fitting):
    return FarFromOrigin(float(np.linalg.norm(fitting.some, axis=1).mean()))


OWN = "far from origin"
OWN_HEAD = HeadMaker(lambda scorer: {"length": np.array(scorer.length)}, FarHead)


@pytest.fixture(autouse=True)
def own(monkeypatch):
    """The two entries of another score, one in each file."""
    monkeypatch.setitem(SCORES, OWN, fit_far)
    monkeypatch.setitem(HEADS, OWN, OWN_HEAD)


def every_score():
    return pytest.mark.parametrize("name", [*SCORES, OWN])


def fitted(name):
    plain, units = (Moments.empty(rows[0], CLASSES).add(rows, LABELS) for rows in (FEATURES, unit(FEATURES)))
    return {**SCORES, OWN: fit_far}[name](Fitting(plain=plain, units=units, some=FEATURES, weight=WEIGHT, bias=BIAS))


class Linear(nn.Module):
    """Lattice rows of SIZE numbers in hundredths are the features; the logits are a product of them."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(WEIGHT.T, dtype=torch.float32))
        self.bias = nn.Parameter(torch.tensor(BIAS, dtype=torch.float32))

    def features(self, lattice):
        return lattice / 100

    def head(self, features):
        return features @ self.weight + self.bias


class AllScores(nn.Module):
    """Every score of one network, an output each."""

    def __init__(self, heads):
        super().__init__()
        self.network, self.heads = Linear(), nn.ModuleList(heads)

    def forward(self, lattice):
        features = self.network.features(lattice.float())
        logits = self.network.head(features)
        return tuple(each(features, logits) for each in self.heads)


@pytest.fixture(scope="module")
def run():
    """From lattice rows to the scores of each name, in ONNX Runtime."""
    fits = {**{name: HEADS[name] for name in SCORES}, OWN: OWN_HEAD}
    heads = [kind.head(kind.constants(fitted(name))) for name, kind in fits.items()]
    names = [f"score {place}" for place in range(len(heads))]
    opened = open_graph(to_onnx(AllScores(heads), (SIZE,), tuple(names)))
    return lambda rows: dict(zip(fits, opened(rows), strict=True))


def test_the_registry_and_the_heads_name_the_same_scores():
    assert SCORES.keys() == HEADS.keys()


@every_score()
def test_a_head_gives_what_its_reference_gives(run, name):
    """In ONNX Runtime, on rows near the data and far from them."""
    rows = np.rint(100 * np.concatenate([FEATURES[:40], 4 * RNG.standard_normal((40, SIZE))])).astype(np.int32)
    features = (rows / 100).astype(np.float32)
    logits = (features @ WEIGHT.T + BIAS).astype(np.float32)
    wanted = fitted(name).scores(features, logits)
    found = run(rows)[name]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4 * max(1, np.abs(wanted).max() / 10))
    assert len(np.unique(found)) > 40


def test_a_row_has_the_same_bits_in_every_slot(run):
    rows = np.rint(300 * RNG.standard_normal((32, SIZE))).astype(np.int32)
    mixed = run(rows)
    for slot, row in enumerate(rows):
        for name, alone in run(np.repeat(row[None], 32, axis=0)).items():
            assert np.array_equal(alone, np.full(32, mixed[name][slot])), name


@every_score()
def test_what_is_not_a_number_is_farthest_out(name):
    features = torch.tensor(FEATURES[:3], dtype=torch.float32)
    features[1, 2] = torch.nan
    logits = features @ torch.tensor(WEIGHT.T, dtype=torch.float32)
    found = head(name, fitted(name))(features, logits).numpy()
    assert np.isposinf(found).tolist() == [False, True, False]


class Two(nn.Module):
    """The half-space's four coordinates as features of SIZE numbers, and two logits by its own rule."""

    def features(self, lattice):
        return lattice @ torch.ones((4, SIZE)) / 1000 + lattice[:, :1] / 100

    def head(self, features):
        return torch.cat([1.5 - features[:, :1], features[:, :1] - 1.5], dim=1)


@pytest.mark.parametrize("name", ["gen", "knn", "vim", OWN])
def test_a_graph_with_the_head_is_proven_as_it_is_served(tmp_path, name):
    bundle = bundle_of(tmp_path, noisy_to_onnx(NoisyGraph(Two(), head(name, fitted(name)), 2), (4,)))
    prove(bundle, OnnxRuntime(bundle), 1)


@every_score()
def test_a_manifest_may_declare_it_and_no_other(name):
    declared = {"normalised": name.endswith("++"), "score_draws": 32, "target_tpr": 0.95, "eta": 0.01}
    declared |= {"threshold": 1.0, "radius": 0.1}
    assert OodSpec(score=name.removesuffix("++"), **declared).name == name
    with pytest.raises(ValueError, match="is not known; expected one of"):
        OodSpec(score=name.removesuffix("++") + " of another kind", **declared)
