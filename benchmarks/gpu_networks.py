"""Networks for a GPU, with random weights: ResNet-50 on 224x224x3 and ResNet-20, each from a lattice to a vote and a score.

Bodies are FP16, heads FP32. Each as a graph of ONNX for TensorRT and, as a stand-in where that is absent, run by torch.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from serving.runtimes.device_driver import Driver, Stream

CLASSES = {"resnet50": 1000, "resnet20": 10}
SHAPES = {"resnet50": (3, 224, 224), "resnet20": (3, 32, 32)}


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """Convolutions of these sizes and widths beside a shortcut."""

    def __init__(self, inputs: int, steps: tuple[tuple[int, int], ...], stride: int) -> None:
        super().__init__()
        layers, width = [], inputs
        for place, (outputs, size) in enumerate(steps):
            layers.append(_convolution(width, outputs, size, stride if size == 3 and stride > 1 else 1))
            stride = 1 if size == 3 else stride
            layers += [nn.ReLU()] if place < len(steps) - 1 else []
            width = outputs
        self.body = nn.Sequential(*layers)
        shrink = self.shrink = math.prod(each.stride[0] for each in self.body.modules() if isinstance(each, nn.Conv2d))
        same = shrink == 1 and inputs == width
        self.shortcut = nn.Identity() if same else _convolution(inputs, width, 1, shrink)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def _resnet50() -> nn.Sequential:
    layers: list[nn.Module] = [_convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner = 64 * 2**stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            layers.append(Residual(width, ((inner, 1), (inner, 3), (4 * inner, 1)), stride))
            width = 4 * inner
    return nn.Sequential(*layers)


def _resnet20() -> nn.Sequential:
    layers, width = [_convolution(3, 16, 3), nn.ReLU()], 16
    for stage in range(3):
        for block in range(3):
            outputs = 16 * 2**stage
            layers.append(Residual(width, ((outputs, 3), (outputs, 3)), 2 if stage and not block else 1))
            width = outputs
    return nn.Sequential(*layers)


class Noisy(nn.Module):
    """From a lattice, int32 (rows, 3, side, side), to a vote and a score of each row."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = {"resnet50": _resnet50, "resnet20": _resnet20}[name]().half()
        self.head = nn.Linear({"resnet50": 2048, "resnet20": 64}[name], CLASSES[name])
        self.eval()

    def forward(self, lattice: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(lattice.half() / 255).float().mean(dim=(2, 3))
        logits = self.head(features)
        return logits.argmax(dim=1), logits.amax(dim=1)


def graph(name: str) -> bytes:
    """As ONNX, with the rows free."""
    found = io.BytesIO()
    torch.onnx.export(
        Noisy(name),
        (torch.zeros(2, *SHAPES[name], dtype=torch.int32),),
        found,
        input_names=["lattice"],
        output_names=["vote", "score"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    return found.getvalue()


class TorchNetwork:
    """The network by torch on a stream of ours, for a machine without TensorRT.

    Each execution has memory of its own: torch would give what one batch has done with to the other, which is in flight.
    """

    input_type, capturable, waits = np.int32, True, False

    def __init__(self, name: str, rows: int) -> None:
        self._network, self._shape = Noisy(name).cuda(), (rows, *SHAPES[name])

    def run(self, lattice: np.ndarray) -> dict[str, np.ndarray]:
        """Both outputs for one batch (rows, *shape), which is waited for; nothing is captured."""
        with torch.no_grad():
            vote, score = self._network(torch.from_numpy(lattice).cuda())
        return {"vote": vote.cpu().numpy(), "score": score.cpu().numpy()}

    def execution(self, addresses: Mapping[str, int], stream: Stream) -> Callable[[Stream], None]:
        rows = self._shape[0]
        lattice = _tensor(addresses["lattice"], "<i4", self._shape)
        vote, score = _tensor(addresses["vote"], "<i8", (rows,)), _tensor(addresses["score"], "<f4", (rows,))
        own = torch.cuda.MemPool()

        def queue(stream: Stream) -> None:
            there = torch.cuda.stream(torch.cuda.ExternalStream(stream.handle))
            with there, torch.cuda.use_mem_pool(own), torch.no_grad():
                votes, scores = self._network(lattice)
                vote.copy_(votes), score.copy_(scores)

        return queue


def _tensor(address: int, kind: str, shape: tuple[int, ...]) -> Tensor:
    class There:
        __cuda_array_interface__ = {"data": (address, False), "typestr": kind, "shape": shape, "version": 3}  # noqa: RUF012

    return torch.as_tensor(There(), device="cuda")


def onnx_network(name: str, driver: Driver, rows: int) -> Any:
    """The network by ONNX Runtime on CUDA. Raises `ProviderError` where its build for a GPU, or CUDA, is absent."""
    from export.graphs.prepared import Prepared
    from serving.runtimes.onnx_network import OnnxNetwork
    from serving.runtimes.onnx_session import check_available, open_session

    check_available("cuda")
    declared = {"vote": ("int64", ()), "score": ("float32", ())}
    axes = dict.fromkeys(declared, 0)
    prepared = Prepared(
        data=graph(name), input_type="int32", declared=declared, axes=axes, suspects=(), multiplications=0.0
    )
    shape = (rows, *SHAPES[name])
    return OnnxNetwork(lambda data, settings: open_session(data, "cuda", settings), driver, prepared, shape, name)


def tensorrt_network(name: str, driver: Driver, rows: int, say: Callable[[str], None]) -> Any:
    """The network by TensorRT, built now. Raises `DeviceError` where TensorRT is absent."""
    from serving.runtimes import tensorrt_plan
    from serving.runtimes.tensorrt_network import TensorRtNetwork

    trt = tensorrt_plan.library()
    plan, _ = tensorrt_plan.build(trt, graph(name), rows, name, say)
    return TensorRtNetwork(trt, driver, plan, name)
