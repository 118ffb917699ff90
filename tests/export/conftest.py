"""What tests of making bundles share.

Networks for tests are so small that several threads of torch spend their time on waiting for each other.
"""

from __future__ import annotations

import pytest
import torch

from export import own_model
from tests.export import three_layers

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """The network of three layers, its rows, and in `models` a bundle of it with every guarantee."""
    folder = tmp_path_factory.mktemp("source")
    three_layers.written(folder)
    own_model.export(
        folder / "net.onnx",
        name="net",
        data=folder / "data.npz",
        calibration=folder / "held.npz",
        sigma=three_layers.SIGMA,
        score="md",
        out=folder / "models",
        faults=lambda folder: [],
    )
    return folder
