from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from certify.ood.mahalanobis import Moments, fit, unit
from export.build.heads import BaseGraph, NoisyGraph
from export.build.score_heads import distance_head
from export.recipes.networks import SIDE, SmallNet
from export.sources.torch_module import base_to_onnx, noisy_to_onnx, to_onnx
from tests.export.runtime import open_graph

SHAPE = (1, SIDE, SIDE)
CLASSES = 10
VARIANTS = [(kind, normalised) for kind in ("md", "rmd") for normalised in (False, True)]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = SmallNet(CLASSES)
    with torch.no_grad():  # statistics and scales that are not those of a fresh layer, so that folding is exercised
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.3, 0.3)
    return network.eval()


@pytest.fixture(scope="module")
def lattice():
    """Noisy inputs, far beyond the grid on both sides."""
    generator = np.random.default_rng(0)
    return (
        generator.integers(0, 256, (300, *SHAPE)) + np.rint(63.75 * generator.standard_normal((300, *SHAPE)))
    ).astype(np.int32)


def features(network, lattice):
    with torch.no_grad():
        return network.features(torch.from_numpy(lattice).float()).numpy()


def fitted(network, lattice, normalised):
    rows = features(network, lattice)
    rows = unit(rows) if normalised else rows
    labels = np.arange(len(rows)) % CLASSES
    return fit(Moments.empty(rows[:50].mean(axis=0), CLASSES).add(rows, labels), normalised=normalised)


@pytest.mark.parametrize(("kind", "normalised"), VARIANTS)
def test_torch_onnx_and_float64_agree(network, lattice, kind, normalised):
    detector = fitted(network, lattice, normalised)
    module = NoisyGraph(network, distance_head(detector, kind), CLASSES)
    votes, scores = open_graph(noisy_to_onnx(module, SHAPE))(lattice)
    with torch.no_grad():
        torch_votes, torch_scores = module(torch.from_numpy(lattice))
    exact = detector.scores(features(network, lattice), kind)
    scale = np.maximum(
        1, detector.scores(features(network, lattice), "md")
    )  # RMD is a difference of numbers of this size
    assert votes.dtype == np.int64
    assert scores.dtype == np.float32
    assert np.abs(scores - exact).max() < 1e-4 * scale.max()
    assert np.abs(torch_scores.numpy() - exact).max() < 1e-4 * scale.max()
    assert np.array_equal(votes, torch_votes.numpy())
    assert len(np.unique(votes)) > 1


def test_the_base_graph_gives_probabilities(network, lattice):
    (probabilities,) = open_graph(base_to_onnx(BaseGraph(network), SHAPE))(lattice)
    with torch.no_grad():
        expected = network(torch.from_numpy(lattice).float()).softmax(1).numpy()
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_export_is_reproducible_and_carries_no_notes(network, lattice):
    def export():
        return noisy_to_onnx(NoisyGraph(network, distance_head(fitted(network, lattice, False), "md"), CLASSES), SHAPE)

    first = export()
    assert first == export()
    model = onnx.load_from_string(first)
    parts = [model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output]
    assert not any(part.doc_string or part.metadata_props for part in parts)
    assert b".py" not in first
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]


def test_one_graph_takes_every_batch_and_int32_only(network, lattice):
    graph = noisy_to_onnx(NoisyGraph(network, distance_head(fitted(network, lattice, False), "md"), CLASSES), SHAPE)
    run = open_graph(graph)
    whole = run(lattice)
    for size in (1, 3, 32):
        votes, scores = run(lattice[:size])
        assert np.array_equal(votes, whole[0][:size])
        np.testing.assert_allclose(scores, whole[1][:size], rtol=1e-5)
    (entry,) = onnx.load_from_string(graph).graph.input
    assert (entry.name, entry.type.tensor_type.elem_type) == ("lattice", onnx.TensorProto.INT32)
    with pytest.raises(Exception, match="data type"):
        run(lattice.astype(np.uint8))


def test_nothing_is_clipped(network, lattice):
    run = open_graph(
        noisy_to_onnx(NoisyGraph(network, distance_head(fitted(network, lattice, False), "md"), CLASSES), SHAPE)
    )
    inside = np.clip(lattice, 0, 255)
    assert not np.allclose(run(lattice)[1], run(inside)[1], rtol=1e-2)


class Exploding(nn.Module):
    """Three logits and as many features, which an input of 1 to 4 drives out of the finite numbers."""

    def features(self, lattice):
        x = lattice.flatten(1)[:, :1]
        return torch.cat([x, torch.where(x == 1, torch.nan, x), torch.where(x == 2, torch.inf, x)], dim=1)

    def head(self, rows):
        x = rows[:, :1]
        last = torch.where(x == 3, torch.nan, torch.where(x == 4, -torch.inf, 0 * x))
        return torch.cat([x, 2 * x, last], dim=1)


def test_no_vote_is_an_argmax_of_what_is_not_finite():
    rows = np.random.default_rng(1).standard_normal((50, 3))
    detector = fit(Moments.empty(rows[0], 3).add(rows, np.arange(50) % 3), normalised=False)
    for kind in ("md", "rmd"):
        run = open_graph(noisy_to_onnx(NoisyGraph(Exploding(), distance_head(detector, kind), 3), (1,)))
        votes, scores = run(np.array([[0], [1], [2], [3], [4], [5]], dtype=np.int32))
        assert votes.tolist() == [0, 1, 1, 3, 3, 1]  # NaN and -inf logits vote for none
        assert np.isposinf(scores[[1, 2]]).all()
        assert np.isfinite(scores[[0, 3, 4, 5]]).all()


class Plain(nn.Module):
    """The lattice is the features, and the first of them are the logits."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def features(self, lattice):
        return lattice

    def head(self, features):
        return features[:, : self.classes]


@pytest.mark.parametrize(("classes", "features"), [(3, 5), (7, 7), (10, 13), (13, 31)])
@pytest.mark.parametrize(("kind", "normalised"), VARIANTS)
def test_a_head_gives_a_row_the_same_bits_in_every_slot(kind, normalised, classes, features):
    """Whatever the number of classes and of features: a sum over a row of no multiple of 4 would not."""
    generator = np.random.default_rng(0)
    rows = generator.integers(-200, 200, (32, features)).astype(np.int32)
    fit_rows = unit(rows.astype(float)) if normalised else rows.astype(float)
    detector = fit(Moments.empty(fit_rows[0], classes).add(fit_rows, np.arange(32) % classes), normalised=normalised)
    run = open_graph(noisy_to_onnx(NoisyGraph(Plain(classes), distance_head(detector, kind), classes), (features,)))
    mixed = run(rows)[1]
    for slot, row in enumerate(rows):
        alone = run(np.repeat(row[None], 32, axis=0))[1]
        assert np.array_equal(alone, np.full(32, mixed[slot]))


class Training(nn.Module):
    """Two parts, one of them frozen."""

    def __init__(self):
        super().__init__()
        self.dropout, self.frozen, self.last = nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, 3)

    def forward(self, lattice):
        return self.last(self.frozen(self.dropout(lattice.float()))).softmax(1)


def test_an_export_leaves_every_part_of_a_network_in_its_mode():
    network = Training()
    network.frozen.eval()
    to_onnx(network, (4,), ("probabilities",))
    assert (network.training, network.dropout.training, network.frozen.training) == (True, True, False)


def test_an_export_that_fails_leaves_the_modes_too():
    class Fixed(Training):
        def forward(self, lattice):
            return torch.zeros(2, 3) + lattice.float().mean()

    network = Fixed()
    with pytest.raises(Exception, match="batch"):
        to_onnx(network, (4,), ("probabilities",))
    assert network.training
    assert network.dropout.training


def test_features_of_zero_length_have_a_finite_score():
    rows = np.abs(np.random.default_rng(1).standard_normal((50, 3)))
    detector = fit(Moments.empty(rows[0], 2).add(unit(rows), np.arange(50) % 2), normalised=True)
    score = distance_head(detector, "md")(torch.zeros(1, 3), torch.zeros(1, 2)).numpy()
    np.testing.assert_allclose(score, detector.scores(np.zeros((1, 3)), "md"), rtol=1e-4)


def test_a_network_that_fixes_the_batch_is_refused():
    class Fixed(nn.Module):
        def forward(self, lattice):
            return torch.zeros(2, 3) + lattice.float().mean()

    with pytest.raises(Exception, match="batch"):
        to_onnx(Fixed(), (1,), ("probabilities",))
