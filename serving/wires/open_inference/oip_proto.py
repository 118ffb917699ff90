"""The Open Inference Protocol over gRPC. This module and the gRPC server alone import its stubs.

Requests are all raw or all typed. Answers are in raw_output_contents, which clients read, unless typed contents are
asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf import json_format

from certify.strict_json import shown
from protos.inference import open_inference_pb2 as pb
from serving.config import Limits
from serving.errors import CertserveError, InvalidInput
from serving.events import Event, Final
from serving.messages import Answer, Model
from serving.wires import live
from serving.wires.open_inference import datatypes, oip, oip_control, reserved, tensors

# The typed field of each datatype; the small integers share one.
_FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
PROGRESS, EVENT = "certserve.progress", "certserve.event"
"""What a request of a stream says that wants to see its certificate tighten, and what each answer says that it is."""
_Parameters = Mapping[str, pb.InferParameter]


def decode(message: pb.ModelInferRequest, model: Model, limits: Limits, seconds_left: float | None) -> oip.InferCall:
    """The call in a message; whatever is wrong with it is `InvalidInput`."""
    return _decode(message, _values(message.parameters), model, limits, seconds_left)


def decode_streamed(
    message: pb.ModelInferRequest, model: Model, limits: Limits, seconds_left: float | None
) -> tuple[oip.InferCall, bool]:
    """The call in a message of a stream, and whether several answers are wanted: what is proven meanwhile, too."""
    parameters = _values(message.parameters)
    follows = oip.flag(parameters, PROGRESS) is True
    parameters.pop(PROGRESS, None)
    return _decode(message, parameters, model, limits, seconds_left), follows


def _decode(
    message: pb.ModelInferRequest,
    parameters: Mapping[str, object],
    model: Model,
    limits: Limits,
    seconds_left: float | None,
) -> oip.InferCall:
    raw = list(message.raw_input_contents)
    twice = next((each.name for each in message.inputs if raw and each.HasField("contents")), None)
    if twice is not None:  # in Triton's words, which its own clients look for
        raise InvalidInput(
            "contents field must not be specified when using raw_input_contents for "
            f"{shown(twice)} for model {shown(message.model_name)}"
        )
    if raw and len(raw) != len(message.inputs):
        raise InvalidInput(f"raw_input_contents has {len(raw)} elements for {len(message.inputs)} inputs")
    inputs = [_input(each, raw[i] if raw else None, limits) for i, each in enumerate(message.inputs)]
    outputs = [_wanted(each) for each in message.outputs]
    return oip.call(model, message.id, parameters, inputs, outputs, seconds_left, (reserved.EMPTY_FINAL,))


def encode(call: oip.InferCall, answer: Answer, model: Model) -> pb.ModelInferResponse:
    """The answer's message."""
    found = tensors.encode(call.outputs, answer)
    response = pb.ModelInferResponse(
        model_name=answer.model.name,
        model_version=answer.model.version,
        id=call.id,
        outputs=[_output(each, call.typed) for each in found],
        raw_output_contents=[] if call.typed else [datatypes.to_bytes(each.array) for each in found],
    )
    for name, value in oip.answer_parameters(answer, model).items():
        if isinstance(value, str):
            response.parameters[name].string_param = value
        else:
            response.parameters[name].int64_param = value
    return response


def encode_event(call: oip.InferCall, event: Event[Answer], model: Model) -> pb.ModelStreamInferResponse:
    """One message of a stream: an answer that says which of the events it is, and whether it is the last."""
    response = encode(call, event.said, model)
    response.parameters[EVENT].string_param = live.NAMES[type(event)]
    response.parameters[reserved.FINAL].bool_param = isinstance(event, Final)
    return pb.ModelStreamInferResponse(infer_response=response)


def encode_error(message: pb.ModelInferRequest, error: CertserveError) -> pb.ModelStreamInferResponse:
    """The message of a request that came to nothing; the stream goes on."""
    response = pb.ModelInferResponse(model_name=message.model_name, model_version=message.model_version, id=message.id)
    response.parameters[reserved.FINAL].bool_param = True
    return pb.ModelStreamInferResponse(error_message=error.message, infer_response=response)


def _output(tensor: tensors.NamedTensor, typed: bool) -> pb.ModelInferResponse.InferOutputTensor:
    contents = pb.InferTensorContents(**{_FIELDS[tensor.datatype]: tensor.array.ravel().tolist()}) if typed else None
    return pb.ModelInferResponse.InferOutputTensor(
        name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape, contents=contents
    )


def metadata(document: Mapping[str, object]) -> pb.ModelMetadataResponse:
    """The message of a metadata document."""
    return json_format.ParseDict(dict(document), pb.ModelMetadataResponse())


def config(document: Mapping[str, object]) -> pb.ModelConfigResponse:
    """The message of a configuration document."""
    return pb.ModelConfigResponse(config=json_format.ParseDict(dict(document), pb.ModelConfig()))


def server(document: Mapping[str, object]) -> pb.ServerMetadataResponse:
    """The message of a server document."""
    return json_format.ParseDict(dict(document), pb.ServerMetadataResponse())


def statistics(document: Mapping[str, object]) -> pb.ModelStatisticsResponse:
    """The message of a statistics document."""
    return json_format.ParseDict(dict(document), pb.ModelStatisticsResponse())


def index(models: Sequence[Mapping[str, object]]) -> pb.RepositoryIndexResponse:
    """The message of the repository's index."""
    return json_format.ParseDict({"models": list(models)}, pb.RepositoryIndexResponse())


def trace_changes(message: pb.TraceSettingRequest) -> dict[str, object]:
    """The settings of tracing that a message would change: a list has several values, nothing means the default."""
    values = {name: list(each.value) for name, each in message.settings.items()}
    return {name: (value[0] if len(value) == 1 else value or None) for name, value in values.items()}


def trace(settings: Mapping[str, oip_control.Setting]) -> pb.TraceSettingResponse:
    """The message of the settings of tracing."""
    lists = {name: each if isinstance(each, list) else [str(each)] for name, each in settings.items()}
    return json_format.ParseDict({"settings": {k: {"value": v} for k, v in lists.items()}}, pb.TraceSettingResponse())


def log_changes(message: pb.LogSettingsRequest) -> dict[str, object]:
    """The settings of the log that a message would change."""
    return {name: _chosen(each) for name, each in message.settings.items()}


def log(settings: Mapping[str, oip_control.Setting]) -> pb.LogSettingsResponse:
    """The message of the settings of the log."""
    kinds = {bool: "bool_param", int: "uint32_param", str: "string_param"}
    values = {name: {kinds[type(each)]: each} for name, each in settings.items()}
    return json_format.ParseDict({"settings": values}, pb.LogSettingsResponse())


def _input(message: pb.ModelInferRequest.InferInputTensor, raw: bytes | None, limits: Limits) -> oip.Tensor:
    name = message.name
    datatype = datatypes.check(name, message.datatype)
    shape = message.shape
    count = oip.elements(name, shape, limits, datatype)
    oip.refuse_shared_memory("input", name, message.parameters)
    if raw is None:
        data = datatypes.from_values(name, datatype, count, _contents(message, datatype))
    else:
        data = datatypes.from_bytes(name, datatype, count, raw)
    return oip.Tensor(name=name, datatype=datatype, shape=tuple(shape), data=data)


def _contents(message: pb.ModelInferRequest.InferInputTensor, datatype: str) -> Sequence[object]:
    if datatype not in _FIELDS:
        raise InvalidInput(
            f"input {shown(message.name)} is {datatype}, which has no typed field; send raw_input_contents"
        )
    wanted = _FIELDS[datatype]
    other = [field.name for field, _ in message.contents.ListFields() if field.name != wanted]
    if other:
        raise InvalidInput(f"input {shown(message.name)} is {datatype} and has {other[0]}; expected {wanted}")
    found: Sequence[object] = getattr(message.contents, wanted)
    return found


def _wanted(message: pb.ModelInferRequest.InferRequestedOutputTensor) -> tensors.WantedOutput:
    oip.refuse_shared_memory("output", message.name, message.parameters)
    classes = reserved.classification(message.name, _values(message.parameters).get("classification"))
    return tensors.WantedOutput(name=message.name, classes=classes)


def _values(parameters: _Parameters) -> dict[str, object]:
    """Parameters as values; one that a client's library could not send arrives without any, as None."""
    return {name: _chosen(parameter) for name, parameter in parameters.items()}


def _chosen(parameter: pb.InferParameter | pb.LogSettingsRequest.SettingValue) -> object:
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind else None
