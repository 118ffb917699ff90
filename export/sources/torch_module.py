"""Torch to ONNX: one self-contained graph, byte for byte the same whenever the same module is exported."""

from __future__ import annotations

import hashlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.sources.source import Source, SourceError

OPSET = 20
LATTICE = "lattice"
NOISY_OUTPUTS = ("vote", "score")
BASE_OUTPUTS = ("probabilities",)


def noisy_to_onnx(module: nn.Module, shape: tuple[int, ...]) -> bytes:
    """The graph of a noisy pass: lattice int32 [batch, *shape] -> vote int64 [batch], score float32 [batch]."""
    return to_onnx(module, shape, NOISY_OUTPUTS)


def base_to_onnx(module: nn.Module, shape: tuple[int, ...]) -> bytes:
    """The graph of a clean pass: lattice int32 [batch, *shape] -> probabilities float32 [batch, C]."""
    return to_onnx(module, shape, BASE_OUTPUTS)


def source(
    module: nn.Module, shape: tuple[int, ...], *, name: str | None = None, weights: Path | None = None
) -> Source:
    """A module of floats [n, *shape] as a source: its graph in evaluation mode, its own answers in the mode it is in.

    One that gives several tensors has an output for each.
    """
    called = name or type(module).__name__
    notes = {"source": f"torch {called}"}
    if weights is not None:
        notes |= {"weights": weights.name, "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    zeros = torch.zeros((2, *shape), dtype=torch.float32, device="cpu")
    try:
        with _evaluating(module), torch.no_grad():
            outputs = tuple(by_name(module(zeros.clone())))
        data = to_onnx(module, shape, outputs, names=("input",), example=zeros)
    except Exception as error:  # torch raises many kinds
        raise SourceError(
            f"{called} cannot be exported to ONNX by torch ({_first_cause(error)}); expected a module that takes floats of"
            f" 32 bits [rows, {', '.join(map(str, shape))}] alone, on the processor"
        ) from error

    def reference(values: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        with torch.no_grad():
            found = by_name(module(torch.from_numpy(np.ascontiguousarray(values, np.float32))))
        return {name: each.numpy() for name, each in found.items()}

    model = onnx.load_from_string(data)
    return Source(name=called, original=data, model=model, reference=reference, notes=notes, module=module)


def _first_cause(error: BaseException) -> str:
    """What went wrong at first, in one line and without colours: what torch says of it at last is how to report it."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())[:300]
    return text or type(error).__name__


def by_name(given: object) -> dict[str, Tensor]:
    """What a module gives, as outputs by name: `output`, or `output_0` and on, or the names that it has itself."""
    if isinstance(given, Tensor):
        return {"output": given}
    items = given.items() if isinstance(given, Mapping) else enumerate(given) if isinstance(given, tuple | list) else ()
    found = {str(name) if isinstance(name, str) else f"output_{name}": each for name, each in items}
    if not found or not all(isinstance(each, Tensor) for each in found.values()):
        raise TypeError(f"it gives a {type(given).__name__}; expected a tensor, or a tuple or dictionary of tensors")
    return found


def to_onnx(
    module: nn.Module,
    shape: tuple[int, ...],
    outputs: tuple[str, ...],
    *,
    names: tuple[str, ...] = (LATTICE,),
    example: Tensor | tuple[Tensor, ...] | None = None,
    opset: int = OPSET,
) -> bytes:
    """Export in evaluation mode with a free batch axis; names, notes and source lines of this program are stripped.

    The module is left as it was, each of its parts in the mode that it was in. `example` has two rows: a size of 1 would be
    taken for a constant; without one the module takes the lattice, int32 of this shape. Several are several inputs.
    """
    example = torch.zeros((2, *shape), dtype=torch.int32) if example is None else example
    examples = example if isinstance(example, tuple) else (example,)
    batch = torch.export.Dim("batch")
    with _evaluating(module), warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            examples,
            dynamo=True,
            opset_version=opset,
            input_names=list(names),
            output_names=list(outputs),
            dynamic_shapes=({0: batch},) * len(examples),
            external_data=False,
            verbose=False,
        )
    if program is None:  # so says its type; with dynamo it is there
        raise RuntimeError("torch.onnx.export returned nothing")
    model = stripped(program.model_proto)
    onnx.checker.check_model(model, full_check=True)
    _check_batch(model)
    return bytes(model.SerializeToString(deterministic=True))


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Part by part, since a network in training may hold parts that are frozen in evaluation mode."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without what does not compute: metadata, doc strings, shapes of inner values, the producer's version."""
    model.producer_name, model.producer_version, model.doc_string = "certserve", "", ""
    del model.metadata_props[:], model.graph.value_info[:]
    graph = model.graph
    graph.name, graph.doc_string = "graph", ""
    del graph.metadata_props[:]
    for parts in (graph.node, graph.initializer, graph.input, graph.output):
        for part in parts:
            part.doc_string = ""
            del part.metadata_props[:]
    return model


def _check_batch(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        if not value.type.tensor_type.shape.dim[0].dim_param:
            raise ValueError(
                f"the first axis of {value.name!r} came out fixed: something in the network depends on the batch size"
            )
