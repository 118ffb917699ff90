"""How routes name a part of their path: `{name:served}` is a name that ends before the colon of `:predict`, and
`{memory:memory}` one of the two kinds of shared memory. Whoever makes routes imports this module first.
"""

from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor

from serving.wires.open_inference.oip_control import MEMORIES


class _Served(Convertor[str]):
    """A segment without a colon."""

    regex = "[^/:]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Memory(_Served):
    """The beginning of a segment, which goes on."""

    regex = "|".join(MEMORIES)


register_url_convertor("served", _Served())
register_url_convertor("memory", _Memory())

ALIVE = ("/", "/health", "/healthz")
"""Where whatever answers is alive."""
HEALTH = frozenset((*ALIVE, "/v2/health/live", "/v2/health/ready"))
V1_MODEL, V2_MODEL = "/v1/models/{name:served}", "/v2/models/{name:served}"
VERSION = "/versions/{version:served}"
