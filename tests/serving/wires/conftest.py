from __future__ import annotations

import httpx
import pytest
from hypothesis import HealthCheck, settings

from serving.wires.http.server import build_app
from tests.serving.wires.fake_gateway import FakeGateway

# A machine that is busy with something else is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def gateway():
    return FakeGateway()


@pytest.fixture
async def http(gateway):
    transport = httpx.ASGITransport(build_app(gateway), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client
