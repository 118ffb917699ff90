"""What is written of a trained network: a graph that takes what the original takes, and its weights alone."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import ModelProto, TensorProto, compose, helper, version_converter
from safetensors.torch import save_file
from torch import Tensor, nn

from export.inspection.inspect import Found
from export.robust.networks import Voter
from export.sources.graph_module import GraphModule
from export.sources.onnx_file import opset_of
from export.sources.source import SourceError
from export.sources.torch_module import to_onnx

GRAPH, WEIGHTS = "robust.onnx", "robust.safetensors"
_OPSET = 18
"""The oldest that torch writes; older networks behind a denoiser are brought up to it."""


def write(folder: Path, voter: Voter, found: Found) -> None:
    """`robust.onnx` and, of what was trained, `robust.safetensors` in the folder."""
    (folder / GRAPH).write_bytes(_graph(voter, found))
    trained = voter.trained
    state = trained.tensors() if isinstance(trained, GraphModule) else trained.state_dict()
    save_file({name: value.contiguous().clone() for name, value in state.items()}, folder / WEIGHTS)


def _graph(voter: Voter, found: Found) -> bytes:
    network = voter.network
    if not isinstance(network, GraphModule):
        return _torch(_Whole(voter), found, ("input", "output"), None)
    model = network.written()
    with torch.no_grad():
        sizes = network(torch.zeros((2, *found.shape))).shape[1:]
    (output,) = model.graph.output
    output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, ["rows", *sizes]))
    if voter.denoiser is not None:
        model = _behind(voter.denoiser, model, found)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


class _Whole(nn.Module):
    """Denoiser, if there is one, and network: from what the original takes to the output that classifies."""

    def __init__(self, voter: Voter) -> None:
        super().__init__()
        self.voter = voter

    def forward(self, values: Tensor) -> Tensor:
        """The network's own numbers."""
        return self.voter.numbers(self.voter.cleaned(values))


def _torch(module: nn.Module, found: Found, names: tuple[str, str], opset: int | None) -> bytes:
    example = torch.zeros((2, *found.shape))
    more = {} if opset is None else {"opset": opset}
    return to_onnx(module.eval(), found.shape, names[1:], names=names[:1], example=example, **more)


def _behind(denoiser: nn.Module, model: ModelProto, found: Found) -> ModelProto:
    """The original graph, untouched, behind the denoiser."""
    if opset_of(model) < _OPSET:
        try:
            model = version_converter.convert_version(model, _OPSET)
        except Exception as error:  # of several kinds, by what has no converter
            text = " ".join(str(error).split())[:300]
            raise SourceError(
                f"{found.name} cannot be brought to opset {_OPSET} ({text}); export it in that one"
            ) from error
    first = onnx.load_from_string(_torch(denoiser, found, ("input", "denoised"), opset_of(model)))
    first.ir_version = model.ir_version = max(first.ir_version, model.ir_version)
    # Domains of which only one has operators are told to the other, or they are taken for different models.
    del first.opset_import[:]
    first.opset_import.extend(model.opset_import)
    (given,) = (each for each in model.graph.input)
    if given.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise SourceError(f"{found.name} takes {found.given.type_name}; a denoiser stands before networks of float32")
    return compose.merge_models(
        compose.add_prefix(first, "denoiser/"),
        compose.add_prefix(model, "network/"),
        io_map=[("denoiser/denoised", f"network/{given.name}")],
    )
