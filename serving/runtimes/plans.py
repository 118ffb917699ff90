"""Plans of TensorRT as they are kept: a cache, keyed by all that a plan depends on, and no part of a bundle's identity.

Whatever differs is another name, so a plan of another graph, batch, TensorRT, driver or device is never found. What is found
and is not whole is taken for absent. Plans hold code that runs, so they lie in a folder of the user's own.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from serving.runtimes.device_driver import DeviceFacts
from serving.runtimes.whole_file import write_whole

_FIRST_LINE = b"certserve TensorRT plan 1"


@dataclass(frozen=True, slots=True)
class PlanKey:
    """All that a plan depends on."""

    graph: str  # SHA-256 of what is compiled
    rows: int
    settings: str
    library: str
    driver: str
    device: str
    architecture: str

    @classmethod
    def of(cls, graph: bytes, rows: int, settings: str, library: str, facts: DeviceFacts) -> PlanKey:
        """For this graph in batches of `rows` on this device."""
        digest = hashlib.sha256(graph).hexdigest()
        return cls(digest, rows, settings, library, facts.driver, facts.name, facts.architecture)

    @property
    def name(self) -> str:
        """Of the file."""
        return f"plan-{self.architecture}-{self.rows}-{hashlib.sha256(self._line).hexdigest()[:32]}.trt"

    @property
    def _line(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()


def timing_name(key: PlanKey) -> str:
    """Of the file with what was timed, which holds for any graph on the same device with the same libraries."""
    facts = "\0".join([key.library, key.driver, key.device, key.architecture])
    return f"timing-{key.architecture}-{hashlib.sha256(facts.encode()).hexdigest()[:32]}.cache"


def read(folder: Path, key: PlanKey) -> bytes | None:
    """The plan that is kept for `key`, if there is one and it is whole."""
    try:
        first, line, digest, plan = (folder / key.name).read_bytes().split(b"\n", 3)
    except (OSError, ValueError):
        return None
    whole = (first, line, digest) == (_FIRST_LINE, key._line, hashlib.sha256(plan).hexdigest().encode())
    return plan if whole else None


def keep(folder: Path, key: PlanKey, plan: bytes) -> bool:
    """Keep it, whole or not at all; whether it is kept."""
    content = b"\n".join([_FIRST_LINE, key._line, hashlib.sha256(plan).hexdigest().encode(), plan])
    return write_whole(folder / key.name, content)
