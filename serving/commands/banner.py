"""What the server says when it is ready: where it listens, what it serves, and a command to try that works here."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from export.bundle import InputSpec, Manifest
from serving import ports
from serving.config import Settings
from serving.errors import CertserveError
from serving.inputs import registry

_PICTURE = Path("examples/sneaker.png")
_NAMED = 8
_WRITTEN_OUT = 32


def text(settings: Settings, manifests: Sequence[Manifest], program: str) -> str:
    """The lines for the terminal; `settings` have true ports, `program` is how a shell calls certserve."""
    host = ports.reachable(settings.host)
    http, grpc, metrics = (
        ports.at(host, port) for port in (settings.http_port, settings.grpc_port, settings.metrics_port)
    )
    pictured = next((each for each in manifests if takes(each.input, _PICTURE)), None)
    model = pictured or manifests[0]
    tries = [_with_picture(http, model), _over_grpc(grpc, model, program)] if pictured else [_with_rows(http, model)]
    return (
        f"ready: HTTP http://{http}, gRPC {grpc}, metrics http://{metrics}/metrics. "
        f"It serves {_names(manifests)}. Try\n\n" + "".join(f"  {each}\n\n" for each in tries) + "Ctrl-C stops it."
    )


def takes(spec: InputSpec, picture: Path) -> bool:
    """Whether this very file, as it is here, is an input of the model."""
    try:
        registry.row(picture.read_bytes(), None, spec)
    except (OSError, CertserveError):
        return False
    return True


def _names(manifests: Sequence[Manifest]) -> str:
    names = [f"{each.name}/{each.version}" for each in manifests]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _route(http: str, model: Manifest) -> str:
    return f"'http://{http}/v1/models/{model.name}/versions/{model.version}:predict?certify=target'"


def _with_picture(http: str, model: Manifest) -> str:
    return f"curl -s --data-binary @{_PICTURE} -H 'Content-Type: image/png' \\\n    {_route(http, model)}"


def _over_grpc(grpc: str, model: Manifest, program: str) -> str:
    return f"{program} predict {_PICTURE} --model {model.name} --grpc {shlex.quote(grpc)} --certify target"


def _with_rows(http: str, model: Manifest) -> str:
    """One input of zeros, which is on every grid; a long one is made on the way."""
    ending = f"-H 'Content-Type: application/json' \\\n    {_route(http, model)}"
    if model.input.size <= _WRITTEN_OUT:
        return f"curl -s -d '{json.dumps({'instances': [_zeros(model.input.shape)]})}' {ending}"
    row = "0"
    for length in reversed(model.input.shape):
        row = f"[{row}] * {length}"
    return f"""python3 -c 'import json; print(json.dumps({{"instances": [{row}]}}))' | \\\n  curl -s -d @- {ending}"""


def _zeros(shape: Sequence[int]) -> object:
    return [_zeros(shape[1:])] * shape[0] if shape else 0
