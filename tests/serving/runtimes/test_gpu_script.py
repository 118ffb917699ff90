"""`make gpu` where there is no GPU: one line a part; and each part on the fake device, so that it runs where one is."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gpu, gpu_networks
from serving.runtimes import cuda_driver
from serving.runtimes.device_batch import SOURCE
from serving.runtimes.device_program import DeviceError
from serving.runtimes.runtime import ProviderError
from tests.serving.runtimes.fake_driver import FakeDriver, FakeNetwork


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(gpu, "ROWS", {"resnet50": 8, "resnet20": 16})
    monkeypatch.setattr(gpu, "PROVEN", (784,))
    monkeypatch.setattr(gpu.noise_kernel, "njit", None)  # the host's side, without a compilation
    driver, networks = FakeDriver(), {}

    def network(name, rows):
        return networks.setdefault(name, FakeNetwork(driver, rows, 3_000, 9)), (3_000,), 9

    return gpu.Device(driver, SOURCE.read_bytes(), network, sigma=3.0, batches=4)


def test_every_part_runs_and_gives_its_row(device, monkeypatch):
    monkeypatch.setitem(gpu.PARTS, "noise", lambda device: gpu.noise(device, coordinates=50, rows=8))
    rows, said = gpu.run(list(gpu.PARTS), device)
    assert said == []
    assert [row.figure for row in rows] == [
        "noise equals its definition",
        "noise, ns a value",
        "answers of resnet20 in flight equal its own",
        "draws, resnet50 over bare",
        "draws, resnet20 over bare",
        "1,000 draws of resnet50, ms",
        "waits of the host in a batch",
    ]
    assert (rows[-1].ratio, rows[-1].verdict) == (1, "aim")
    assert (rows[2].ratio, rows[2].verdict) == (1, "aim")


def test_answers_that_are_not_the_networks_own_miss_their_gate(device):
    """Two batches in flight that shared memory would give each other's numbers."""
    network, _, _ = device.network("resnet20", 16)
    own = network.answer
    network.run = lambda lattice: dict(zip(("vote", "score"), own(lattice + 1), strict=True))
    (row,) = gpu.captured(device)
    assert row.verdict == "missed"


def test_each_part_that_measures_a_network_runs_where_nothing_can_be_captured(device, monkeypatch):
    """As with ONNX Runtime, which may ask the host in any of its runs."""
    for name in gpu.ROWS:
        device.network(name, gpu.ROWS[name])[0].capturable = False
    rows, said = gpu.run(["captured", "draws", "certificate", "waits"], device)
    assert said == []
    assert len(rows) == 5
    assert "replay" not in [what for what, _, _ in device.driver.calls]


@pytest.mark.parametrize("absent", [(), ("tensorrt",), ("tensorrt", "onnx")])
def test_networks_run_by_the_first_library_that_is_there_and_by_torch_otherwise(monkeypatch, capsys, absent):
    def had(library):
        def network(*arguments):
            if library in absent:
                raise DeviceError(f"{library} is not installed")
            return library

        return network

    for library in ("tensorrt", "onnx"):
        monkeypatch.setattr(gpu_networks, f"{library}_network", had(library))
    monkeypatch.setattr(gpu_networks, "TorchNetwork", lambda name, rows: "torch")
    network, shape, classes = gpu._network(FakeDriver())("resnet20", 16)
    assert network == next(each for each in ("tensorrt", "onnx", "torch") if each not in absent)
    assert (shape, classes) == ((3, 32, 32), 10)
    said = capsys.readouterr().out
    assert [f"{library} is not installed" in said for library in absent] == [True] * len(absent)
    assert ("stand-in" in said) == (network == "torch")


def test_without_its_gpu_build_onnx_runtime_says_so_before_a_graph_is_exported(monkeypatch):
    monkeypatch.setattr(gpu_networks, "graph", None)
    with pytest.raises(ProviderError, match="CUDAExecutionProvider was asked for"):
        gpu_networks.onnx_network("resnet20", FakeDriver(), 16)


def test_what_the_stand_in_calls_is_there_in_the_pinned_torch():
    """It has run on no GPU: its network, without one, and the names that it calls, are what can be seen here."""
    assert all(hasattr(torch.cuda, name) for name in ("ExternalStream", "MemPool", "use_mem_pool", "stream"))
    with torch.no_grad():
        vote, score = gpu_networks.Noisy("resnet20")(torch.zeros(2, 3, 32, 32, dtype=torch.int32))
    assert (vote.dtype, score.dtype, vote.shape, score.shape) == (torch.int64, torch.float32, (2,), (2,))


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
