"""The runtime of TensorRT on the fake device: ONNX Runtime runs what the plan would, and everything around it is real."""

from __future__ import annotations

import tempfile
from pathlib import Path

from serving.runtimes import tensorrt
from serving.runtimes.device_batch import SOURCE
from tests.serving.runtimes.fake_driver import FakeDriver
from tests.serving.runtimes.fake_tensorrt import FakeTensorRt


def on_fake_device(bundle, provider="tensorrt", base_rows=8, seed=0):
    """As `serving.runtimes.tensorrt.open_tensorrt` opens it, plans built and all."""
    driver = FakeDriver(seed)
    with tempfile.TemporaryDirectory() as folder:
        return tensorrt.on_device(bundle, FakeTensorRt(driver), driver, SOURCE.read_bytes(), base_rows, Path(folder))
