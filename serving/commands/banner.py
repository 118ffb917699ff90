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
_CURL = "curl -s"
_NAMED = 8
_WRITTEN_OUT = 32


def text(settings: Settings, manifests: Sequence[Manifest], program: str) -> str:
    """The lines for the terminal; `settings` have true ports, `program` is how a shell calls certserve."""
    host, scheme = ports.reachable(settings.host), "https" if settings.tls_cert_file else "http"
    http, grpc, metrics = (
        ports.at(host, port) for port in (settings.http_port, settings.grpc_port, settings.metrics_port)
    )
    pictured = next((each for each in manifests if takes(each.input, _PICTURE)), None)
    model = pictured or manifests[0]
    curl, server = _curl(settings), f"{scheme}://{http}"
    tries = [_with_picture(curl, server, model)] if pictured else [_with_rows(curl, server, model)]
    if pictured and curl == _CURL:
        tries.append(_over_grpc(grpc, model, program))
    return (
        f"ready: HTTP {server}, gRPC {grpc}, metrics {scheme}://{metrics}/metrics. "
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


def _curl(settings: Settings) -> str:
    """curl, with what this server asks of its clients."""
    trusted = f" --cacert {shlex.quote(str(settings.tls_cert_file))}" if settings.tls_cert_file else ""
    certified = " --cert CERTIFICATE --key KEY" if settings.tls_client_ca_file else ""
    known = ' -H "Authorization: Bearer $KEY"' if settings.keys_file or settings.jwt_keys else ""
    return _CURL + trusted + certified + known


def _route(server: str, model: Manifest) -> str:
    return f"'{server}/v1/models/{model.name}/versions/{model.version}:predict?certify=target'"


def _with_picture(curl: str, server: str, model: Manifest) -> str:
    return f"{curl} --data-binary @{_PICTURE} -H 'Content-Type: image/png' \\\n    {_route(server, model)}"


def _over_grpc(grpc: str, model: Manifest, program: str) -> str:
    return f"{program} predict {_PICTURE} --model {model.name} --grpc {shlex.quote(grpc)} --certify target"


def _with_rows(curl: str, server: str, model: Manifest) -> str:
    """One input of zeros, which is on every grid; a long one is made on the way."""
    ending = f"-H 'Content-Type: application/json' \\\n    {_route(server, model)}"
    if model.input.size <= _WRITTEN_OUT:
        return f"{curl} -d '{json.dumps({'instances': [_zeros(model.input.shape)]})}' {ending}"
    row = "0"
    for length in reversed(model.input.shape):
        row = f"[{row}] * {length}"
    return f"""python3 -c 'import json; print(json.dumps({{"instances": [{row}]}}))' | \\\n  {curl} -d @- {ending}"""


def _zeros(shape: Sequence[int]) -> object:
    return [_zeros(shape[1:])] * shape[0] if shape else 0
