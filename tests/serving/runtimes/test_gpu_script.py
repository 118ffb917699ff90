"""`make gpu` where there is no GPU: one line a part; and each part on the fake device, so that it runs where one is."""

from __future__ import annotations

import pytest

from benchmarks import gpu
from serving.runtimes import cuda_driver
from serving.runtimes.device_batch import SOURCE
from serving.runtimes.device_program import DeviceError
from tests.serving.runtimes.fake_driver import FakeDriver, FakeNetwork


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(gpu, "ROWS", {"resnet50": 8, "resnet20": 16})
    monkeypatch.setattr(gpu, "PROVEN", (784,))
    monkeypatch.setattr(gpu.noise_kernel, "njit", None)  # the host's side, without a compilation
    driver, networks = FakeDriver(), {}

    def network(name, rows):
        return networks.setdefault(name, FakeNetwork(driver, rows, 3_000, 9)), 3_000, 9

    return gpu.Device(driver, SOURCE.read_bytes(), network, sigma=3.0, batches=4)


def test_every_part_runs_and_gives_its_row(device, monkeypatch):
    monkeypatch.setitem(gpu.PARTS, "noise", lambda device: gpu.noise(device, coordinates=50, rows=8))
    rows, said = gpu.run(list(gpu.PARTS), device)
    assert said == []
    assert [row.figure for row in rows] == [
        "noise equals its definition",
        "noise, ns a value",
        "draws, resnet50 over bare",
        "draws, resnet20 over bare",
        "1,000 draws of resnet50, ms",
        "waits of the host in a batch",
    ]
    assert (rows[-1].ratio, rows[-1].verdict) == (1, "aim")


def test_a_part_that_fails_says_so_in_one_line_and_stops_no_other(device, monkeypatch):
    def broken(device):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setitem(gpu.PARTS, "draws", broken)
    rows, said = gpu.run(["draws", "waits"], device)
    assert said == ["draws: did not run: RuntimeError: out of memory"]
    assert len(rows) == 1


def test_without_a_gpu_each_part_says_why(capsys, monkeypatch):
    def absent():
        raise DeviceError("no CUDA device 0 can be used: no driver; serve with --provider cpu")

    monkeypatch.setattr(gpu, "CudaDriver", absent)
    assert gpu.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == list(gpu.PARTS)
    assert all("cannot run here: no CUDA device 0" in line for line in lines)
    assert gpu.main(["waits"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_an_unknown_part_is_refused(capsys):
    with pytest.raises(SystemExit):
        gpu.main(["weights"])
    assert "unknown part 'weights'" in capsys.readouterr().err


@pytest.mark.gpu
def test_the_parts_that_need_no_network_hold_on_a_gpu():
    try:
        cuda_driver.CudaDriver()
    except DeviceError as error:
        pytest.skip(str(error))
    assert gpu.main(["kernel", "noise"]) == 0
