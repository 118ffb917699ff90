"""Plans: built by TensorRT-RTX, which has the API of TensorRT and needs no GPU, kept by key, and run on a fake device."""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from benchmarks import gpu_networks
from export.bundle import load
from export.bundle.files import BASE, NOISY
from export.graphs.prepared import prepare
from serving.commands import cli
from serving.runtimes import plans, tensorrt, tensorrt_plan
from serving.runtimes.device_batch import SOURCE
from serving.runtimes.device_driver import DeviceFacts
from serving.runtimes.device_line import DeviceLine
from serving.runtimes.device_program import DeviceError
from serving.runtimes.noise_kernel import Draws
from serving.runtimes.runtime import DeviceLost
from serving.runtimes.tensorrt_network import TensorRtNetwork
from tests import graphs
from tests.half_space import write_half_space
from tests.servers import ROOT
from tests.serving.runtimes.fake_driver import FakeDriver
from tests.serving.runtimes.fake_runtime import kernels
from tests.serving.runtimes.fake_tensorrt import FakeTensorRt, plan_of
from tests.serving.runtimes.laws import drawn

FACTS = DeviceFacts("NVIDIA H200", "sm_90", "13.0")
KEY = plans.PlanKey.of(b"a graph", 128, tensorrt_plan.SETTINGS, "tensorrt 11.4.0.106", FACTS)


@pytest.fixture(scope="module")
def bundle():
    return load(ROOT / "models" / "fashion-mnist" / "1")


@pytest.fixture(scope="module")
def rtx():
    """TensorRT-RTX, told which device to build for, since it cannot ask one."""
    import tensorrt_rtx_libs

    for name in ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"):
        ctypes.CDLL(str(Path(tensorrt_rtx_libs.__file__).parent / name), mode=ctypes.RTLD_GLOBAL)
    from tensorrt_rtx_bindings import tensorrt_rtx

    class Builder(tensorrt_rtx.Builder):
        def create_builder_config(self):
            config = super().create_builder_config()
            config.num_compute_capabilities = 1
            config.set_compute_capability(tensorrt_rtx.ComputeCapability.SM80, 0)
            configs.append(config)
            return config

    configs: list = []
    return SimpleNamespace(**vars(tensorrt_rtx) | {"Builder": Builder, "configs": configs})


@pytest.mark.filterwarnings("ignore:Use Deprecated")
@pytest.mark.parametrize(("file", "rows"), [(NOISY, 128), (BASE, 8)])
def test_the_graphs_of_the_bundle_are_built_without_a_gpu(rtx, bundle, file, rows):
    said: list[str] = []
    plan, _ = tensorrt_plan.build(rtx, prepare(bundle, file).data, rows, f"{file} of {bundle.key}", said.append)
    assert len(plan) > 100_000
    assert said[0] == f"{file} of {bundle.key}: Building engine"
    config, flags = rtx.configs[-1], rtx.BuilderFlag
    assert [config.get_flag(each) for each in (flags.DISTRIBUTIVE_INDEPENDENCE, flags.STRICT_NANS)] == [True, True]
    assert not config.get_flag(flags.TF32)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "rows"), [("resnet20", 512), ("resnet50", 128)])
def test_the_networks_that_are_measured_are_built_without_a_gpu(rtx, name, rows):
    """ResNet-50 on 224x224x3 among them, with a body of FP16; exporting it takes most of a minute."""
    graph = gpu_networks.graph(name)
    plan, _ = tensorrt_plan.build(rtx, graph, rows, name, lambda phase: None)
    assert len(plan) > 0.9 * len(graph)


FP16 = "values = Cast <to = 10> (lattice) narrow = Cast <to = 10> (square) body = MatMul (values, narrow)"
INT8 = """values = Cast <to = 1> (lattice)
    given = QuantizeLinear (values, step, none) taken = DequantizeLinear (given, step, none)
    kept = QuantizeLinear (square, step, none) weights_taken = DequantizeLinear (kept, step, none)
    body = MatMul (taken, weights_taken)"""
HEAD = """features = Cast <to = 1> (body) logits = MatMul (features, wide)
    vote = ArgMax <axis = 1, keepdims = 0> (logits) score = ReduceMax <keepdims = 0> (logits, one)"""


@pytest.mark.filterwarnings("ignore:Use Deprecated")
@pytest.mark.parametrize(("body", "narrow"), [(FP16, "HALF"), (INT8, "INT8")], ids=["fp16", "int8"])
def test_a_head_behind_a_body_of_fp16_or_int8_stays_in_fp32(rtx, body, narrow):
    """Strongly typed, TensorRT computes every operator as the graph says: the scores that decide are never FP16 or INT8."""
    constants = ", float step = {0.05}, int8 none = {0}"
    model = graphs.graph(f"{body} {HEAD}", "int64[n] vote, float[n] score", constants=constants)
    network, parsers = parsed(rtx, model)
    types = {
        (layer.get_output(0).name, layer.get_output(0).dtype.name)
        for layer in (network.get_layer(place) for place in range(network.num_layers))
    }
    del parsers
    found = dict(types)
    assert narrow in found.values()
    assert found["logits"] == found["score"] == "FLOAT"
    plan, _ = tensorrt_plan.build(rtx, model, 32, "a graph", lambda phase: None)
    assert len(plan) > 1_000


def parsed(rtx, model):
    builder = rtx.Builder(rtx.Logger(rtx.Logger.ERROR))
    network = builder.create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = rtx.OnnxParser(network, rtx.Logger(rtx.Logger.ERROR))
    assert parser.parse(model), [str(parser.get_error(place)) for place in range(parser.num_errors)]
    return network, (builder, parser)  # both have to outlive it


@pytest.mark.filterwarnings("ignore:Use Deprecated")
def test_a_graph_that_is_none_is_refused_in_one_line(rtx):
    with pytest.raises(DeviceError, match="does not build noisy.onnx of x/1: .*parse.*--provider cuda or cpu") as error:
        tensorrt_plan.build(rtx, b"no graph", 8, "noisy.onnx of x/1", print)
    assert "\n" not in str(error.value)


def test_without_tensorrt_one_line_says_what_serves(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(DeviceError, match=r"TensorRT cannot be imported.*certserve\[gpu\].*--provider cuda or cpu"):
        tensorrt_plan.library()


def test_a_plan_is_found_by_its_key_and_by_no_other(tmp_path):
    assert plans.read(tmp_path, KEY) is None
    assert plans.keep(tmp_path, KEY, b"the\nplan")
    assert plans.read(tmp_path, KEY) == b"the\nplan"
    (kept,) = tmp_path.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    for field in dataclasses.fields(KEY):
        other = dataclasses.replace(KEY, **{field.name: 64 if field.name == "rows" else "another"})
        assert other.name != KEY.name
        assert plans.read(tmp_path, other) is None


def test_a_plan_under_the_name_of_another_is_not_taken(tmp_path):
    """Whoever renames a file, and a collision of names that nobody has found."""
    other = dataclasses.replace(KEY, driver="12.9")
    plans.keep(tmp_path, other, b"plan")
    (tmp_path / other.name).rename(tmp_path / KEY.name)
    assert plans.read(tmp_path, KEY) is None


@pytest.mark.parametrize(
    "damage", [lambda c: b"", lambda c: c[:10], lambda c: c[:-1], lambda c: c + b"x", lambda c: c[:-1] + b"?"]
)
def test_a_plan_that_is_not_whole_is_taken_for_absent(tmp_path, damage):
    plans.keep(tmp_path, KEY, b"the plan")
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    assert plans.read(tmp_path, KEY) is None


def test_where_nothing_can_be_kept_it_is_said(tmp_path):
    assert not plans.keep(tmp_path / "absent", KEY, b"plan")


class Bench:
    def __init__(self, bundle, rows=32, file=NOISY):
        self.driver, self.graph, self.rows, self.bundle = FakeDriver(3), prepare(bundle, file).data, rows, bundle
        self.trt = FakeTensorRt(self.driver)
        self.network = TensorRtNetwork(self.trt, self.driver, plan_of(rows, self.graph), f"{file} of {bundle.key}")
        self.session = onnxruntime.InferenceSession(self.graph)

    def line(self):
        size, labels = self.bundle.manifest.input.size, self.bundle.manifest.labels
        return DeviceLine(
            self.driver, SOURCE.read_bytes(), self.network, self.bundle.law.table, self.rows, size, len(labels)
        )


@pytest.fixture(params=["half-space", "fashion-mnist"])
def either(request, tmp_path, bundle):
    return write_half_space(tmp_path) if request.param == "half-space" else bundle


def test_votes_and_scores_of_real_bundles_come_back_through_the_whole_line(either):
    bench, shape = Bench(either), either.manifest.input.shape
    line, rng, flying = bench.line(), np.random.default_rng(0), []
    for turn in range(4):
        lattices = [rng.integers(0, 256, either.manifest.input.size).astype(np.int32) for _ in range(2)]
        parts = [Draws(rng.bytes(16), 5 + turn, 20, lattices[0]), Draws(rng.bytes(16), 2**34, 12 - turn, lattices[1])]
        flying.append((parts, line.submit(parts)))
        if len(flying) == 2:
            given, pending = flying.pop(0)
            votes, scores = pending.result()
            noisy = drawn(either.law.table, given).astype(np.int32).reshape(-1, *shape)
            padded = np.concatenate([noisy, np.zeros((32 - len(noisy), *shape), np.int32)])
            expected = bench.session.run(["vote", "score"], {"lattice": padded})
            assert np.array_equal(votes, expected[0][: len(noisy)])
            assert np.array_equal(scores, expected[1][: len(noisy)])
    flying[0][1].result()


def test_what_decides_is_put_out_by_the_plan_that_serves(bundle):
    bench = Bench(bundle)
    lattice = np.random.default_rng(0).integers(-300, 600, (32, *bundle.manifest.input.shape)).astype(np.int32)
    outputs = bench.network.run(lattice)
    names = [each.name for each in bench.session.get_outputs()]
    assert set(outputs) == set(names) > {"vote", "score"}
    for name, expected in zip(names, bench.session.run(None, {"lattice": lattice}), strict=True):
        assert np.array_equal(outputs[name], expected)
    assert len(bench.trt.engines) == 1


def test_every_execution_has_a_context_and_places_of_its_own(bundle):
    bench = Bench(bundle)
    bench.line()
    bench.network.run(np.zeros((32, *bundle.manifest.input.shape), np.int32))
    contexts = bench.trt.engines[0].contexts
    assert len(contexts) == 3
    for one, other in itertools.combinations(contexts, 2):
        assert not set(one.addresses.values()) & set(other.addresses.values())


def test_a_batch_of_another_shape_is_refused(bundle):
    with pytest.raises(ValueError, match=r"is built for \(32, 1, 28, 28\); got \(31,"):
        Bench(bundle).network.run(np.zeros((31, 1, 28, 28), np.int32))


def test_a_plan_that_is_none_is_refused(bundle):
    driver = FakeDriver()
    with pytest.raises(DeviceError, match="does not load the plan of noisy.onnx of x/1: remove it"):
        TensorRtNetwork(FakeTensorRt(driver), driver, b"junk", "noisy.onnx of x/1")


def test_a_run_that_is_refused_is_a_failure_of_the_device(bundle):
    bench = Bench(bundle)
    bench.network.capturable = False
    line = bench.line()
    bench.trt.engines[0].refuses = True
    with pytest.raises(DeviceLost, match="did not run noisy.onnx of fashion-mnist/1"):
        line.submit([Draws(bytes(16), 0, 3, np.zeros(784, np.int32))])


def test_a_second_start_builds_nothing_and_another_driver_builds_anew(bundle, tmp_path, monkeypatch):
    built = []
    build = tensorrt_plan.build

    def counted(trt, graph, rows, where, *more):
        built.append((where.split()[0], rows))
        return build(trt, graph, rows, where, *more)

    monkeypatch.setattr(tensorrt_plan, "build", counted)

    def start(facts=FACTS):
        driver = FakeDriver()
        driver.facts = facts
        return tensorrt.on_device(bundle, FakeTensorRt(driver), driver, kernels, 8, tmp_path)

    assert start().description == "tensorrt 11.4.0.106, NVIDIA H200 (sm_90, driver 13.0), 32 rows"
    assert [rows for _, rows in built] == [bundle.manifest.batch_rows, 8]
    start()
    assert len(built) == 2
    start(dataclasses.replace(FACTS, driver="13.1"))
    assert len(built) == 4


def test_a_plan_that_cannot_be_kept_serves_all_the_same_and_it_is_said(bundle, tmp_path):
    said: list[str] = []
    trt, graph = FakeTensorRt(FakeDriver()), prepare(bundle, NOISY).data
    assert tensorrt.plan_of(trt, FACTS, graph, 8, "noisy.onnx of x/1", tmp_path / "absent", said.append)
    assert said[-1].startswith("noisy.onnx of x/1: its plan cannot be kept in")


def test_what_was_timed_goes_into_the_next_build_on_the_same_device(tmp_path, monkeypatch):
    given = []

    def build(trt, graph, rows, where, say, timing=b""):
        given.append(timing)
        return b"plan", b"timed " + graph

    monkeypatch.setattr(tensorrt_plan, "build", build)
    trt = FakeTensorRt(FakeDriver())
    for graph, facts in ((b"one", FACTS), (b"two", FACTS), (b"three", dataclasses.replace(FACTS, name="another"))):
        tensorrt.plan_of(trt, facts, graph, 8, "a graph", tmp_path, lambda said: None)
    assert given == [b"", b"timed one", b""]


def test_build_plan_says_in_one_line_what_is_missing(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert cli.main(["build-plan", str(ROOT / "models")]) == 1
    error = capsys.readouterr().err
    assert "TensorRT cannot be imported" in error
    assert error.count("\n") == 1
