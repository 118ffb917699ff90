"""The driver of CUDA: what it says where there is no device, and, wherever there is one, that it does what the port says."""

from __future__ import annotations

import cuda.core
import numpy as np
import pytest

from serving.runtimes import cuda_driver, device_batch, device_line, device_noise, device_program
from serving.runtimes.noise_kernel import Draws
from tests.serving.runtimes.laws import drawn, law_of


def absent(number=0):
    raise OSError("libcuda.so.1 is not there\nand nothing else is")


def test_a_missing_driver_is_one_line_with_a_remedy(monkeypatch):
    from cuda.bindings import driver

    monkeypatch.setattr(driver, "cuDriverGetVersion", lambda: (0, 13_000))
    monkeypatch.setattr(cuda.core, "Device", absent)
    with pytest.raises(device_program.DeviceError, match="no CUDA device 3 .*libcuda.*driver.*--provider cpu") as error:
        cuda_driver.CudaDriver(3)
    assert "\n" not in str(error.value)


def test_missing_packages_are_named_before_anything_is_imported(monkeypatch):
    monkeypatch.setattr(device_program, "PACKAGES", ("cuda-core", "certserve-is-not-this"))
    with pytest.raises(device_program.DeviceError, match=r"certserve-is-not-this is missing.*certserve\[gpu\]"):
        cuda_driver.CudaDriver()


@pytest.mark.parametrize(("version", "named"), [(12_080, "12.8"), (11_080, "11.8")])
def test_a_driver_that_is_too_old_is_named_with_what_is_needed(monkeypatch, version, named):
    from cuda.bindings import driver

    monkeypatch.setattr(driver, "cuDriverGetVersion", lambda: (0, version))
    said = f"its driver is for CUDA {named}, and 13 or newer is needed; install .*for CUDA 13.*--provider cpu"
    with pytest.raises(device_program.DeviceError, match=said) as error:
        cuda_driver.CudaDriver()
    assert "\n" not in str(error.value)


def test_an_error_of_the_driver_is_named():
    from cuda.bindings.driver import CUresult

    assert cuda_driver._done((CUresult.CUDA_SUCCESS, 7)) == 7
    assert cuda_driver._done((CUresult.CUDA_SUCCESS,)) is None
    with pytest.raises(RuntimeError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        cuda_driver._done((CUresult.CUDA_ERROR_OUT_OF_MEMORY, None))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (cuda.core.Device, ["set_current", "create_stream", "create_graph_builder", "memory_resource", "name", "arch"]),
        (cuda.core.Stream, ["sync", "wait", "__cuda_stream__"]),
        (cuda.core.graph.GraphBuilder, ["begin_building", "end_building", "complete", "__cuda_stream__"]),
        (cuda.core.graph.Graph, ["launch"]),
        (cuda.core.ObjectCode, ["from_cubin", "get_kernel"]),
        (cuda.core.MemoryResource, ["allocate"]),
        (cuda.core.Buffer, ["handle"]),
    ],
)
def test_what_the_driver_calls_is_there_in_the_pinned_release(kind, names):
    assert [name for name in names if not hasattr(kind, name)] == []


def test_a_grid_is_given_as_the_library_takes_it():
    config = cuda.core.LaunchConfig(grid=device_batch.grid(128, 150_528), block=device_batch.THREADS)
    assert config.grid == (74, 128, 1)
    assert config.block == (128, 1, 1)


class Nothing:
    """A network that answers 0: what is tried here is everything around it."""

    input_type, capturable, waits = np.int32, True, False

    def execution(self, addresses, stream):
        return lambda stream: None


@pytest.fixture
def driver():
    try:
        return cuda_driver.CudaDriver()
    except device_program.DeviceError as error:
        pytest.skip(str(error))


@pytest.mark.gpu
@pytest.mark.parametrize(("sigma", "coordinates"), [(0.3, 1), (63.75, 150_528), (3_500.0, 2_049)])
def test_noise_on_a_gpu_is_that_of_the_definition(driver, tmp_path, sigma, coordinates):
    law, code = law_of(sigma), device_program.compiled(0, driver.facts.architecture, tmp_path)
    lattice = np.arange(coordinates, dtype=np.int32) % 256
    parts = [Draws(bytes(range(16)), 2**39, 20, lattice), Draws(bytes(16), 3, 30, lattice[::-1])]
    kernel = driver.kernels(code, ["add_noise"])["add_noise"]
    source = device_noise.NoiseSource(driver, kernel, law, coordinates, np.dtype(np.int32))
    assert np.array_equal(source.batch(64).read(parts, driver.stream())[:50], drawn(law, parts))
    line = device_line.DeviceLine(driver, code, Nothing(), law, 64, coordinates, 9)
    pending = [line.submit(parts), line.submit(parts)]
    assert [len(each.result()[0]) for each in pending] == [50, 50]
