"""What the two wires of the Open Inference Protocol share: from decoded tensors and parameters to one call.

Unknown parameters of others are ignored, unknown ones of ours refused. `certify` is off unless it is given or an output
that needs it is named, so that plain clients stay plain.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from certify.claims.procedures import Off, Target
from certify.strict_json import shown
from export.bundle import InputSpec
from serving.config import Limits
from serving.errors import InvalidInput
from serving.inputs import registry
from serving.messages import Answer, Model, Options, PredictRequest
from serving.wires import options as wire_options
from serving.wires.open_inference import datatypes, reserved, tensors
from serving.wires.open_inference.tensors import WantedOutput

_SHARED_MEMORY = "shared_memory_region"
_MAX_DIMENSIONS = 16
BINARY = "binary_data_output"
"""The request's parameter that says whether outputs come as bytes where they do not say so themselves."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tensor:
    """One input as it came: `data` is flat and has as many elements as `shape` says."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InferCall:
    """One infer call, decoded: the request, and what its answer has to look like."""

    id: str
    request: PredictRequest
    outputs: tuple[WantedOutput, ...]
    typed: bool = False
    """Whether the client asks by `binary_data_output: false` for no bytes: typed contents where it calls over gRPC."""


def input_datatype(spec: InputSpec) -> str:
    """The datatype that metadata names for the grid; all others but BF16 are read as well. Integers are places on the
    grid, floats are values in the caller's units, and so are the 0 and 1 of BOOL.
    """
    return "INT16" if spec.zero else "UINT8" if spec.top <= 255 else "INT32"


def flag(parameters: Mapping[str, object], key: str) -> bool | None:
    """A parameter that is true or false, None where it is not given."""
    value = parameters.get(key)
    if value is not None and not isinstance(value, bool):
        raise InvalidInput(f"{key} is {shown(value)}; expected true or false")
    return value


def version(text: object) -> str | None:
    """The version that a client names; empty and "latest" mean the newest."""
    if text is not None and not isinstance(text, str):
        raise InvalidInput(f"the version is {shown(text)}; expected a string")
    return None if text in (None, "", "latest") else text


def elements(name: str, shape: Sequence[int], limits: Limits, datatype: str = "") -> int:
    """The number of elements of an input, checked before any is decoded: a small file may hold a large picture."""
    if len(shape) > _MAX_DIMENSIONS:
        raise InvalidInput(f"input {shown(name)} has {len(shape)} dimensions, beyond the limit of {_MAX_DIMENSIONS}")
    if any(size < 0 for size in shape):
        raise InvalidInput(f"input {shown(name)} has shape {shown(list(shape))}; a dimension cannot be negative")
    if shape and shape[0] > limits.max_rows:
        raise InvalidInput(f"input {shown(name)} has {shape[0]} rows, over the limit of {limits.max_rows}; send fewer")
    count = 1
    for size in shape:
        count *= min(size, limits.max_body_bytes + 1)  # no number grows beyond what its factors are bounded to
    if count > limits.max_body_bytes or any(size > limits.max_body_bytes for size in shape):
        raise InvalidInput(
            f"input {shown(name)} has shape {shown(list(shape))}, beyond the limit of {limits.max_body_bytes} elements"
        )
    if datatype == datatypes.BYTES and count > limits.max_rows:
        raise InvalidInput(f"input {shown(name)} is BYTES of {count} elements; expected one file a row")
    return count


def refuse_shared_memory(what: str, name: str, parameters: Mapping[str, object]) -> None:
    """Shared memory is not offered, for it lets one client read what another registered. `what` is input or output."""
    if _SHARED_MEMORY in parameters:
        raise InvalidInput(
            f"{what} {shown(name)} has parameter {_SHARED_MEMORY}, which is not offered; send the data in the request"
        )


def call(
    model: Model,
    id: str,
    parameters: Mapping[str, object],
    inputs: Sequence[Tensor],
    outputs: Sequence[WantedOutput],
    seconds_left: float | None = None,
    reserved_too: tuple[str, ...] = (),
) -> InferCall:
    """The call that these pieces make; `seconds_left` is the deadline that the transport knows, `reserved_too` are the
    protocol's own parameters that it allows.
    """
    reserved.check(parameters, reserved_too)
    options = wire_options.build(wire_options.from_parameters(parameters))
    if any(each.name == tensors.RECEIPT for each in outputs):
        options = replace(options, receipt=True)
    tensors.check(outputs, model.manifest)
    options, outputs = _resolved(options, outputs, model)
    for limit in (seconds_left, reserved.timeout(parameters)):
        options = wire_options.tightened(options, limit, model)
    request = PredictRequest(
        model=model.manifest.name,
        version=model.manifest.version,
        digest=model.digest,
        inputs=_rows(inputs, model.manifest.input),
        options=options,
        plain=True,
    )
    return InferCall(id=id, request=request, outputs=tuple(outputs), typed=flag(parameters, BINARY) is False)


def _resolved(
    options: Options, outputs: Sequence[WantedOutput], model: Model
) -> tuple[Options, Sequence[WantedOutput]]:
    if not outputs:
        on = options.certify is not None and not options.off
        names = tensors.offered(model.manifest) if on else [tensors.default(model.manifest)]
        outputs = [WantedOutput(name=name) for name in names if name != tensors.RECEIPT]
    elif tensors.needs_certificate(outputs):
        if options.off:
            raise InvalidInput("certify is off, and an output that needs a certificate is asked for; leave one out")
        options = replace(options, certify=options.certify or Target.name)
    if options.receipt and all(each.name != tensors.RECEIPT for each in outputs):
        outputs = [*outputs, WantedOutput(name=tensors.RECEIPT)]
    return replace(options, outputs=tensors.parts(outputs)), outputs


def _rows(inputs: Sequence[Tensor], spec: InputSpec) -> NDArray[np.generic]:
    names = [each.name for each in inputs]
    if names != [spec.name]:
        raise InvalidInput(f"expected one input named {spec.name!r}, got {shown(names)}")
    (tensor,) = inputs
    if tensor.datatype == datatypes.BYTES:
        return _files(tensor, spec)
    expected = [-1, *spec.shape]
    if tensor.shape[1:] != spec.shape or len(tensor.shape) != len(expected):
        raise InvalidInput(
            f"input {spec.name!r} has shape {list(tensor.shape)}, expected {expected}: the number of rows comes first"
        )
    if tensor.shape[0] == 0:
        raise InvalidInput(f"input {spec.name!r} has no rows; expected one or more")
    data = tensor.data.astype(np.float64) if tensor.datatype == "BOOL" else tensor.data
    return data.reshape(tensor.shape)


def _files(tensor: Tensor, spec: InputSpec) -> NDArray[np.generic]:
    """BYTES of shape [n] or [n, 1]: each element a file of a kind that is read."""
    if tensor.shape[1:] not in ((), (1,)) or not tensor.shape or tensor.shape[0] == 0:
        raise InvalidInput(f"input {spec.name!r} is BYTES of shape {list(tensor.shape)}, expected [n]: one file a row")
    files: list[bytes] = tensor.data.tolist()
    return registry.rows(((f"row {index}", data) for index, data in enumerate(files)), spec)


def answer_parameters(answer: Answer, model: Model) -> dict[str, str | int]:
    """What an answer says beside its tensors: strings and integers only, for some clients know no others.

    `step` is how far two inputs of the grid are apart at least: a radius below it reaches no other input. `snap_distances`
    is a JSON list of how far each row was moved onto the grid, absent where none was; `treated`, of what was done to each
    file, likewise.
    """
    manifest = model.manifest
    certificates = [row.certificate for row in answer.predictions if row.certificate]
    law = (certificates[0].law if certificates else manifest.formulas).parameters
    found: dict[str, str | int] = {
        "certserve.model_digest": answer.model.digest,
        "certserve.model_runtime": answer.model.runtime,
        **({"certserve.sigma": repr(law["sigma"])} if "sigma" in law else {}),
        "certserve.alpha": repr(answer.predictions[0].alpha),
        "certserve.norm": str(law["norm"]),
        "certserve.procedure": certificates[0].procedure if certificates else Off.name,
        "certserve.step": repr(manifest.input.length),
        "certserve.queue_us": round(answer.queue_s * 1e6),
        "certserve.compute_us": round(answer.compute_s * 1e6),
    }
    if any(row.input for row in answer.predictions):
        moved = [row.input.snap_distance if row.input else 0.0 for row in answer.predictions]
        found["certserve.snap_distances"] = json.dumps(moved)
    if any(row.input and row.input.treated for row in answer.predictions):
        said = [list(row.input.treated) if row.input else [] for row in answer.predictions]
        found["certserve.treated"] = json.dumps(said)
    if manifest.ood is not None:
        found["certserve.ood_threshold"] = repr(manifest.ood.threshold)
    return found
