"""A robust network from a brittle one: what is learnt, what stays, what is written, and that a stopped run goes on."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper, parser
from safetensors.torch import load_file
from torch import nn

import export
from export import own_model
from export.robust import robustify as whole
from export.robust import training
from export.robust.networks import logits
from export.robust.training import Learning, LearningError
from export.sources.running import open_graph
from export.sources.source import SourceError
from export.sources.torch_module import to_onnx
from serving.commands import check

COLUMNS, SIGMA = 9, 0.25
SETTINGS = {"sigma": SIGMA, "epochs": 30, "rate": 0.03, "rows": 60, "draws": 60}


def rows_of(count, seed):
    """Two labels, told by one column exactly and by little, and by all the others roughly and by much."""
    chance = np.random.default_rng(seed)
    truth = chance.integers(2, size=count)
    rows = np.clip(0.5 + (2 * truth[:, None] - 1) * 0.25 + 0.1 * chance.standard_normal((count, COLUMNS)), 0, 1)
    rows[:, 0] = 0.5 + (2 * truth - 1) * 0.04
    return rows.astype(np.float32), truth


def brittle():
    """Right about every row, by the one column that noise drowns."""
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(COLUMNS, 12), nn.ReLU(), nn.Dropout(0.1), nn.Linear(12, 2))
    with torch.no_grad():
        first, last = network[0], network[3]
        first.weight.mul_(0.1)
        last.weight.mul_(0.1)
        first.weight[:2] = torch.eye(COLUMNS)[0] * torch.tensor([[40.0], [-40.0]])
        first.bias[:2] = torch.tensor([-20.0, 20.0])
        last.weight[:, :2] = torch.tensor([[-3.0, 3.0], [3.0, -3.0]])
        last.bias.zero_()
    return network.eval()


class Two(nn.Module):
    """Two outputs, as detectors of faces have: four numbers that do not classify, and probabilities."""

    def __init__(self):
        super().__init__()
        self.network, self.box = brittle(), nn.Linear(COLUMNS, 4)

    def forward(self, rows):
        return self.box(rows), self.network(rows).softmax(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.npz"
    rows, truth = rows_of(700, 0)
    np.savez(path, x=rows, y=truth)
    return path


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "brittle.onnx"
    example = torch.zeros(2, COLUMNS)
    path.write_bytes(to_onnx(brittle(), (COLUMNS,), ("y",), names=("x",), example=example))
    return path


@pytest.fixture(scope="module")
def robust(graph, data, tmp_path_factory):
    return export.robustify(graph, data=data, out=tmp_path_factory.mktemp("robust"), **SETTINGS)


def test_votes_under_noise_become_right(robust):
    """By far more than the noise of 60 rows, on rows that were not learnt from."""
    assert robust.before.accuracy == 1
    assert robust.before.certified[1].share < 0.6
    assert robust.after.certified[1].share > robust.before.certified[1].share + 0.25
    assert robust.radii == (0, SIGMA / 2, SIGMA, 2 * SIGMA)
    assert "| original | 1.000 |" in robust.table
    assert "| robust |" in robust.table


def test_what_is_written_is_what_was_measured(robust, graph):
    """The graph takes what the original takes; the weights of the file are those of the graph."""
    rows, truth = rows_of(400, 9)
    model = onnx.load(robust.graph)
    assert [each.name for each in model.graph.input] == ["x"]
    found = open_graph(robust.graph.read_bytes(), "robust")(rows)["y"]
    assert np.mean(found.argmax(1) == truth) == pytest.approx(robust.after.accuracy, abs=0.08)
    weights = load_file(robust.weights)
    for each in model.graph.initializer:
        if each.name in weights:
            np.testing.assert_array_equal(weights[each.name].numpy(), numpy_helper.to_array(each))
    assert set(weights) <= {each.name for each in model.graph.initializer}
    assert len(weights) >= 3


def test_export_takes_both_and_every_proof_holds(robust, graph, data, tmp_path):
    bundle = own_model.export(
        graph, name="both", data=data, sigma=SIGMA, robust=robust.graph, out=tmp_path, faults=check.faults
    )
    assert bundle.manifest.mixture is not None
    lattice = bundle.golden.base_input
    values = (bundle.manifest.input.low + bundle.manifest.input.step * lattice).astype(np.float32)
    accurate = open_graph(graph.read_bytes(), "original")(values)["y"]
    votes = open_graph(robust.graph.read_bytes(), "robust")(values)["y"].argmax(1)
    probabilities = open_graph(bundle.base, "base")(lattice)["probabilities"]
    np.testing.assert_allclose(probabilities, torch.softmax(torch.from_numpy(accurate), 1).numpy(), atol=1e-5)
    np.testing.assert_array_equal(open_graph(bundle.noisy, "noisy")(lattice)["vote"], votes)
    assert {"original.onnx", "robust.onnx"} <= set(bundle.manifest.files)


def test_samples_alone_give_votes_of_the_robust_network_without_a_score(robust, graph, tmp_path):
    rows, _ = rows_of(40, 2)
    bundle = own_model.export(
        graph, name="both", samples=rows, sigma=SIGMA, robust=robust.graph, out=tmp_path, faults=check.faults
    )
    assert (bundle.manifest.ood, bundle.base == bundle.noisy) == (None, False)


def test_a_robust_network_of_other_labels_is_refused(graph, tmp_path):
    other = tmp_path / "other.onnx"
    example = torch.zeros(2, COLUMNS)
    other.write_bytes(to_onnx(nn.Linear(COLUMNS, 3), (COLUMNS,), ("y",), names=("x",), example=example))
    rows, _ = rows_of(40, 2)
    with pytest.raises(SourceError, match=r"--robust: other\.onnx tells 3 labels apart, and brittle\.onnx 2"):
        own_model.export(graph, name="n", samples=rows, sigma=SIGMA, robust=other, out=tmp_path)


def test_one_number_a_row_is_trained_on_once_it_is_said_what_it_is(data, tmp_path):
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> graph (float[n, {COLUMNS}] x) => (float[n, 1] y)
        {{ y = ReduceMean<axes = [1], keepdims = 1>(x) }}"""
    )
    (tmp_path / "one.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(SourceError, match=r"one number a row, 'y'.* a quantity.*--output-kind logits"):
        export.robustify(tmp_path / "one.onnx", data=data, out=tmp_path / "robust", **SETTINGS)
    assert not (tmp_path / "robust").exists()


def test_a_module_in_memory_stays_as_it_is(data, tmp_path):
    """One that has a second output, and ends in a softmax."""
    module = Two().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = export.robustify(module, data=data, out=tmp_path, **SETTINGS)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert module.training
    assert found.after.certified[1].share > found.before.certified[1].share + 0.25
    again = Two()
    again.load_state_dict(load_file(found.weights))
    rows, _ = rows_of(20, 3)
    wanted = again.eval()(torch.from_numpy(rows))[1].detach().numpy()
    got = open_graph(found.graph.read_bytes(), "robust")(rows)["output"]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["graph", "module"])
def test_a_denoiser_leaves_the_network_as_it_is(kind, graph, data, tmp_path):
    """The smoothed network gets better though no weight of the original moves."""
    model = graph if kind == "graph" else brittle()
    found = export.robustify(model, data=data, out=tmp_path, denoiser=True, **(SETTINGS | {"rate": 0.01}))
    assert found.after.certified[1].share > found.before.certified[1].share + 0.15
    assert "behind the denoiser" in found.table
    kept = [numpy_helper.to_array(each) for each in onnx.load(found.graph).graph.initializer]
    first = [numpy_helper.to_array(each) for each in onnx.load(graph).graph.initializer]
    assert all(any(np.array_equal(one, other) for other in kept) for one in first)
    assert open_graph(found.graph.read_bytes(), "it")(rows_of(5, 0)[0])


class Stopped(Exception):
    pass


def test_a_stopped_run_ends_as_an_uninterrupted_one(graph, data, tmp_path, monkeypatch):
    few = SETTINGS | {"epochs": 3, "rows": 5, "draws": 5}
    wanted = export.robustify(graph, data=data, out=tmp_path / "whole", **few).graph.read_bytes()
    right, seen = training._step, []
    monkeypatch.setattr(training, "KEEP_EVERY_S", 0.0)

    def stopping(*given):
        if given[6] == 7 and not seen:
            seen.append(given)
            raise Stopped
        return right(*given)

    monkeypatch.setattr(training, "_step", stopping)
    with pytest.raises(Stopped):
        export.robustify(graph, data=data, out=tmp_path / "cut", **few)
    torch.manual_seed(77)  # nothing may hang on the state the process is in
    assert export.robustify(graph, data=data, out=tmp_path / "cut", **few).graph.read_bytes() == wanted
    monkeypatch.setattr(training, "_step", None)  # a finished run trains no more
    assert export.robustify(graph, data=data, out=tmp_path / "cut", **few).graph.read_bytes() == wanted


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(graph, data, tmp_path):
    few = SETTINGS | {"epochs": 1, "rows": 5, "draws": 5}
    export.robustify(graph, data=data, out=tmp_path, **few)
    for change in ({"rate": 0.01}, {"epochs": 2}, {"sigma": 0.3}, {"denoiser": True}):
        with pytest.raises(LearningError, match=r"checkpoint\.pt was begun with .*another --out"):
            export.robustify(graph, data=data, out=tmp_path, **(few | change))
    (tmp_path / "checkpoint.pt").write_bytes(b"what is no checkpoint")
    with pytest.raises(LearningError, match=r"checkpoint\.pt is no whole checkpoint.*delete it"):
        export.robustify(graph, data=data, out=tmp_path, **few)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epochs": 0}, "expected one epoch or more"),
        ({"labels": ["a", "b", "c"]}, "3 labels were given, and .* tells 2 apart"),
        ({"sigma": 0.0}, "--sigma: expected a number above 0"),
        ({"weights": "w.safetensors"}, "--weights goes with package.module:factory"),
    ],
)
def test_wrong_arguments_are_refused(graph, data, tmp_path, change, reason):
    with pytest.raises(ValueError, match=reason):
        export.robustify(graph, data=data, out=tmp_path, **(SETTINGS | change))


def test_labels_in_another_order_are_refused_and_not_learnt(graph, tmp_path):
    rows, truth = rows_of(300, 0)
    np.savez(tmp_path / "turned.npz", x=rows, y=1 - truth)
    with pytest.raises(SourceError, match="its labels are in another order"):
        export.robustify(graph, data=tmp_path / "turned.npz", out=tmp_path, **SETTINGS)


def test_rows_that_are_measured_are_not_learnt_from(data):
    from export import data as data_sets

    everything = data_sets.open(data)
    parts = whole._parted(everything, None, 200)
    learnt, test = (
        {row.tobytes() for batch in parts[name].batches(100) for row in batch.inputs} for name in ("training", "test")
    )
    assert (len(learnt), len(test), learnt & test) == (630, 70, set())


def test_the_rate_rises_and_falls_to_nothing():
    plan = Learning(sigma_steps=1.0, epochs=1, rate=2.0, identity="")
    rates = [plan.rate_at(step, 100) for step in range(100)]
    assert max(rates) == 2.0
    assert rates.index(2.0) in (9, 10)
    assert rates[0] == pytest.approx(0.2)
    assert rates[-1] < 0.01
    assert all(one >= other for one, other in itertools.pairwise(rates[10:]))


def test_logits_of_every_kind_of_output_give_back_its_probabilities():
    rows = torch.tensor([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(logits(rows, "softmax").softmax(1), rows)
    torch.testing.assert_close(logits(rows.log(), "logits"), rows.log())
    one = torch.tensor([[0.2], [0.9]])
    torch.testing.assert_close(logits(one, "sigmoid").softmax(1)[:, 1:], one)
    assert logits(torch.tensor([[3.0]]), "logits").tolist() == [[0.0, 3.0]]
    assert torch.isfinite(logits(torch.tensor([[0.0], [1.0]]), "sigmoid")).all()
