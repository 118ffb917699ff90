"""Answers one input at a time, for whoever examines them: from a running server, or from an engine in this process."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.attack.campaign import Answering
from export.bundle import Bundle
from serving import client
from serving.deployments import in_process


def from_server(url: str, bundle: Bundle, options: Mapping[str, object]) -> Answering:
    """Ask the server at `url`, over HTTP, for the bundle's model and version."""

    def answering(lattice: NDArray[np.integer]) -> Mapping[str, Any]:
        body = json.dumps({"instances": [(lattice - bundle.manifest.input.zero).tolist()]}).encode()
        name, version = bundle.manifest.name, bundle.manifest.version
        document = client.predict_http(url, name, body, "application/json", options, version=version)
        found: Mapping[str, Any] = document["predictions"][0]
        return found

    return answering


@contextmanager
def from_engine(bundle: Bundle, options: Mapping[str, object]) -> Iterator[Answering]:
    """Answer in this process, with a noise secret that nobody else has."""
    with in_process.answers(bundle, options, secrets.token_bytes(32)) as answers:
        yield lambda lattice: answers(lattice[None])[0]
