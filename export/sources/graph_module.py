"""An ONNX graph as a torch module, so that its weights can be trained and put back: the operators of common classifiers.

The graph stays what it is; `written` gives it with the weights as they are now. What a graph computes with before its first
layer (a mean, a deviation) is no weight and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from export.sources.source import SourceError

Operator = Callable[..., Any]
_WEIGHING = {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization"}
_STATISTICS = {"BatchNormalization": (3, 4)}


class GraphModule(nn.Module):
    """The one output of a graph with one input. Raises `SourceError` for an operator that is not known here."""

    def __init__(self, model: ModelProto, name: str) -> None:
        super().__init__()
        model = _lifted(model)
        self._model, self._nodes = model, list(model.graph.node)
        unknown = sorted({each.op_type for each in self._nodes if each.op_type not in _OPERATORS})
        if unknown:
            raise SourceError(
                f"{name} computes with {', '.join(unknown)}, which cannot be trained through here; give the torch module"
                " that it was exported from, as package.module:factory"
            )
        constants = {each.name for each in model.graph.initializer}
        (self._given,) = (each.name for each in model.graph.input if each.name not in constants)
        (self._output,) = (each.name for each in model.graph.output)
        self._attributes = [_attributes(node) for node in self._nodes]
        self._held = _Held(model)
        for key, tensor in self._held.values.items():
            if key in self._held.weights:
                self.register_parameter(self._held.keys[key], nn.Parameter(tensor))
            else:
                self.register_buffer(self._held.keys[key], tensor)

    def forward(self, values: Tensor) -> Tensor:
        """[n, *shape] to what the graph gives."""
        known: dict[str, Any] = {name: getattr(self, key) for name, key in self._held.keys.items()}
        known[self._given] = values
        for node, attributes in zip(self._nodes, self._attributes, strict=True):
            given = [known[name] if name else None for name in node.input]
            if node.op_type == "BatchNormalization":
                attributes = {**attributes, "training": self.training}
            found = _OPERATORS[node.op_type](attributes, *given)
            outputs = found if isinstance(found, tuple | list) else (found,)
            known.update(zip(node.output, outputs, strict=False))
        result: Tensor = known[self._output]
        return result

    def written(self) -> ModelProto:
        """The graph with these weights."""
        copy = ModelProto()
        copy.CopyFrom(self._model)
        for each in copy.graph.initializer:
            if each.name in self._held.trained:
                values = getattr(self, self._held.keys[each.name]).detach().contiguous().numpy()
                each.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), each.name))
        return copy

    def tensors(self) -> dict[str, Tensor]:
        """The weights by their names in the graph."""
        return {name: getattr(self, self._held.keys[name]).detach() for name in sorted(self._held.trained)}


def _lifted(model: ModelProto) -> ModelProto:
    """The same graph with its constants as initializers: some exporters keep weights in nodes."""
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    kept = []
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        else:
            kept.append(node)
    nodes = [NodeProto.FromString(each.SerializeToString()) for each in kept]
    del graph.node[:]
    graph.node.extend(nodes)
    return copy


class _Held:
    """Initializers, under names that torch allows; `weights` are trained by gradients, statistics by following them."""

    def __init__(self, model: ModelProto) -> None:
        used, statistics, started = set(), set(), False
        for node in model.graph.node:
            started = started or node.op_type in _WEIGHING
            used |= set(node.input) if started else set()
            places = _STATISTICS.get(node.op_type, ())
            statistics |= {node.input[place] for place in places}
        self.values: dict[str, Tensor] = {}
        self.keys: dict[str, str] = {}
        for place, each in enumerate(model.graph.initializer):
            plain = "".join(letter if letter.isalnum() else "_" for letter in each.name)
            self.keys[each.name] = f"{plain}_{place}"  # a dot is no part of a torch name, and two may become one
            self.values[each.name] = torch.from_numpy(np.array(numpy_helper.to_array(each)))
        floats = {name for name, values in self.values.items() if values.is_floating_point() and values.numel() > 1}
        self.weights = (floats & used) - statistics
        self.trained = self.weights | (floats & statistics)


def _attributes(node: NodeProto) -> dict[str, Any]:
    found = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def _numbers(values: Tensor | None) -> list[int] | None:
    return None if values is None else [int(each) for each in values.reshape(-1).tolist()]


def _axes(attributes: Mapping[str, Any], given: Tensor | None) -> list[int] | None:
    return _numbers(given) if given is not None else attributes.get("axes")


def _padded(attributes: Mapping[str, Any], x: Tensor, kernel: list[int], value: float) -> tuple[Tensor, list[int]]:
    """The input with its padding on both ends, and whether there was any."""
    count = len(kernel)
    strides = attributes.get("strides") or [1] * count
    dilations = attributes.get("dilations") or [1] * count
    mode = attributes.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pairs = []
        for size, width, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
            total = max(0, (-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size)
            small, large = total // 2, total - total // 2
            pairs.append((small, large) if mode == "SAME_UPPER" else (large, small))
    else:
        pads = attributes.get("pads") or [0] * (2 * count)
        pairs = list(zip(pads[:count], pads[count:], strict=True))
    flat = [each for pair in reversed(pairs) for each in pair]
    return (functional.pad(x, flat, value=value) if any(flat) else x), flat


def _conv(attributes: Mapping[str, Any], x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    kernel = list(weight.shape[2:])
    strides = attributes.get("strides") or [1] * len(kernel)
    dilations = attributes.get("dilations") or [1] * len(kernel)
    pads = attributes.get("pads") or [0] * (2 * len(kernel))
    apply = (functional.conv1d, functional.conv2d, functional.conv3d)[len(kernel) - 1]
    groups = attributes.get("group", 1)
    if pads[: len(kernel)] == pads[len(kernel) :] and attributes.get("auto_pad", "NOTSET") == "NOTSET":
        return apply(x, weight, bias, strides, pads[: len(kernel)], dilations, groups)
    padded, _ = _padded(attributes, x, kernel, 0.0)
    return apply(padded, weight, bias, strides, 0, dilations, groups)


def _max_pool(attributes: Mapping[str, Any], x: Tensor) -> Tensor:
    kernel = attributes["kernel_shape"]
    padded, _ = _padded(attributes, x, kernel, -torch.inf)
    apply = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[len(kernel) - 1]
    strides = attributes.get("strides") or [1] * len(kernel)
    return apply(
        padded,
        kernel,
        strides,
        dilation=attributes.get("dilations") or [1] * len(kernel),
        ceil_mode=bool(attributes.get("ceil_mode", 0)),
    )


def _average_pool(attributes: Mapping[str, Any], x: Tensor) -> Tensor:
    kernel = attributes["kernel_shape"]
    strides = attributes.get("strides") or [1] * len(kernel)
    apply = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[len(kernel) - 1]
    ceil = bool(attributes.get("ceil_mode", 0))
    padded, pads = _padded(attributes, x, kernel, 0.0)
    means = apply(padded, kernel, strides, 0, ceil)
    if not any(pads) or attributes.get("count_include_pad", 0):
        return means
    inside, _ = _padded(attributes, torch.ones_like(x[:1, :1]), kernel, 0.0)
    return means / apply(inside, kernel, strides, 0, ceil)


def _batch_normalization(
    attributes: Mapping[str, Any], x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    step = 1 - attributes.get("momentum", 0.9)
    epsilon = attributes.get("epsilon", 1e-5)
    return functional.batch_norm(x, mean, variance, scale, bias, attributes["training"], step, epsilon)


def _layer_normalization(attributes: Mapping[str, Any], x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = attributes.get("axis", -1)
    return functional.layer_norm(x, x.shape[axis:], scale, bias, attributes.get("epsilon", 1e-5))


def _gemm(attributes: Mapping[str, Any], a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.T if attributes.get("transA") else a
    b = b.T if attributes.get("transB") else b
    product: Tensor = attributes.get("alpha", 1.0) * (a @ b)
    return product if c is None else product + attributes.get("beta", 1.0) * c


def _reshape(attributes: Mapping[str, Any], x: Tensor, shape: Tensor) -> Tensor:
    sizes = _numbers(shape) or []
    kept = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes if attributes.get("allowzero") else kept)


def _flatten(attributes: Mapping[str, Any], x: Tensor) -> Tensor:
    axis = attributes.get("axis", 1)
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


def _squeeze(attributes: Mapping[str, Any], x: Tensor, axes: Tensor | None = None) -> Tensor:
    found = _axes(attributes, axes)
    return x.squeeze() if found is None else x.squeeze(tuple(found))


def _unsqueeze(attributes: Mapping[str, Any], x: Tensor, axes: Tensor | None = None) -> Tensor:
    found = _axes(attributes, axes) or []
    for axis in sorted(each % (x.ndim + len(found)) for each in found):
        x = x.unsqueeze(axis)
    return x


def _clip(attributes: Mapping[str, Any], x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    least = attributes.get("min") if low is None else float(low)
    most = attributes.get("max") if high is None else float(high)
    return x if least is None and most is None else x.clamp(least, most)


def _pad(attributes: Mapping[str, Any], x: Tensor, pads: Tensor | None = None, value: Tensor | None = None) -> Tensor:
    sizes = (_numbers(pads) if pads is not None else attributes.get("pads")) or []
    flat = [each for axis in reversed(range(x.ndim)) for each in (sizes[axis], sizes[axis + x.ndim])]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}[attributes.get("mode", "constant")]
    if mode != "constant":
        return functional.pad(x, flat[: 2 * (x.ndim - 2)], mode=mode)
    return functional.pad(x, flat, value=float(value) if value is not None else attributes.get("value", 0.0))


def _slice(
    attributes: Mapping[str, Any],
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first, last = _numbers(starts) or [], _numbers(ends) or []
    along = _numbers(axes) or list(range(len(first)))
    paces = _numbers(steps) or [1] * len(first)
    for start, stop, axis, pace in zip(first, last, along, paces, strict=True):
        places = torch.arange(x.shape[axis])[slice(start, stop)] if pace == 1 else None
        if places is None:
            places = torch.tensor(list(range(x.shape[axis]))[slice(start, stop, pace)])
        x = x.index_select(axis, places)
    return x


def _reduced(attributes: Mapping[str, Any], x: Tensor, axes: Tensor | None, rule: Callable[..., Tensor]) -> Tensor:
    along = _axes(attributes, axes) or list(range(x.ndim))
    return rule(x, tuple(along), keepdim=bool(attributes.get("keepdims", 1)))


def _split(attributes: Mapping[str, Any], x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    parts = _numbers(sizes) if sizes is not None else attributes.get("split")
    axis = attributes.get("axis", 0)
    if parts is None:
        return x.chunk(attributes.get("num_outputs", 2), axis)
    return torch.split(x, parts, axis)


def _cast(attributes: Mapping[str, Any], x: Tensor) -> Tensor:
    kind = onnx.helper.tensor_dtype_to_np_dtype(attributes["to"])
    return x.to(torch.from_numpy(np.zeros(1, kind)).dtype)


def _constant(attributes: Mapping[str, Any]) -> Tensor:
    (value,) = attributes.values()
    array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
    return torch.from_numpy(np.array(array.astype(np.float32) if array.dtype == np.float64 else array))


def _last_axis(attributes: Mapping[str, Any]) -> int:
    return int(attributes.get("axis", -1))


_OPERATORS: dict[str, Operator] = {
    "Abs": lambda _, x: x.abs(),
    "Add": lambda _, a, b: a + b,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda a, *parts: torch.cat(parts, a["axis"]),
    "Constant": _constant,
    "Conv": _conv,
    "Div": lambda _, a, b: a / b if a.is_floating_point() else a // b,
    "Dropout": lambda _, x, *rest: x,
    "Elu": lambda a, x: functional.elu(x, a.get("alpha", 1.0)),
    "Erf": lambda _, x: x.erf(),
    "Exp": lambda _, x: x.exp(),
    "Flatten": _flatten,
    "Gather": lambda a, x, i: x[(slice(None),) * (a.get("axis", 0) % x.ndim) + (i,)],
    "Gelu": lambda a, x: functional.gelu(x, approximate=a.get("approximate", "none")),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _, x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
    "GlobalMaxPool": lambda _, x: x.amax(tuple(range(2, x.ndim)), keepdim=True),
    "HardSigmoid": lambda a, x: (a.get("alpha", 0.2) * x + a.get("beta", 0.5)).clamp(0, 1),
    "HardSwish": lambda _, x: functional.hardswish(x),
    "Identity": lambda _, x: x,
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": lambda a, x: functional.leaky_relu(x, a.get("alpha", 0.01)),
    "Log": lambda _, x: x.log(),
    "LogSoftmax": lambda a, x: x.log_softmax(_last_axis(a)),
    "MatMul": lambda _, a, b: a @ b,
    "Max": lambda _, *parts: reduce(torch.maximum, parts),
    "MaxPool": _max_pool,
    "Min": lambda _, *parts: reduce(torch.minimum, parts),
    "Mul": lambda _, a, b: a * b,
    "Neg": lambda _, x: -x,
    "PRelu": lambda _, x, slope: torch.where(x >= 0, x, slope * x),
    "Pad": _pad,
    "Pow": lambda _, a, b: a.pow(b),
    "ReduceMean": lambda a, x, axes=None: _reduced(a, x, axes, torch.mean),
    "ReduceSum": lambda a, x, axes=None: _reduced(a, x, axes, torch.sum),
    "Relu": lambda _, x: x.relu(),
    "Reshape": _reshape,
    "Selu": lambda _, x: functional.selu(x),
    "Shape": lambda a, x: torch.tensor(list(x.shape)[a.get("start", 0) : a.get("end")]),
    "Sigmoid": lambda _, x: x.sigmoid(),
    "Slice": _slice,
    "Softmax": lambda a, x: x.softmax(_last_axis(a)),
    "Softplus": lambda _, x: functional.softplus(x),
    "Split": _split,
    "Sqrt": lambda _, x: x.sqrt(),
    "Squeeze": _squeeze,
    "Sub": lambda _, a, b: a - b,
    "Sum": lambda _, *parts: sum(parts[1:], parts[0]),
    "Tanh": lambda _, x: x.tanh(),
    "Transpose": lambda a, x: x.permute(a.get("perm") or tuple(reversed(range(x.ndim)))),
    "Unsqueeze": _unsqueeze,
}
