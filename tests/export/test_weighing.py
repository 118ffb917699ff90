"""A learnt weight of the mixture: what it is made of, that it cannot leave its range, and what that certifies, exactly."""

from __future__ import annotations

import itertools
import shutil
from fractions import Fraction
from math import comb

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import export
from certify.mixture.mix import WeightRange
from export import own_model
from export.build.weight_graph import inward
from export.bundle import load
from export.graphs.prepared import prepare
from export.graphs.reading import GraphError
from export.sources.running import open_graph
from export.sources.source import SourceError
from serving.commands import answers, check
from tests.export.three_layers import SIGMA, rows_of

LEAST, MOST = 0.7, 0.95


@pytest.fixture(scope="module")
def made(source, tmp_path_factory):
    """A bundle with a fixed weight, and its version with one that is learnt."""
    out = tmp_path_factory.mktemp("models")
    shutil.copytree(source / "models", out, dirs_exist_ok=True)
    found = export.weigh(
        out / "net" / "1",
        data=source / "held.npz",
        test=source / "data.npz",
        minimum=LEAST,
        maximum=MOST,
        fit_draws=8,
        rows=30,
        draws=60,
        faults=check.faults,
    )
    return load(out / "net" / "1"), found


def test_the_base_graph_gives_the_same_probabilities_and_a_weight_in_its_range(made):
    old, found = made
    lattice = np.random.default_rng(0).integers(-(10**6), 10**6, (200, 6)).astype(np.int32)
    lattice[:16] = old.golden.base_input[:16]
    new = open_graph(found.bundle.base, "new")(lattice)
    wanted = open_graph(old.base, "old")(lattice)["probabilities"]
    np.testing.assert_allclose(new["probabilities"], wanted, atol=1e-6)
    assert new["weight"].shape == (200,)
    assert new["weight"].min() >= LEAST
    assert new["weight"].max() <= MOST
    assert len(np.unique(new["weight"])) > 1
    assert found.bundle.noisy == old.noisy


def test_answers_mix_by_the_weight_of_the_input_and_certify_by_the_minimum(made):
    """The same draws with the fixed minimum have the same radius, and other probabilities."""
    old, found = made
    row = old.golden.base_input[0]
    weight = float(open_graph(found.bundle.base, "new")(row[None])["weight"][0])
    asked = {"certify": "best", "max_draws": 256}
    with answers.from_engine(found.bundle, asked) as ask:
        said = ask(row)
    assert said["mixture"]["robust_weight"] == LEAST
    shift = _quantile(1 / (2 * LEAST))
    assert said["mixture"]["radius"] >= said["certificate"]["radius"] - SIGMA * shift - 1e-9
    accurate = np.array(said["probabilities"])
    shares = (np.array(said["mixture"]["probabilities"]) - (1 - weight) * accurate) / weight
    np.testing.assert_allclose(shares * said["draws"], np.rint(shares * said["draws"]), atol=1e-3)


def _quantile(p):
    from scipy.special import ndtri

    return float(ndtri(p))


def test_the_curve_certifies_what_the_minimum_does(made):
    _, found = made
    minima = [each.minimum for each in found.points]
    assert minima == sorted({0.6, LEAST, 0.8, 0.9})
    for one, other in itertools.pairwise(found.points):
        assert all(a <= b for a, b in zip(one.certified, other.certified, strict=True))
    assert "| 0.7 |" in found.table
    assert (found.bundle.manifest.mixture.robust_weight, found.bundle.manifest.mixture.most_weight) == (LEAST, MOST)


def test_ranges_in_float32_are_no_wider_than_declared():
    for least, most in ((0.7, 0.95), (0.6, 0.9), (0.8, 1.0), (1 / 3 + 0.2, 2 / 3)):
        low, high = inward(WeightRange(minimum=least, maximum=most))
        assert least <= float(low) <= float(high) <= most
    with pytest.raises(SourceError, match="declare a wider range"):
        inward(WeightRange(minimum=0.7, maximum=0.7))


def test_a_head_that_puts_out_nonsense_does_not_leave_the_range(made):
    """Biases of infinity, and such that are no numbers, in the very graph that is served."""
    old, found = made
    model = onnx.load_from_string(found.bundle.base)
    biases = [each for each in model.graph.initializer if each.name.startswith("weighing/body") and "bias" in each.name]
    assert biases
    for value in (np.inf, -np.inf, np.nan, 1e30):
        for each in biases:
            each.CopyFrom(numpy_helper.from_array(np.full(each.dims, value, np.float32), each.name))
        weight = open_graph(model.SerializeToString(), "it")(old.golden.base_input)["weight"]
        assert ((weight >= LEAST) & (weight <= MOST)).all()


@pytest.mark.parametrize("change", ["wider", "no clip", "of something else", "no constants"])
def test_a_graph_whose_weight_could_leave_its_range_is_refused(made, change):
    """Whatever it gave on the inputs that are tried: the range has to hold at every input."""
    _, found = made
    model = onnx.load_from_string(found.bundle.base)
    (clip,) = (node for node in model.graph.node if "weight" in node.output)
    if change == "wider":
        for each in model.graph.initializer:
            if each.name == clip.input[1]:
                each.CopyFrom(numpy_helper.from_array(np.float32(0.6), each.name))
    elif change == "no clip":
        clip.CopyFrom(helper.make_node("Identity", [clip.input[0]], ["weight"]))
    elif change == "of something else":
        clip.CopyFrom(helper.make_node("Max", list(clip.input[:2]), ["weight"]))
    else:
        model.graph.node.insert(0, helper.make_node("Identity", [clip.input[1]], ["computed"]))
        clip.input[1] = "computed"
    broken = found.bundle.__class__(**{**vars(found.bundle), "base": model.SerializeToString()})
    with pytest.raises(GraphError, match=r"gives 'weight' by \w+; expected a Clip to constants within the range"):
        prepare(broken, "base.onnx")


def test_a_bundle_without_a_mixture_has_no_weight_to_learn(source, tmp_path):
    rows, _ = rows_of(60, 3)
    own_model.export(source / "net.onnx", name="net", samples=rows, sigma=SIGMA, out=tmp_path, faults=lambda folder: [])
    with pytest.raises(SourceError, match="net/1 declares no mixture"):
        export.weigh(tmp_path / "net" / "1", data=source / "held.npz", test=source / "data.npz")


SIZE, KEPT = 8, 1
"""Bits of an input, and how many of them noise shows, the others hidden: a law whose probabilities are exact fractions."""


def _shares(function, bits):
    """The exact share of each label over all ways of showing some bits."""
    counts = [0, 0]
    for kept in itertools.combinations(range(SIZE), KEPT):
        counts[function(tuple(bits[place] if place in kept else None for place in range(SIZE)))] += 1
    return [Fraction(each, comb(SIZE, KEPT)) for each in counts]


def _majority(seen):
    return int(2 * sum(each or 0 for each in seen) > KEPT)


@pytest.mark.parametrize("least", [Fraction(3, 5), Fraction(3, 4), Fraction(9, 10)])
def test_no_weight_within_its_range_changes_a_label_that_its_minimum_certifies(least):
    """By fractions, over all 256 inputs and their neighbours, against the accurate network and the weight that are worst.

    With one bit changed, a share moves by the chance of seeing it, at most. What certifies by w(x) = 1, the weight at the
    input itself, is broken by a neighbour whose weight is the minimum.
    """
    moved = 1 - Fraction(comb(SIZE - 1, KEPT), comb(SIZE, KEPT))
    inputs = list(itertools.product((0, 1), repeat=SIZE))
    shares = {bits: _shares(_majority, bits) for bits in inputs}
    certified, broken = 0, 0
    for bits in inputs:
        label = int(shares[bits][1] > shares[bits][0])
        at_minimum = shares[bits][label] - moved > 1 / (2 * least)
        at_own_weight = shares[bits][label] - moved > Fraction(1, 2)  # of w(x) = 1
        certified += at_minimum
        for place in range(SIZE):
            other = (*bits[:place], 1 - bits[place], *bits[place + 1 :])
            h = shares[other]
            for weight in (least, (least + 1) / 2, Fraction(1)):
                mixed = [weight * h[each] + (1 - weight) * (each != label) for each in (0, 1)]
                keeps = mixed[label] > mixed[1 - label]
                assert keeps or not at_minimum
                broken += at_own_weight and not keeps
    assert certified
    assert broken or least > Fraction(3, 4)
