"""The matrix of a server with keys: each route and each method by each kind of credentials, from the code's own tables.

A route or method that is added is asked, too: nothing here lists any.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from dataclasses import dataclass

import grpc
import httpx

from protos.certserve.v1 import certserve_pb2
from protos.inference import open_inference_pb2
from serving.security import keys
from serving.security.callers import SCOPES
from serving.wires.grpc.server import NEEDS
from tests.serving.security.credentials import key, moment

PROTOS = (certserve_pb2.DESCRIPTOR, open_inference_pb2.DESCRIPTOR)
SERVICES = [service for proto in PROTOS for service in proto.services_by_name.values()]
DECLARED = {f"/{each.full_name}/{method.name}" for each in SERVICES for method in each.methods}
METHODS = sorted(DECLARED | NEEDS.keys() | {"/nothing.Here/Nothing"})
QUOTA = 30_000
REFUSED = {"unknown": (401, grpc.StatusCode.UNAUTHENTICATED), "forbidden": (403, grpc.StatusCode.PERMISSION_DENIED)}


@dataclass
class Bearers:
    """The file of keys, and who bears what: header fields by the kind of credentials."""

    records: list[keys.Key]
    unknown: dict[str, dict[str, str]]
    by_scope: dict[str, dict[str, str]]
    metered: dict[str, str]
    """Whoever may draw no more than `QUOTA` in a day."""

    @property
    def file(self) -> bytes:
        return keys.written(self.records)


def bearers() -> Bearers:
    made = {scope: key(scope, [scope]) for scope in SCOPES}
    expired, revoked = key("late", SCOPES, expires=moment(0)), key("gone", SCOPES, revoked=moment(0))
    unknown = {
        "none": {},
        "wrong": bearing(keys.new()),
        "expired": bearing(expired[0]),
        "revoked": bearing(revoked[0]),
        "two": bearing(f"{made['infer'][0]}, Bearer {made['read'][0]}"),
        "another scheme": {"authorization": f"Basic {made['infer'][0]}"},
        "empty": {"authorization": ""},
    }
    metered = key("metered", ["infer"], draws_per_day=QUOTA)
    records = [each[1] for each in (*made.values(), expired, revoked, metered)]
    return Bearers(records, unknown, {scope: bearing(text) for scope, (text, _) in made.items()}, bearing(metered[0]))


def bearing(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def routes(app) -> list[tuple[str, str, str | None]]:
    """HTTP method, path and scope of every route; a path that leads nowhere is for those who are known."""
    found = [
        (method, filled(route), route.needs) for route in app.routes for method in sorted(route.methods - {"HEAD"})
    ]
    return [*found, ("GET", "/nothing/here", ""), ("POST", "/v2/", "read")]


def filled(route) -> str:
    """A path of a route, with the served model for its name and version, and the first that fits for other parameters."""
    values = {"name": "pictures", "version": "1"}
    for name, convertor in route.param_convertors.items():
        fits = ("any", *convertor.regex.strip("()").split("|"))
        values.setdefault(name, next(each for each in fits if re.fullmatch(convertor.regex, each)))
    return route.path_format.format(**values)


def expected(needs: str | None, who: str) -> str:
    """What becomes of whoever is unknown, or has one scope alone."""
    if needs is None:
        return "in"
    if who not in SCOPES:
        return "unknown"
    return "in" if needs in ("", who) else "forbidden"


async def differences(app, http: httpx.AsyncClient, channel: grpc.aio.Channel, who: Bearers) -> tuple[int, list[str]]:
    """How many cells of the matrix were asked, and those that are not as they should be."""
    credentials = who.unknown | who.by_scope
    cells = [*itertools.product(routes(app), credentials), *itertools.product(METHODS, credentials)]
    gate = asyncio.Semaphore(16)

    async def look(asked, name) -> str | None:
        needs = NEEDS.get(asked, "") if isinstance(asked, str) else asked[2]
        async with gate:
            if isinstance(asked, str):
                code = await outcome(channel, asked, credentials[name])
            else:
                code = (await http.request(asked[0], asked[1], headers=credentials[name])).status_code
        found = next((word for word, codes in REFUSED.items() if code in codes), "in")
        return None if found == expected(needs, name) else f"{asked} by {name}: {code}"

    return len(cells), [each for each in await asyncio.gather(*(look(*cell) for cell in cells)) if each]


async def outcome(channel, method, fields) -> grpc.StatusCode:
    """The code of a call with an empty message; OK for one that goes on."""
    call = channel.unary_stream(method)(b"", metadata=list(fields.items()), timeout=10)
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        return error.code()
    finally:
        if not call.done():
            call.cancel()
    return grpc.StatusCode.OK
