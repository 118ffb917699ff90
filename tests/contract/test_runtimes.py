"""What every runtime has to do, whichever device it runs on: one suite, on the exact model and on the bundled one.

The second runtime of `second_runtime` passes it as the real one does, and touches no file of the product.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnxruntime
import pytest

from export.bundle import load
from serving.config import Limits
from serving.engine.engine import Engine, Served
from serving.engine.scheduler import Scheduler
from serving.gateway.gateway import Gateway
from serving.messages import Options, PredictRequest
from serving.models.catalogue import Catalogue
from serving.models.proof import prove
from serving.runtimes import device_noise, device_rate
from serving.runtimes.onnx_session import check_one_distribution
from serving.runtimes.open import RUNTIMES, open_runtime
from serving.runtimes.runtime import DrawRange, ProviderError, given, passing, portions
from tests.contract.second_runtime import DESCRIPTION, NumpyRuntime
from tests.half_space import CUT, write_half_space
from tests.servers import ROOT
from tests.serving.runtimes.fake_runtime import ON_FAKE_DEVICE

KEYS = [bytes([number] * 16) for number in (1, 200)]


@dataclass(frozen=True)
class Shift:
    """A law that no kernel knows: draw i of a key adds i, and the first byte of the key, to the first number."""

    x: np.ndarray

    def sample(self, key, start, stop):
        rows = np.repeat(self.x[None], stop - start, axis=0).astype(np.int32)
        rows.reshape(len(rows), -1)[:, 0] += np.arange(start, stop) + key[0]
        return rows


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    return {
        "half-space": write_half_space(tmp_path_factory.mktemp("models")),
        "fashion-mnist": load(ROOT / "models" / "fashion-mnist" / "1"),
    }


@pytest.fixture(
    params=[
        *itertools.product(["half-space", "fashion-mnist"], ["cpu"]),
        ("half-space", "second"),
        *itertools.product(["half-space"], ON_FAKE_DEVICE),
        *(
            pytest.param((name, each), marks=pytest.mark.gpu)
            for name in ("half-space",)
            for each in ("cuda", "tensorrt", "onnx-tensorrt")
        ),
    ],
    ids="-".join,
)
def opened(request, bundles, monkeypatch):
    """A bundle and a runtime of it."""
    name, provider = request.param
    monkeypatch.setitem(RUNTIMES, "second", NumpyRuntime)
    for each, opener in ON_FAKE_DEVICE.items():
        monkeypatch.setitem(RUNTIMES, each, opener)
    if provider in ON_FAKE_DEVICE:  # the tests of the device see that it is a million, and others wait less
        monkeypatch.setattr(device_noise, "_PROVEN_VALUES", 20_000)
        monkeypatch.setattr(device_rate, "_SECONDS", 0.0)
    try:
        runtime = open_runtime(bundles[name], provider, base_rows=8)
    except ProviderError as error:
        if "gpu" not in {mark.name for mark in request.node.iter_markers()}:
            raise
        pytest.skip(str(error))
    yield bundles[name], runtime
    runtime.close()


def some_draws(bundle, count=200):
    """Draws of two inputs of the bundle's law and of a law that nobody has a kernel for, in ranges of odd lengths."""
    one, other = (bundle.law.at(bundle.golden.noisy_input[place]) for place in (0, 1))
    shift = Shift(bundle.golden.noisy_input[1])
    cuts = [0, 1, 32, 33, 70, 100, 190, count]
    laws = itertools.cycle([one, one, other, shift])
    return [
        DrawRange(law, KEYS[at % 2], 5 + start, 5 + stop)
        for law, (at, (start, stop)) in zip(laws, enumerate(itertools.pairwise(cuts)), strict=False)
    ]


def joined(results):
    """Votes and scores of several calls, as bytes."""
    return tuple(np.concatenate(each).tobytes() for each in zip(*results, strict=True))


def test_it_is_proven(opened):
    bundle, runtime = opened
    prove(bundle, runtime, 8)


def test_the_draws_are_those_of_their_laws_bit_for_bit(opened):
    bundle, runtime = opened
    draws = some_draws(bundle)
    expected = np.concatenate([each.law.sample(each.key, each.start, each.stop) for each in draws])
    assert np.array_equal(runtime.drawn(draws), expected)
    assert runtime.drawn(draws[:1]).shape == (1, *bundle.manifest.input.shape)


def test_a_draw_is_answered_alike_however_ranges_are_cut_and_wherever_it_stands(opened):
    bundle, runtime = opened
    draws = some_draws(bundle)
    whole = joined([runtime.noisy(draws)])
    for most in (1, 7, 32, 128, 130):
        assert joined([runtime.noisy(portion) for portion in portions(draws, most)]) == whole
    rng = np.random.default_rng(0)
    singles = list(itertools.chain(*portions(draws, 1)))
    for _ in range(3):
        order = rng.permutation(len(singles))
        votes, scores = runtime.noisy([singles[place] for place in order])
        back = np.argsort(order)
        assert joined([(votes[back], scores[back])]) == whole


def test_a_draw_is_answered_alike_beside_any_mates(opened):
    bundle, runtime = opened
    mine = [some_draws(bundle)[2]]
    alone = joined([runtime.noisy(mine)])
    far = np.full((40, *bundle.manifest.input.shape), 5_000, np.int32)
    for mates in (far, -far, 0 * far):
        votes, scores = runtime.noisy([*given(mates), *mine, *given(mates)])
        here = slice(40, 40 + len(mine[0]))
        assert joined([(votes[here], scores[here])]) == alone


def test_submissions_are_in_flight_together_and_asked_for_in_any_order(opened):
    bundle, runtime = opened
    parts = list(portions(some_draws(bundle), 30))
    one_by_one = [joined([runtime.noisy(part)]) for part in parts]
    flying = [runtime.submit(part) for part in parts[: max(2, runtime.ahead)]]
    assert [joined([each.result()]) for each in reversed(flying)] == one_by_one[: len(flying)][::-1]
    assert joined([flying[0].result()]) == one_by_one[0]


def test_many_threads_share_it(opened):
    bundle, runtime = opened
    parts = list(portions(some_draws(bundle), 25)) * 4
    alone = [joined([runtime.noisy(part)]) for part in parts]
    gate = threading.Barrier(4)

    def work(place):
        gate.wait(60)
        found = [joined([runtime.noisy(part)]) for part in parts[place::4]]
        assert np.array_equal(runtime.base(bundle.golden.base_input), first)
        return found

    first = runtime.base(bundle.golden.base_input)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(work, range(4)))
    assert [found[place % 4][place // 4] for place in range(len(parts))] == alone


def test_whatever_goes_wrong_is_raised_by_the_result_and_spoils_nothing_else(opened):
    bundle, runtime = opened
    draws = some_draws(bundle)
    whole = joined([runtime.noisy(draws)])

    class Broken:
        def sample(self, key, start, stop):
            raise ZeroDivisionError("a defect of a law")

    flying = runtime.submit([*draws, DrawRange(Broken(), KEYS[0], 0, 3)])
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            flying.result()
    assert joined([runtime.noisy(draws)]) == whole


def test_shapes_types_and_the_description(opened):
    bundle, runtime = opened
    votes, scores = runtime.noisy(some_draws(bundle))
    assert (votes.dtype, votes.shape, scores.dtype, scores.shape) == (np.int64, (200,), np.float32, (200,))
    for rows in (1, 3, 8, 20):
        inputs = np.resize(bundle.golden.base_input, (rows, *bundle.manifest.input.shape))
        probabilities = runtime.base(inputs)
        assert (probabilities.dtype, probabilities.shape) == (np.float32, (rows, len(bundle.manifest.labels)))
        assert np.array_equal(probabilities[:1], runtime.base(inputs[:1]))
    assert [len(each) for each in runtime.noisy([])] == [0, 0]
    known = (f"onnxruntime {onnxruntime.__version__}", "tensorrt 11", DESCRIPTION)
    assert runtime.description.startswith(known)
    assert not runtime.description.endswith(("unknown", ", "))


def test_the_lattice_is_never_clipped(opened):
    """Values far outside the grid reach the network as they are."""
    bundle, runtime = opened
    rows = np.full((3, *bundle.manifest.input.shape), -5_000, np.int32)
    rows[1], rows[2] = 9_000, CUT
    votes, scores = passing(runtime)(rows)
    assert np.array_equal(runtime.drawn(given(rows)), rows)
    if bundle.manifest.name == "half-space":
        assert (votes.tolist(), scores.tolist()) == ([0, 1, 0], [-5_000.0, 9_000.0, float(CUT)])


def test_an_engine_answers_alike_on_every_runtime(bundles, monkeypatch):
    """One that keeps two batches in flight, too: the same certificates as on the first, but for the name of what ran."""
    monkeypatch.setitem(RUNTIMES, "second", NumpyRuntime)
    bundle = bundles["half-space"]

    def answered(provider):
        runtime = open_runtime(bundle, provider)
        engine = Engine([Served(bundle, runtime)], Scheduler(), 2, 10**6)
        gateway = Gateway(Catalogue([bundle]), engine, b"s" * 32, Limits())

        async def ask(row, **options):
            request = PredictRequest(
                model="half-space", version=None, inputs=np.array([row], np.int64), options=Options(**options)
            )
            return (await gateway.predict(request)).predictions[0]

        async def all_of_them():
            modes = (
                {},
                {"certify": "best", "max_draws": 700},
                {"certify": "fixed", "draws": 1_000},
                {"certify": "off"},
            )
            rows = ([first, 1, 2, 3] for first in (90, 125, 150, 250))
            return await asyncio.gather(*(ask(row, **mode) for row in rows for mode in modes))

        found = asyncio.run(all_of_them())
        engine.close()
        runtime.close()
        return [(each.certificate, each.ood, each.draws, each.lost_draws) for each in found]

    assert answered("second") == answered("cpu")


def test_a_provider_that_nobody_registered_is_refused_by_name(bundles):
    with pytest.raises(ProviderError, match="unknown provider 'gpu'; expected one of cpu, cuda, tensorrt"):
        open_runtime(bundles["half-space"], "gpu")


def test_two_builds_of_onnx_runtime_are_refused_by_name(tmp_path, monkeypatch):
    other = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    check_one_distribution()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ProviderError, match="onnxruntime and onnxruntime-gpu are both installed"):
        check_one_distribution()
