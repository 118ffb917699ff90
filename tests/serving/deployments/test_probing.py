"""How a gateway under Ray learns whether an engine has its bundles, by a handle that is not Ray's."""

from __future__ import annotations

import asyncio
import logging

import pytest

from serving.deployments.on_ray import _PROVING, _Engines
from tests.virtual_loop import run_virtually

OWN = {"m/1": "sha256:1"}


class Handle:
    """Says of its `ready` what `found` says in turn, the last for ever; an exception is raised."""

    def __init__(self, *found):
        self.found, self.asked, self.ready = found, [], self

    def remote(self, digests):
        self.asked.append(digests)
        return self._answer(self.found[min(len(self.asked), len(self.found)) - 1])

    async def _answer(self, found):
        if isinstance(found, Exception):
            raise found
        return found


def probed(handle, number=2):
    """What a gateway says of itself after the first probe."""

    async def main():
        engines = _Engines(handle)
        assert engines.unready == _PROVING
        probing = asyncio.ensure_future(engines.probe(OWN, number))
        await asyncio.sleep(0.5)
        assert not probing.done()
        return engines.unready

    return run_virtually(main())


@pytest.mark.parametrize("others", [0, 1, 7])
def test_one_engine_of_the_gateways_bundles_is_enough(others, caplog):
    caplog.set_level(logging.WARNING)
    handle = Handle(*["another digest"] * others, "")
    assert probed(handle) == ""
    assert handle.asked == [OWN] * (others + 1)
    assert not caplog.records


def test_where_no_engine_has_them_the_gateway_says_what_differs_in_its_log_too(caplog):
    caplog.set_level(logging.WARNING)
    assert probed(Handle("another digest")) == "another digest"
    assert [each.message for each in caplog.records] == ["not ready: another digest"]


def test_where_no_engine_can_be_reached_it_is_still_being_proven():
    assert probed(Handle(RuntimeError("no replica"))) == _PROVING
