"""What the Open Inference Protocol says of server and models, as JSON documents; gRPC carries the same.

Metadata lists `probabilities` alone, for clients written for other servers expect one output (`scores` where the base
network's numbers are no probabilities). The certificate tensors are described in the parameters of the configuration.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

from serving.gateway.statistics import ModelCounts
from serving.messages import Model
from serving.wires.answer_document import Document
from serving.wires.open_inference import datatypes, oip, tensors
from serving.wires.port import GatewayPort

EXTENSIONS = (
    "classification",
    "model_repository",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
    "generate",
)
"""Extensions that work, and no others: of repository, trace and log all can be read."""

_FORMATS = {"CHW": "FORMAT_NCHW", "HWC": "FORMAT_NHWC", "features": "FORMAT_NONE"}
_PLATFORM = "certserve"


def server() -> Document:
    """Name, version and extensions of the server."""
    try:
        own = version("certserve")
    except PackageNotFoundError:
        own = "unknown"
    return {"name": "certserve", "version": own, "extensions": list(EXTENSIONS)}


def metadata(model: Model, served: Iterable[Model]) -> Document:
    """Inputs and default outputs of a model, and which versions of it are served; -1 is the number of rows."""
    spec = model.manifest.input
    versions = [each.manifest.version for each in served if each.manifest.name == model.manifest.name]
    return {
        "name": model.manifest.name,
        "versions": sorted(versions, key=int),
        "platform": _PLATFORM,
        "inputs": [{"name": spec.name, "datatype": oip.input_datatype(spec), "shape": [-1, *spec.shape]}],
        "outputs": [_output(tensors.default(model.manifest), model)],
    }


def config(model: Model, max_rows: int) -> Document:
    """The part of Triton's model configuration that clients read; dimensions are without the rows."""
    spec = model.manifest.input
    return {
        "name": model.manifest.name,
        "platform": _PLATFORM,
        "backend": "certserve",
        "max_batch_size": max_rows,
        "input": [
            {
                "name": spec.name,
                "data_type": f"TYPE_{oip.input_datatype(spec)}",
                "format": _FORMATS[spec.layout],
                "dims": list(spec.shape),
            }
        ],
        "output": [
            {"name": tensors.default(model.manifest), "data_type": "TYPE_FP32", "dims": [len(model.manifest.labels)]}
        ],
        "parameters": {name: {"string_value": text} for name, text in _parameters(model).items()},
    }


def statistics(gateway: GatewayPort, name: str | None, version: str | None) -> Document:
    """What a gateway has answered: of one version, of all of a model, or of all models. Raises `NotFound`."""
    found = gateway.models()
    if name is not None:
        wanted = gateway.model(name, version)
        found = [wanted] if version else [each for each in found if each.manifest.name == name]
    return {"model_stats": [_counted(each, gateway.statistics.of(each)) for each in found]}


def _counted(model: Model, counts: ModelCounts) -> Document:
    parts = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
    nothing = {"count": 0, "ns": 0}
    return {
        "name": model.manifest.name,
        "version": model.manifest.version,
        "last_inference": counts.last_ms,
        "inference_count": counts.inferences,
        "execution_count": counts.success.count,
        "inference_stats": {
            **{part: asdict(getattr(counts, part)) for part in parts},
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [{"batch_size": rows, **asdict(each)} for rows, each in sorted(counts.by_rows.items())],
    }


def _output(name: str, model: Model) -> Document:
    datatype = tensors.TENSORS[name].datatype
    return {"name": name, "datatype": datatype, "shape": tensors.shape(name, model.manifest)}


def _parameters(model: Model) -> dict[str, str]:
    """Strings, as the configuration wants them; lists and objects are JSON."""
    manifest, law = model.manifest, model.manifest.formulas.parameters
    grid = manifest.input.grid.model_dump(include={"low", "step", "high", "step_length"}, exclude_none=True)
    return {
        "certserve.digest": model.digest,
        "certserve.outputs": json.dumps([_output(name, model) for name in tensors.offered(manifest)]),
        "certserve.input_datatypes": json.dumps([*datatypes.NUMPY, datatypes.BYTES]),
        "certserve.grid": json.dumps(grid),
        "certserve.units": manifest.input.units,
        **({"certserve.sigma": repr(law["sigma"])} if "sigma" in law else {}),
        "certserve.labels": json.dumps(list(manifest.labels)),
        "certserve.defaults": manifest.defaults.model_dump_json(),
    }
