"""What a device makes in batches of other sizes: measured with everything that is served, said, and never served instead."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from export.bundle.files import BASE, NOISY
from serving.runtimes import device_rate, onnx_device, tensorrt, tensorrt_plan
from serving.runtimes.device_batch import SOURCE
from serving.runtimes.device_rate import Rate, advice, neighbours
from tests.half_space import write_half_space
from tests.serving.runtimes.fake_driver import FakeDriver, FakeNetwork
from tests.serving.runtimes.fake_onnx import FakeSessions
from tests.serving.runtimes.fake_runtime import kernels
from tests.serving.runtimes.fake_tensorrt import FakeTensorRt
from tests.serving.runtimes.laws import law_of

COORDINATES = 40


class Timed(FakeDriver):
    """Time goes by where a network runs, and nowhere else."""

    now = 0.0

    def clock(self):
        return self.now


@pytest.mark.parametrize(("overhead", "each"), [(1.0, 0.0), (0.5, 0.25), (0.0, 0.125)])
def test_the_rate_is_that_of_the_clock(overhead, each, monkeypatch):
    monkeypatch.setattr(device_rate, "_SECONDS", 200.0)
    driver = Timed()
    rate = Rate(driver, SOURCE.read_bytes(), law_of(4.0), COORDINATES, driver.clock)

    class Network(FakeNetwork):
        def answer(self, lattice):
            driver.now += overhead + each * len(lattice)
            return super().answer(lattice)

    for rows in (32, 64):
        expected = rows / (overhead + each * rows)
        assert rate.of(Network(driver, rows, COORDINATES, 9), rows) == pytest.approx(expected, rel=0.1)


def test_it_measures_noise_network_and_results_with_two_batches_in_flight():
    driver = FakeDriver()
    network = FakeNetwork(driver, 32, COORDINATES, 9)
    Rate(driver, SOURCE.read_bytes(), law_of(4.0), COORDINATES).of(network, 32)
    calls = [(what, stream) for what, stream, _ in driver.calls if what in ("replay", "wait")]
    (first, second) = next(pair for pair in pairwise(calls) if [what for what, _ in pair] == ["replay"] * 2)
    assert first[1] != second[1]
    assert {detail for what, _, detail in driver.calls if what == "replay"} == {
        ("copy", "add_noise", "network", "gather_results", "copy")
    }


@pytest.mark.parametrize(
    ("declared", "coordinates", "expected"),
    [
        (128, 784, [64, 256]),
        (64, 784, [32, 128]),
        (32, 784, [64]),
        (96, 784, [192]),
        (4_096, 10, [2_048]),
        (2_048, 2**18, [1_024]),
    ],
)
def test_others_are_half_and_twice_as_many_rows_where_a_bundle_may_declare_them(declared, coordinates, expected):
    assert neighbours(declared, coordinates) == expected


@pytest.mark.parametrize(
    ("rates", "better"),
    [
        ({128: 100.0}, None),
        ({128: 100.0, 64: 90.0, 256: 104.0}, None),
        ({128: 100.0, 64: 90.0, 256: 106.0}, 256),
        ({128: 100.0, 64: 130.0, 256: 120.0}, 64),
    ],
)
def test_it_is_said_where_another_size_is_worth_an_export(rates, better):
    said = advice(rates, 128)
    assert said == "" if better is None else f"declare batch_rows {better} and export again" in said


@pytest.fixture
def bundle(tmp_path):
    return write_half_space(tmp_path)


def opened(bundle, rates, monkeypatch, sessions=None):
    monkeypatch.setattr(Rate, "of", lambda rate, network, rows: rates[rows])
    driver = FakeDriver()
    sessions = sessions or FakeSessions(driver)
    sessions.driver = driver
    return onnx_device.on_device(bundle, "cuda", sessions, driver, kernels, 8, Path("/nowhere"))


def test_a_better_batch_is_a_line_in_the_log_and_the_declared_one_is_served(bundle, monkeypatch, caplog):
    declared = bundle.manifest.batch_rows
    rates = {declared: 1_000.0, declared // 2: 500.0, declared * 2: 1_800.0}
    with caplog.at_level(logging.WARNING):
        runtime = opened(bundle, rates, monkeypatch)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{bundle.key}: its batches of {declared} rows make 1,000 draws a second")
    assert f"declare batch_rows {2 * declared}" in line
    assert runtime.description.endswith(f", {declared} rows")
    assert runtime._noisy._shape[0] == declared


def test_the_rows_of_a_batch_tell_runtimes_apart(bundle, monkeypatch):
    rates = dict.fromkeys((32, 64, 128, 256), 1.0)
    other = replace(bundle, manifest=bundle.manifest.model_copy(update={"batch_rows": 64}))
    assert opened(bundle, rates, monkeypatch).description != opened(other, rates, monkeypatch).description


def test_a_size_that_does_not_fit_is_said_and_stops_nothing(bundle, monkeypatch, caplog):
    class Small(FakeSessions):
        def __call__(self, graph, provider, settings):
            if len(self.opened) == 2:
                raise RuntimeError("CUDA failure 2: out of\nmemory")
            return super().__call__(graph, provider, settings)

    with caplog.at_level(logging.WARNING):
        opened(bundle, dict.fromkeys((128, 256), 1.0), monkeypatch, Small(None))
    lines = [record.getMessage() for record in caplog.records]
    for line, rows in zip(lines, (64, 256), strict=True):
        assert f"batches of {rows} rows cannot be measured: " in line
        assert "out of memory" in line
        assert "\n" not in line


def test_no_plan_is_built_for_a_measurement_and_those_that_are_kept_are_measured(bundle, tmp_path, monkeypatch):
    built, measured = [], []
    build = tensorrt_plan.build
    monkeypatch.setattr(
        tensorrt_plan, "build", lambda trt, graph, rows, *more: built.append(rows) or build(trt, graph, rows, *more)
    )
    monkeypatch.setattr(Rate, "of", lambda rate, network, rows: measured.append(rows) or 1.0)
    declared = bundle.manifest.batch_rows

    def start():
        driver = FakeDriver()
        trt = FakeTensorRt(driver)
        tensorrt.on_device(bundle, trt, driver, kernels, 8, tmp_path)
        return trt, driver

    trt, driver = start()
    assert (built, measured) == ([declared, 8], [declared])
    others = neighbours(declared, bundle.manifest.input.size)
    assert tensorrt.planned(bundle, 8) == [(NOISY, declared), (BASE, 8), *((NOISY, rows) for rows in others)]
    for rows in others:
        graph = tensorrt.prepare(bundle, NOISY).data
        tensorrt.plan_of(trt, driver.facts, graph, rows, "beforehand", tmp_path, lambda said: None)
    measured.clear()
    start()
    assert measured == [declared, *others]
    assert len(built) == 2 + len(others)
