"""What a long pass over data has gathered so far, kept in a file, so that a run that was broken off goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

EVERY_S = 30.0
_IDENTITY = "identity"

Arrays = Mapping[str, NDArray[Any]]


class CheckpointError(ValueError):
    """A checkpoint is of another run, or damaged; the message names the file."""


class Checkpoint:
    """One file. `identity` says what the run depends on: another data set or another network is another run.

    Without a path nothing is kept.
    """

    def __init__(self, path: Path | None, identity: str) -> None:
        self._path, self._identity = path, identity
        self._kept = time.monotonic()

    def load(self) -> Arrays | None:
        """What was kept; None where there is no file yet. Raises `CheckpointError`."""
        if self._path is None or not self._path.exists():
            return None
        try:
            arrays: dict[str, NDArray[Any]] = dict(load_tensors(self._path.read_bytes()))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{self._path} cannot be read ({error}); remove it to begin anew") from error
        if bytes(arrays.pop(_IDENTITY, np.empty(0, np.uint8)).tobytes()) != self._identity.encode():
            raise CheckpointError(
                f"{self._path} was kept by another run: data, network or settings differ; remove it to begin anew"
            )
        return arrays

    def keep(self, arrays: Arrays, *, at_once: bool = False) -> None:
        """Write these, if half a minute has passed or `at_once`; the file is whole at every moment."""
        if self._path is None or not (at_once or time.monotonic() - self._kept >= EVERY_S):
            return
        named = {name: np.ascontiguousarray(each) for name, each in arrays.items()}
        named[_IDENTITY] = np.frombuffer(self._identity.encode(), dtype=np.uint8)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_name(self._path.name + ".part")
        beside.write_bytes(save_tensors(named))
        os.replace(beside, self._path)
        self._kept = time.monotonic()
