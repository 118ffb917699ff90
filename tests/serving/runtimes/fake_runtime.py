"""The runtimes of a device on the fake one: ONNX Runtime runs the networks on the host, everything around them is real."""

from __future__ import annotations

import tempfile
from pathlib import Path

from serving.runtimes import onnx_device, tensorrt
from serving.runtimes.device_batch import SOURCE
from tests.serving.runtimes.fake_driver import ELEMENT, FakeDriver
from tests.serving.runtimes.fake_onnx import FakeSessions
from tests.serving.runtimes.fake_tensorrt import FakeTensorRt


def kernels(element):
    """What the fake driver takes for the kernels that write this type."""
    return SOURCE.read_bytes() + ELEMENT + str(element).encode()


def tensorrt_on_fake_device(bundle, provider="tensorrt", base_rows=8, seed=0):
    """As `serving.runtimes.tensorrt.open_tensorrt` opens it, plans built and all."""
    driver = FakeDriver(seed)
    with tempfile.TemporaryDirectory() as folder:
        return tensorrt.on_device(bundle, FakeTensorRt(driver), driver, kernels, base_rows, Path(folder))


def onnx_on_fake_device(bundle, provider="cuda", base_rows=8, seed=0):
    """As `serving.runtimes.onnx_device.open_onnx` opens it, with the provider's name behind `fake-`, or as it is."""
    driver, real = FakeDriver(seed), provider.removeprefix("fake-")
    return onnx_device.on_device(bundle, real, FakeSessions(driver), driver, kernels, base_rows, Path("/nowhere"))


ON_FAKE_DEVICE = {
    "fake-tensorrt": tensorrt_on_fake_device,
    "fake-cuda": onnx_on_fake_device,
    "fake-onnx-tensorrt": onnx_on_fake_device,
}
"""As `serving.runtimes.open.RUNTIMES` has them."""
