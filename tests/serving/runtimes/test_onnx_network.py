"""Sessions of ONNX Runtime on a device that does everything later than it is asked: buffers, streams, order and waiting."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from export.bundle import load
from export.bundle.files import NOISY
from export.graphs.prepared import prepare
from export.graphs.reading import GraphError
from serving.runtimes import onnx_device, onnx_network, onnx_session
from serving.runtimes.device_batch import SOURCE
from serving.runtimes.device_driver import DeviceFacts
from serving.runtimes.device_line import DeviceLine
from serving.runtimes.noise_kernel import Draws
from serving.runtimes.onnx_network import OnnxNetwork
from serving.runtimes.open import open_runtime
from serving.runtimes.runtime import DeviceLost, ProviderError
from tests.half_space import write_half_space
from tests.servers import ROOT
from tests.serving.runtimes.fake_driver import FakeDriver
from tests.serving.runtimes.fake_onnx import FakeSessions
from tests.serving.runtimes.fake_runtime import kernels
from tests.serving.runtimes.laws import drawn

ROWS = 32
BATCH = ["copy", "copy", "add_noise", "after", "network", "after", "gather_results", "copy", "wait"]


@pytest.fixture(scope="module")
def half_space(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def pictures():
    return load(ROOT / "models" / "fashion-mnist" / "1")


class Bench:
    """A line of a bundle's noisy graph by a provider, and what its answers should be."""

    def __init__(self, bundle, provider="cuda", seed=0, waits=None, sessions=None):
        self.bundle, self.driver = bundle, FakeDriver(seed)
        self.sessions, self.graph = sessions or FakeSessions(self.driver), prepare(bundle, NOISY)
        waits = provider == "onnx-tensorrt" if waits is None else waits
        shape = (ROWS, *bundle.manifest.input.shape)
        self.network = OnnxNetwork(self._open(provider), self.driver, self.graph, shape, "noisy.onnx of x/1", waits)
        size, labels = bundle.manifest.input.size, len(bundle.manifest.labels)
        self.line = DeviceLine(self.driver, SOURCE.read_bytes(), self.network, bundle.law.table, ROWS, size, labels)
        self.reference = onnxruntime.InferenceSession(self.graph.data)
        self.driver.calls.clear()

    def _open(self, provider):
        return lambda graph, settings: self.sessions(graph, provider, settings)

    def parts(self, rng):
        lattices = rng.integers(0, 256, (2, self.bundle.manifest.input.size)).astype(np.int32)
        rows = int(rng.integers(1, 13))
        return [Draws(rng.bytes(16), 5, 20, lattices[0]), Draws(rng.bytes(16), 2**34, rows, lattices[1])]

    def is_right(self, parts, results):
        noisy = drawn(self.bundle.law.table, parts).astype(np.int32).reshape(-1, *self.bundle.manifest.input.shape)
        padded = np.concatenate([noisy, np.zeros((ROWS - len(noisy), *noisy.shape[1:]), np.int32)])
        expected = self.reference.run(["vote", "score"], {"lattice": padded})
        return all(np.array_equal(found, each[: len(noisy)]) for found, each in zip(results, expected, strict=True))

    def all_right(self, rng, batches=8):
        """Two batches always in flight."""
        flying, right = [], True
        for _ in range(batches):
            parts = self.parts(rng)
            flying.append((parts, self.line.submit(parts)))
            if len(flying) == 2:
                taken, pending = flying.pop(0)
                right &= self.is_right(taken, pending.result())
        return right & self.is_right(flying[0][0], flying[0][1].result())

    def names(self):
        return [what for what, _, _ in self.driver.calls]


@pytest.mark.parametrize("provider", ["cuda", "onnx-tensorrt"])
@pytest.mark.parametrize("seed", range(4))
def test_answers_are_right_whenever_the_device_does_its_work(half_space, provider, seed):
    assert Bench(half_space, provider, seed).all_right(np.random.default_rng(seed))


def test_a_real_network_is_answered_right(pictures):
    assert Bench(pictures).all_right(np.random.default_rng(0), batches=3)


def test_tensorrts_provider_would_read_inputs_that_are_not_complete(half_space):
    """The fault for which each of its batches is waited for twice: without that, answers are wrong."""
    for seed in (0, 1):
        assert not Bench(half_space, "onnx-tensorrt", seed, waits=False).all_right(np.random.default_rng(seed))


def test_a_batch_is_waited_for_once_and_the_network_runs_on_its_own_stream_between_noise_and_results(half_space):
    bench = Bench(half_space)
    bench.line.submit(bench.parts(np.random.default_rng(1))).result()
    assert bench.names() == BATCH
    streams = [stream for _, stream, _ in bench.driver.calls]
    lane, own = streams[0], streams[BATCH.index("network")]
    assert [what for what, stream, _ in bench.driver.calls if stream == own] == ["after", "network"]
    assert set(streams) == {lane, own}
    assert [detail for what, _, detail in bench.driver.calls if what == "after"] == [(lane,), (own,)]
    assert bench.sessions.opened[0].settings["user_compute_stream"] == str(own)


def test_two_batches_are_in_flight_before_either_is_waited_for(half_space):
    bench, rng = Bench(half_space), np.random.default_rng(2)
    held = [bench.line.submit(bench.parts(rng)) for _ in range(2)]
    assert bench.names() == BATCH[:-1] * 2
    for pending in held:
        pending.result()
    assert bench.names()[-2:] == ["wait", "wait"]


def test_the_slower_provider_is_waited_for_once_more_before_the_network(half_space):
    bench = Bench(half_space, "onnx-tensorrt")
    bench.line.submit(bench.parts(np.random.default_rng(1))).result()
    assert bench.names() == [*BATCH[:3], "wait", *BATCH[3:]]


def test_inputs_and_outputs_are_buffers_of_the_device_bound_once_and_no_two_lanes_share_one(half_space):
    bench, rng = Bench(half_space), np.random.default_rng(1)
    (session,) = bench.sessions.opened
    before = [dict(each.inputs) | dict(each.outputs) for each in session.bindings]
    bench.line.submit(bench.parts(rng)).result()
    assert [dict(each.inputs) | dict(each.outputs) for each in session.bindings] == before
    assert [each.keys() for each in before] == [{"lattice", "vote", "score"}] * 2
    assert all(bound[0] == "cuda" for each in before for bound in each.values())
    one, other = ({bound[-1] for bound in each.values()} for each in before)
    assert not one & other
    owned = {memory.address for memory in bench.driver.memories}
    assert one | other <= owned


def test_one_batch_crosses_in_three_copies_whatever_its_draws(half_space):
    """The lattices of its parts, 32 bytes a row, and 8 bytes a row back: no draw makes a trip of its own."""
    bench = Bench(half_space)
    bench.line.submit(bench.parts(np.random.default_rng(1))).result()
    sizes = [detail[2] for what, _, detail in bench.driver.calls if what == "copy"]
    assert sizes == [2 * 4 * half_space.manifest.input.size, 32 * ROWS, 8 * ROWS]


def test_what_decides_is_put_out_by_the_session_that_serves(pictures):
    bench = Bench(pictures)
    lattice = np.random.default_rng(0).integers(-300, 600, (ROWS, *pictures.manifest.input.shape)).astype(np.int32)
    for _ in range(2):
        outputs = bench.network.run(lattice)
    assert set(outputs) == {each.name for each in bench.reference.get_outputs()} > {"vote", "score"}
    for name, expected in zip(outputs, bench.reference.run(list(outputs), {"lattice": lattice}), strict=True):
        assert np.array_equal(outputs[name], expected)
    assert len(bench.sessions.opened) == 1


def test_the_real_library_takes_what_it_is_bound_to(pictures, monkeypatch):
    """ONNX Runtime itself, on buffers of the host. It runs when it is asked, not in a stream, so its input is waited for."""
    monkeypatch.setattr(onnx_network, "_DEVICE", ("cpu", 0))

    def real(graph, provider, settings):
        return onnx_session.open_session(graph, "cpu", {})

    bench = Bench(pictures, waits=True, sessions=real)
    assert bench.all_right(np.random.default_rng(0), batches=3)
    lattice = np.random.default_rng(0).integers(-300, 600, (ROWS, *pictures.manifest.input.shape)).astype(np.int32)
    outputs = bench.network.run(lattice)
    for name, expected in zip(outputs, bench.reference.run(list(outputs), {"lattice": lattice}), strict=True):
        assert np.array_equal(outputs[name], expected)


def test_a_batch_of_another_shape_is_refused(half_space):
    with pytest.raises(ValueError, match=r"is served for \(32, 4\); got \(31,"):
        Bench(half_space).network.run(np.zeros((31, 4), np.int32))


@pytest.mark.parametrize("said", ["CUDA failure 700: an illegal memory access", "CUDA failure 2: out of\nmemory"])
def test_a_run_that_fails_is_a_failure_of_the_device(half_space, said):
    bench = Bench(half_space)
    bench.sessions.opened[0].failing = said
    with pytest.raises(DeviceLost, match="the device failed: CUDA failure") as error:
        bench.line.submit(bench.parts(np.random.default_rng(1)))
    assert "\n" not in str(error.value)


def test_a_session_that_cannot_be_opened_names_the_graph(half_space):
    def broken(graph, settings):
        raise RuntimeError("no kernel\nfor this node")

    with pytest.raises(GraphError, match="noisy.onnx of x/1 cannot be opened by ONNX Runtime: no kernel for this node"):
        OnnxNetwork(broken, FakeDriver(), prepare(half_space, NOISY), (ROWS, 4), "noisy.onnx of x/1")


def test_both_networks_run_by_the_provider_and_the_description_says_which(half_space, monkeypatch):
    monkeypatch.setattr(onnx_device, "installed", {"nvidia-cublas": "7", "nvidia-cudnn-cu13": "8"}.__getitem__)
    driver = FakeDriver()
    sessions = FakeSessions(driver)
    runtime = onnx_device.on_device(half_space, "cuda", sessions, driver, kernels, 8, Path("/nowhere"))
    library = f"onnxruntime {onnxruntime.__version__} CUDAExecutionProvider nvidia-cublas 7 nvidia-cudnn-cu13 8"
    rows = half_space.manifest.batch_rows
    assert runtime.description == f"{library}, a fake (sm_90, driver 13.0), {rows} rows"
    assert {each.provider for each in sessions.opened} == {"cuda"}
    streams = [each.settings["user_compute_stream"] for each in sessions.opened]
    assert len(set(streams)) == len(streams)


def test_an_engine_of_tensorrts_provider_has_one_shape_and_is_kept_by_all_that_it_depends_on(tmp_path, monkeypatch):
    facts, shape = DeviceFacts("NVIDIA H200", "sm_90", "13.0"), (128, 3, 32, 32)

    def settings(graph=b"a graph", shape=shape, **other):
        return onnx_device.tensorrt_settings(graph, shape, dataclasses.replace(facts, **other), tmp_path)

    shapes = {value for name, value in settings().items() if name.startswith("trt_profile")}
    assert shapes == {"lattice:128x3x32x32"}
    found = [settings(), settings(b"another"), settings(shape=(64, 3, 32, 32))]
    found += [settings(**{field.name: "another"}) for field in dataclasses.fields(facts)]
    with monkeypatch.context() as patched:
        patched.setattr(onnx_device, "version", lambda: "another")
        found.append(settings())
    for library in ("tensorrt-cu13", "nvidia-cudnn-cu13", "nvidia-cublas"):
        with monkeypatch.context() as patched:
            patched.setattr(onnx_device, "_version_of", lambda name, other=library: "another" if name == other else "1")
            found.append(settings())
    folders = [each["trt_engine_cache_path"] for each in found]
    assert len(set(folders)) == len(folders) == 10


def test_each_provider_gets_its_stream_and_what_is_below_tensorrt_the_same(monkeypatch):
    """What ONNX Runtime is asked for, since it cannot be asked for a device here."""
    asked = []

    def session(graph, options, providers):
        asked.append(providers)
        return SimpleNamespace(get_providers=lambda: [providers[0][0]])

    monkeypatch.setattr(onnx_session.onnxruntime, "InferenceSession", session)
    known = [name for name, _ in onnx_session.PROVIDERS.values()]
    monkeypatch.setattr(onnx_session.onnxruntime, "get_available_providers", lambda: known)
    settings = {"user_compute_stream": "77"}
    onnx_session.open_session(b"", "cuda", settings)
    onnx_session.open_session(b"", "onnx-tensorrt", settings | {"trt_engine_cache_path": "there"})
    (cuda,), (tensorrt, below) = asked
    assert (
        cuda == below == ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC", **settings})
    )
    assert tensorrt[1] == {"trt_engine_cache_enable": "1", "trt_engine_cache_path": "there", **settings}


def test_a_provider_that_another_would_stand_in_for_is_refused(monkeypatch, capsys):
    """ONNX Runtime runs on the processor, without a word, where the libraries of CUDA are missing."""
    monkeypatch.setattr(onnx_session.onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    silent = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnx_session.onnxruntime, "InferenceSession", lambda *args, **more: silent)
    monkeypatch.setattr(
        onnx_session.onnxruntime, "preload_dlls", lambda directory: print("Failed to load libcudnn.so.9")
    )
    with pytest.raises(ProviderError, match=r"offers CPUExecutionProvider: .*certserve\[gpu\].*--provider cpu"):
        onnx_session.open_session(b"", "cuda", {})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("provider", ["cuda", "onnx-tensorrt"])
def test_a_build_without_the_provider_says_what_to_install_and_what_serves_without(half_space, provider):
    with pytest.raises(ProviderError, match=r"was asked for, but .*certserve\[gpu\].*--provider cpu") as said:
        open_runtime(half_space, provider)
    assert "\n" not in str(said.value)
