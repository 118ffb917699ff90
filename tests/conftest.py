"""Speed belongs in benchmarks: no example of a property fails for being slow on a busy machine.

Two workers share the tests (`-n 2`): each takes whole files, so that what a file sets up is set up once. All that starts
Ray goes to one of them, and begins first: it waits more than it computes, and two of these would slow each other down.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from functools import cache, partial

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

REAL_SERVERS = "tests/e2e/"
FIRST = (REAL_SERVERS, "tests/export/", "tests/statistical/")


@pytest.fixture(scope="session", autouse=True)
def _what_is_loaded_is_no_garbage():
    """Thousands of tests and some hundred modules stay: to look through them takes half a second each time."""
    _leave_to_no_collector()


def _leave_to_no_collector():
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _as_much_of_the_processor_as_others():
    """Threads that draw or decode give way to others. Where other programs run, they would be starved, and requests cut at
    their deadlines.
    """
    priority = sys.modules.get("serving.priority")  # not imported for those who have nothing to do with it
    with pytest.MonkeyPatch.context() as patch:
        if priority is not None:
            patch.setattr(priority, "_NICENESS", 0)
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


@pytest.fixture(scope="session", autouse=True)
def _operators_that_are_listed_once():
    """Each export to ONNX would read and translate the source of five hundred operators anew, for a second."""
    torch = sys.modules.get("torch")
    with pytest.MonkeyPatch.context() as patch:
        if torch is not None:
            patch.setattr(torch.onnx, "export", partial(_with_one_list, patch, torch.onnx.export))
        yield


def _with_one_list(patch, export, *given, **more):
    # Not before: it takes a second to import.
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    if hasattr(ONNXRegistry.from_torchlib, "cache_info"):
        return export(*given, **more)
    patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
    found = export(*given, **more)
    _leave_to_no_collector()  # it has loaded as much again
    return found


def _remembered(create, verify=True, cert=None, trust_env=True):
    by_default = verify is True and cert is None and not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & set(os.environ)
    return (create if by_default else create.__wrapped__)(verify, cert, trust_env)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: _place(item.nodeid))


def _place(test):
    """Where it stands among all tests: the longest files early, lest one worker ends long before the other."""
    return next((place for place, start in enumerate(FIRST) if test.startswith(start)), len(FIRST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return REAL_SERVERS if nodeid.startswith(REAL_SERVERS) else super()._split_scope(nodeid)

    config.option.loadscopereorder = False  # the order above, not the largest file first
    return ByFile(config, log)
