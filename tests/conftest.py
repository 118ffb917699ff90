"""Speed belongs in benchmarks: no example of a property fails for being slow on a busy machine.

Two workers share the tests (`-n 2`): each takes whole files, so that what a file sets up is set up once. All that starts
Ray goes to one of them, and begins first: it waits more than it computes, and two of these would slow each other down.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import cache, partial

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

REAL_SERVERS = "tests/e2e/"


@pytest.fixture(scope="session", autouse=True)
def _as_much_of_the_processor_as_others():
    """Threads that draw give way to all others. Where other programs run, they would be starved, and requests cut at their
    deadlines.
    """
    engine = sys.modules.get("serving.engine.engine")  # not imported for those who have nothing to do with it
    with pytest.MonkeyPatch.context() as patch:
        if engine is not None:
            patch.setattr(engine, "_NICENESS", 0)
        yield


class _TenTimesAsOften:
    """`asyncio`, as a module of another package sees it that sleeps between its looks at something."""

    def __getattr__(self, name):
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(seconds):
        await asyncio.sleep(seconds / 10)


@pytest.fixture(scope="session", autouse=True)
def _servers_that_stop_at_once():
    """uvicorn looks ten times a second whether it is to stop, and sleeps while it stops; hundreds of tests have a server."""
    uvicorn = sys.modules.get("uvicorn.server")
    with pytest.MonkeyPatch.context() as patch:
        if uvicorn is not None:
            patch.setattr(uvicorn, "asyncio", _TenTimesAsOften())
        yield


@pytest.fixture(scope="session", autouse=True)
def _authorities_that_are_read_once():
    """Each client of httpx would read all that it believes by default, whomever it asks, for a tenth of a second."""
    transports = sys.modules.get("httpx._transports.default")
    with pytest.MonkeyPatch.context() as patch:
        if transports is not None:
            patch.setattr(transports, "create_ssl_context", partial(_remembered, cache(transports.create_ssl_context)))
        yield


def _remembered(create, verify=True, cert=None, trust_env=True):
    by_default = verify is True and cert is None and not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & set(os.environ)
    return (create if by_default else create.__wrapped__)(verify, cert, trust_env)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not item.nodeid.startswith(REAL_SERVERS))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return REAL_SERVERS if nodeid.startswith(REAL_SERVERS) else super()._split_scope(nodeid)

    config.option.loadscopereorder = False  # the order above, not the largest file first
    return ByFile(config, log)
