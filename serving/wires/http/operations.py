"""What each route of the HTTP server takes and gives, as JSON schemas: the part of the OpenAPI document that no code knows.

A route that is not named here has no schema in the document; a test compares this table with the routes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.inputs import registry
from serving.wires import answer_document
from serving.wires import options as wire_options
from serving.wires.http import multipart
from serving.wires.open_inference import datatypes

Schema = dict[str, Any]
JSON = "application/json"

_FILE: Schema = {"type": "string", "format": "binary"}
_TEXT, _NUMBER, _COUNT = {"type": "string"}, {"type": "number"}, {"type": "integer", "minimum": 0}
_OF_KINDS: dict[str, Schema] = {
    "a string": _TEXT,
    "a finite number": _NUMBER,
    "an integer": {"type": "integer"},
    "true or false": {"type": "boolean"},
    "a list of names": {"type": "array", "items": _TEXT},
}


@dataclass(frozen=True, slots=True)
class Operation:
    """Bodies by their media types: of a POST, and of its answer. `options` may stand in the query."""

    answer: Mapping[str, Schema]
    body: Mapping[str, Schema] = field(default_factory=dict)
    options: bool = False


def thing(required: str = "", **properties: Schema) -> Schema:
    """An object with these properties, of which those named in `required` are always there."""
    found: Schema = {"type": "object", "properties": properties}
    return {**found, "required": required.split()} if required else found


def many(items: Schema) -> Schema:
    """An array."""
    return {"type": "array", "items": items}


OPTIONS: dict[str, Schema] = {name: _OF_KINDS[kind.expected] for name, kind in wire_options.KINDS.items()}
"""Every option of a request."""

ERROR = thing("error", error=_TEXT)
"""What every refusal says."""


def _of(fields: tuple[answer_document.Field, ...], nullable: bool = True) -> Schema:
    """The document that a table of fields makes."""
    found = thing(
        " ".join(each.name for each in fields if not each.extra),
        **{each.name: _of(each.fields) if each.fields else {} for each in fields},
    )
    return {**found, "type": ["object", "null"]} if nullable else found


_TENSOR = thing(
    "name datatype shape",
    name=_TEXT,
    datatype={"enum": [*datatypes.NUMPY, datatypes.BYTES]},
    shape=many(_COUNT),
    data={"type": "array"},
    parameters=thing(),
)
_WANTED = thing("name", name=_TEXT, parameters=thing())
_INFER = thing("inputs", id=_TEXT, parameters=thing(), inputs=many(_TENSOR), outputs=many(_WANTED))
_INFERRED = thing(
    "model_name model_version outputs",
    model_name=_TEXT,
    model_version=_TEXT,
    id=_TEXT,
    parameters=thing(),
    outputs=many(_TENSOR),
)
_GENERATED = thing("model_name model_version", model_name=_TEXT, model_version=_TEXT, id=_TEXT)
_INSTANCES = {
    **thing("instances", instances={"type": "array"}, input={"enum": ["grid", "values"]}, **OPTIONS),
    "additionalProperties": False,
}
_STREAM = {"text/event-stream": _TEXT}
_PREDICTIONS = thing("predictions", predictions=many(_of(answer_document.PREDICTION, nullable=False)))
_DESCRIBED = many(thing("name datatype shape", name=_TEXT, datatype=_TEXT, shape=many({"type": "integer"})))
_METADATA = thing(
    "name versions platform inputs outputs",
    name=_TEXT,
    versions=many(_TEXT),
    platform=_TEXT,
    inputs=_DESCRIBED,
    outputs=_DESCRIBED,
)
_CONFIG = thing(
    "name platform backend max_batch_size input output", name=_TEXT, max_batch_size=_COUNT, parameters=thing()
)
_SERVER = thing("name version extensions", name=_TEXT, version=_TEXT, extensions=many(_TEXT))
_INDEX = many(thing("name version state", name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT))
_READY = thing("ready", name=_TEXT, ready={"type": "boolean"})
_NAMES = thing("models", models=many(_TEXT))
_ALIVE = {JSON: thing("status", status=_TEXT)}
_SETTINGS = {JSON: thing()}
_PICTURES = dict.fromkeys(registry.types(), _FILE)
_DONE = {JSON: thing()}
PREDICT = {JSON: _INSTANCES, **_PICTURES, multipart.TYPE: thing("file", file=_FILE)}
"""What the friendly route reads."""

OPERATIONS: dict[str, Operation] = {
    "/": Operation({**_ALIVE, "text/html": _TEXT}),
    "/health": Operation(_ALIVE),
    "/healthz": Operation(_ALIVE),
    "/docs": Operation({"text/html": _TEXT}),
    "/openapi.json": Operation({JSON: thing("openapi info paths")}),
    "/v1/models": Operation({JSON: _NAMES}),
    "/v1/models/{name}": Operation({JSON: _READY}),
    "/v1/models/{name}:predict": Operation({JSON: _PREDICTIONS, **_STREAM}, PREDICT, options=True),
    "/v1/models/{name}:stream": Operation(_STREAM, PREDICT, options=True),
    "/v2": Operation({JSON: _SERVER}),
    "/v2/health/live": Operation({JSON: thing("live", live={"type": "boolean"})}),
    "/v2/health/ready": Operation({JSON: _READY}),
    "/v2/logging": Operation(_SETTINGS, _SETTINGS),
    "/v2/models": Operation({JSON: _NAMES}),
    "/v2/models/stats": Operation({JSON: thing("model_stats", model_stats=many(thing("name version")))}),
    "/v2/models/{name}": Operation({JSON: _METADATA}),
    "/v2/models/{name}/config": Operation({JSON: _CONFIG}),
    "/v2/models/{name}/generate": Operation({JSON: _GENERATED}, {JSON: thing(id=_TEXT, parameters=thing())}),
    "/v2/models/{name}/generate_stream": Operation(_STREAM, {JSON: thing()}),
    "/v2/models/{name}/infer": Operation(
        {JSON: _INFERRED, "application/octet-stream": _FILE}, {JSON: _INFER, "application/octet-stream": _FILE}
    ),
    "/v2/models/{name}/ready": Operation({JSON: _READY}),
    "/v2/models/{name}/stats": Operation({JSON: thing("model_stats", model_stats=many(thing("name version")))}),
    "/v2/models/{name}/trace/setting": Operation(_SETTINGS, _SETTINGS),
    "/v2/trace/setting": Operation(_SETTINGS, _SETTINGS),
    **{
        f"/v2/repository{named}/{tail}": Operation({JSON: answer}, {JSON: body})
        for named in ("", "/{repository}")
        for tail, answer, body in (
            ("index", _INDEX, thing(ready={"type": "boolean"})),
            ("models/{name}/load", thing(), thing(parameters=thing())),
            ("models/{name}/unload", thing(), thing(parameters=thing())),
        )
    },
    **{
        f"/v2/{{memory}}sharedmemory{region}/{tail}": Operation(answer, body)
        for region in ("", "/region/{region}")
        for tail, answer, body in (
            ("status", {JSON: many(thing())}, {}),
            ("register", _DONE, {JSON: thing()}),
            ("unregister", _DONE, {}),
        )
    },
}
"""By the path of the route, without its part `/versions/{version}`."""
