"""Answers one input at a time, for whoever examines them: from a running server, or from an engine in this process."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.attack.campaign import Answering
from export.bundle import Bundle
from serving import client
from serving.config import Settings
from serving.deployments.assembly import build_engine
from serving.gateway.gateway import Gateway
from serving.messages import PredictRequest
from serving.models.catalogue import Catalogue
from serving.wires import options as wire_options
from serving.wires.kserve_v1 import instances_json


def from_server(url: str, bundle: Bundle, options: Mapping[str, object]) -> Answering:
    """Ask the server at `url`, over HTTP, for the bundle's model and version."""

    def answering(lattice: NDArray[np.integer]) -> Mapping[str, Any]:
        body = json.dumps({"instances": [lattice.tolist()]}).encode()
        name, version = bundle.manifest.name, bundle.manifest.version
        document = client.predict_http(url, name, body, "application/json", options, version=version)
        found: Mapping[str, Any] = document["predictions"][0]
        return found

    return answering


@contextmanager
def from_engine(bundle: Bundle, options: Mapping[str, object]) -> Iterator[Answering]:
    """Answer in this process, with a noise secret that nobody else has."""
    settings = Settings(models=Path())
    chosen = wire_options.build(wire_options.from_query({name: str(value) for name, value in options.items()}.items()))
    engine = build_engine([bundle], settings)
    gateway = Gateway(Catalogue([bundle]), engine, secrets.token_bytes(32), settings.limits)

    def answering(lattice: NDArray[np.integer]) -> Mapping[str, Any]:
        request = PredictRequest(
            model=bundle.manifest.name,
            version=bundle.manifest.version,
            inputs=lattice.astype(np.int32)[None],
            options=chosen,
        )
        document: Any = instances_json.encode(asyncio.run(gateway.predict(request)), chosen)
        found: Mapping[str, Any] = document["predictions"][0]
        return found

    try:
        yield answering
    finally:
        engine.close()
