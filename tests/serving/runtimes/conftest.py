"""What all tests of the device share."""

from __future__ import annotations

import pytest

from serving.models import proof
from serving.runtimes import device_noise, device_rate


@pytest.fixture(autouse=True)
def quickly_proven(monkeypatch, request):
    """Lines prove their noise when they are made, by a million values: one test sees that they do, and others wait less."""
    if "a_million_values" not in request.node.name and "gpu" not in request.keywords:
        monkeypatch.setattr(device_noise, "_PROVEN_VALUES", 20_000)
    if "gpu" not in request.keywords:
        monkeypatch.setattr(device_rate, "_SECONDS", 0.0)
        monkeypatch.setattr(proof, "_PROVEN_NUMBERS", 2**14)  # the tests of the proof leave it a million
