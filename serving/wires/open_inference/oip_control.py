"""What Triton's extensions say of the server itself, as documents: the repository, the settings of trace and log, and
regions of shared memory; gRPC carries the same.

All of it can be read, and nothing be changed over the network. A client that sets a setting to what it is, or says nothing
of it, gets its answer; any other change is refused in Triton's own words where it has some.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal, NoReturn

from certify.strict_json import shown
from serving.errors import InvalidInput, NotFound, NotOffered
from serving.wires.answer_document import Document
from serving.wires.open_inference import oip
from serving.wires.port import GatewayPort

Setting = str | bool | int | list[str]
SharedMemory = Literal["system", "cuda"]
MEMORIES: tuple[SharedMemory, ...] = ("system", "cuda")
"""The two kinds of shared memory that the protocol knows."""

_READY, _NOT_READY = "READY", "UNAVAILABLE"
_TRACE: dict[str, Setting] = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": "triton",
}


def index(gateway: GatewayPort, ready: bool) -> list[Document]:
    """Every served model and version, or those alone that are ready."""
    reason = gateway.unready()
    if reason and ready:
        return []
    state = {"state": _NOT_READY, "reason": reason} if reason else {"state": _READY}
    return [{"name": each.manifest.name, "version": each.manifest.version, **state} for each in gateway.models()]


def only_ready(fields: Mapping[str, object]) -> bool:
    """What the body of a request for the index says."""
    ready = fields.get("ready")
    if ready is not None and not isinstance(ready, bool):
        raise InvalidInput(f"ready is {shown(ready)}; expected true or false")
    return bool(ready)


def refuse_repository(name: str) -> None:
    """There is one repository, and it has no name."""
    if name:
        raise NotOffered("'repository_name' specification is not supported; leave it out")


def refuse_loading(action: str, model: str) -> NoReturn:
    """Models are neither loaded nor unloaded while the server runs."""
    raise NotOffered(
        f"failed to {action} {shown(model)}: explicit model load / unload is not allowed;"
        " the server serves its repository as it was at the start"
    )


def trace(gateway: GatewayPort, name: str, version: str, changes: Mapping[str, object]) -> dict[str, Setting]:
    """The settings of tracing, of one model if it is named. Nothing is traced. Raises `NotFound`."""
    if name:
        gateway.model(name, oip.version(version))
    _refuse_file("trace", changes)
    _refuse_changes(_TRACE, {name: _level(name, value) for name, value in changes.items()})
    return dict(_TRACE)


def log(changes: Mapping[str, object]) -> dict[str, Setting]:
    """What the server logs."""
    logger = logging.getLogger("certserve")
    found: dict[str, Setting] = {
        "log_file": "",
        "log_info": logger.isEnabledFor(logging.INFO),
        "log_warning": logger.isEnabledFor(logging.WARNING),
        "log_error": logger.isEnabledFor(logging.ERROR),
        "log_verbose_level": int(logger.isEnabledFor(logging.DEBUG)),
        "log_format": "default",
    }
    _refuse_file("log", changes)
    _refuse_changes(found, changes)
    return found


def _level(name: str, value: object) -> object:
    """A trace level may come without its array, and a number as one: some clients write them so."""
    if name == "trace_level" and isinstance(value, str):
        return [value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _refuse_file(kind: str, changes: Mapping[str, object]) -> None:
    if changes.get(f"{kind}_file") not in (None, ""):
        raise NotOffered(f"{kind} file location can not be updated through network protocol")


def _refuse_changes(settings: Mapping[str, Setting], changes: Mapping[str, object]) -> None:
    for name, value in changes.items():
        if name not in settings:
            raise InvalidInput(f"unknown setting {shown(name)}; known are {', '.join(settings)}")
        if value is not None and (type(value), value) != (type(settings[name]), settings[name]):
            raise NotOffered(
                f"{name} is {shown(settings[name])} and can not be updated through network protocol; got {shown(value)}"
            )


def regions(memory: SharedMemory, name: str) -> list[Document]:
    """The regions of shared memory: none. Raises `NotFound` for one that is named."""
    if name:
        raise NotFound(f"Unable to find {memory} shared memory region: {shown(name)}")
    return []


def refuse_region() -> NoReturn:
    """Shared memory is not offered: whoever names a region would read and write what is another's."""
    raise NotOffered("Client shared memory is disabled; send the data in the request")
