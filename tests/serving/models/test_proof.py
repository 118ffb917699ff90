from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from serving.models import proof
from serving.models.probes import near_ties
from serving.models.proof import ProofError, prove
from serving.runtimes.onnx_runtime import OnnxRuntime
from serving.runtimes.open import open_runtime
from serving.runtimes.runtime import ProviderError, given
from tests.graphs import bundle_of, graph
from tests.half_space import CUT, write_half_space


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


class Altered:
    """The real runtime with one alteration of what it puts out; `more` adds to what its votes are decided from."""

    description, ahead, multiplications, suspects = "altered", 1, 1e3, ["ReduceSum 'sum' over 10"]

    def __init__(
        self, bundle, noisy=lambda votes, scores: (votes, scores), base=lambda p: p, more=None, drawn=lambda rows: rows
    ):
        self._real, self._noisy, self._base, self._more = OnnxRuntime(bundle), noisy, base, more
        self._drawn = drawn

    def base(self, lattice):
        return self._base(self._real.base(lattice))

    def noisy(self, draws):
        return self.passes(self.drawn(draws))

    def drawn(self, draws):
        return self._drawn(self._real.drawn(draws))

    def passes(self, lattice):
        return self._noisy(*self._real.noisy(given(lattice)))

    def base_evidence(self, lattice):
        return {"probabilities": self.base(lattice)}

    def noisy_evidence(self, lattice):
        vote, score = self.passes(lattice)
        return {"vote": vote, "score": score} | (
            {"logits": self._more(lattice.astype(np.float32))} if self._more else {}
        )


def test_the_real_runtime_is_proven(bundle):
    prove(bundle, OnnxRuntime(bundle), 8)


def in_odd_slots(values, by):
    values = values.copy()
    values[1::2] += by
    return values


def where_a_mate_is(lattice, mate):
    """A last bit more wherever some row of the batch is extreme."""
    return lattice * np.float32(1 + 2.0**-20) if np.any(mate(lattice)) else lattice


@pytest.mark.parametrize(
    ("alterations", "message"),
    [
        ({"noisy": lambda v, s: (1 - v, s)}, "golden votes differ"),
        ({"noisy": lambda v, s: (v, s * np.float32(1.01))}, "golden scores"),
        ({"noisy": lambda v, s: (v, s * np.float32(np.nan))}, "depends on its place|golden scores"),
        ({"base": lambda p: p + np.float32(0.01)}, "golden probabilities"),
        ({"noisy": lambda v, s: (v, s + np.arange(s.size, dtype=s.dtype))}, "depends on its place"),
        ({"noisy": lambda v, s: (v, s + s.mean())}, "depends on its place"),
        ({"base": lambda p: p - p.mean(axis=0) + np.float32(0.5)}, "depends on its place"),
        ({"noisy": lambda v, s: (np.roll(v, 1), np.roll(s, 1))}, "depends on its place"),
        ({"base": lambda p: np.roll(p, 1, axis=0)}, "depends on its place"),
        ({"more": lambda x: in_odd_slots(x, np.spacing(np.abs(x[1::2])))}, "depends on its place .* 'logits'"),
        ({"more": lambda x: x + (np.arange(len(x)) == len(x) - 1)[:, None] * np.float32(1e-3)}, "'logits'"),
        ({"more": lambda x: where_a_mate_is(x, lambda rows: rows > 300)}, "'logits'"),
        ({"more": lambda x: where_a_mate_is(x, lambda rows: rows < -80)}, "'logits'"),
        ({"more": lambda x: where_a_mate_is(x, lambda rows: ~rows.any(axis=1))}, "'logits'"),
        ({"noisy": lambda v, s: (v, 0 * s + np.float32(1.5))}, "golden scores|same score"),
        ({"drawn": lambda rows: rows + (np.arange(len(rows)) == len(rows) - 1)[:, None]}, "draws other noise"),
        ({"drawn": lambda rows: np.roll(rows, 1, axis=0)}, "draws other noise"),
    ],
    ids=[
        *(
            "votes",
            "scores",
            "nan",
            "probabilities",
            "slot",
            "mates",
            "base-mates",
            "shifted",
            "base-shifted",
            "last bits",
        ),
        *("last slot", "a high mate", "a low mate", "a mate of zeros", "one score"),
        *("one number of the noise", "noise in another order"),
    ],
)
def test_a_runtime_that_computes_something_else_is_refused(bundle, alterations, message):
    with pytest.raises(ProofError, match=message):
        prove(bundle, Altered(bundle, **alterations), 8)


class Coupled(Altered):
    """Served are other numbers than those that are shown."""

    def noisy(self, draws):
        vote, score = super().noisy(draws)
        return vote, score + np.float32(1)

    def noisy_evidence(self, lattice):
        return self._real.noisy_evidence(lattice)


def test_what_is_proven_has_to_be_what_is_served(bundle):
    with pytest.raises(ProofError, match="what else is asked"):
        prove(bundle, Coupled(bundle), 8)


SUMS = {
    "ReduceSum": "l0 = ReduceSum <keepdims = 0> (q0, one)  l1 = ReduceSum <keepdims = 0> (q1, one)",
    "ReduceMean": "l0 = ReduceMean <keepdims = 0> (q0, one)  l1 = ReduceMean <keepdims = 0> (q1, one)",
}
PROTOTYPES = """z = MatMul (values, wide)  d0 = Sub (z, mu0)  d1 = Sub (z, mu1)  q0 = Mul (d0, d0)  q1 = Mul (d1, d1)
    {sums}  less = Less (l1, l0)  vote = Cast <to = 7> (less)  column = MatMul (values, first)
    score = Squeeze (column, one)"""
MEANS = """, float[10] mu0 = {10.1, 200.3, -60.7, 80.9, -120.3, 60.1, 70.7, -10.3, 80.9, 120.7},
    float[10] mu1 = {40.3, 250.1, -90.2, 110.7, -180.9, 90.3, 20.1, -60.2, 60.3, 160.1}, float[10,1] ten = {1.0, 1.0, 1.0,
    1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}"""


def prototypes(sums):
    body = "values = Cast <to = 1> (lattice) " + PROTOTYPES.format(sums=sums)
    return graph(body, "int64[n] vote, float[n] score", constants=MEANS)


@pytest.mark.parametrize("operator", SUMS)
def test_sums_whose_order_depends_on_the_slot_are_refused_and_named(operator, tmp_path):
    """Their votes differ near ties alone, and the score not at all: what the vote is decided from tells."""
    bundle = bundle_of(tmp_path, noisy=prototypes(SUMS[operator]))
    with pytest.raises(ProofError, match=rf"'l[01]' of the noisy graph .*suspect {operator} 'l0' over 10.*MatMul"):
        prove(bundle, OnnxRuntime(bundle), 8)


def test_the_same_sums_as_products_are_proven(tmp_path):
    products = "p0 = MatMul (q0, ten)  p1 = MatMul (q1, ten)  l0 = Squeeze (p0, one)  l1 = Squeeze (p1, one)"
    bundle = bundle_of(tmp_path, noisy=prototypes(products))
    prove(bundle, OnnxRuntime(bundle), 8)


@pytest.mark.parametrize("rows", ["noisy_input", "base_input"])
def test_a_single_golden_row_is_no_proof(bundle, rows):
    same = np.repeat(getattr(bundle.golden, rows)[:1], 6, axis=0)
    with pytest.raises(ProofError, match=f"half-space/1: golden.safetensors holds one {rows} only"):
        prove(replace(bundle, golden=replace(bundle.golden, **{rows: same})), OnnxRuntime(bundle), 8)


def test_rows_near_ties_are_found_between_rows_of_different_votes(bundle):
    runtime, golden = OnnxRuntime(bundle), bundle.golden
    found = near_ties(golden.noisy_input, golden.votes, lambda rows: runtime.noisy(given(rows))[0], 3, 32)
    assert len(found) == 6
    assert np.all(np.abs(found[:, 0] - CUT) <= 1)
    assert runtime.noisy(given(found))[0].reshape(3, 2).sum(axis=1).tolist() == [1, 1, 1]


def test_rows_that_all_vote_alike_have_no_ties(bundle):
    golden = bundle.golden
    assert len(near_ties(golden.noisy_input, 0 * golden.votes, lambda rows: rows[:, 0].astype(np.int64), 3, 32)) == 0


def test_an_absent_provider_is_refused_instead_of_served_on_the_cpu(bundle):
    with pytest.raises(ProviderError, match="CUDAExecutionProvider was asked for"):
        open_runtime(bundle, provider="cuda")
    with pytest.raises(ProviderError, match="expected one of cpu, cuda, tensorrt"):
        open_runtime(bundle, provider="gpu")


@pytest.mark.gpu
@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "onnx-tensorrt"])
def test_the_gpu_reproduces_the_golden_outputs(bundle, provider):
    try:
        runtime = open_runtime(bundle, provider, base_rows=8)
    except ProviderError as error:
        pytest.skip(str(error))
    prove(bundle, runtime, 8)


@pytest.mark.parametrize("rows", [proof._LEAST_ROWS, 65, 66, 67, 1_000, 262_144])
def test_ranges_of_draws_are_in_order_however_large_an_input_is(rows):
    """A picture of 224x224x3 has few rows to a million numbers."""
    cuts = proof._cuts(rows)
    assert cuts == sorted(set(cuts))
    assert (cuts[0], cuts[-1], len(cuts)) == (0, rows, 5)
