"""What a wire needs of the gateway. Wires program against this and know nothing behind it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.budget import BufferedBytes
from serving.config import Limits
from serving.events import Event
from serving.gateway.statistics import Statistics
from serving.messages import Answer, Model, PredictRequest


class GatewayPort(Protocol):
    """Admission, defaults and limits, keys, and the way to an engine."""

    limits: Limits
    buffered: BufferedBytes
    """What the whole process may keep of requests that are not answered yet: every wire takes from it before it reads."""

    statistics: Statistics
    """What this gateway has answered, by model and version; each wire takes the time of every predict and infer."""

    def admitted(self) -> AbstractContextManager[None]:
        """One predict or infer, from its head to its answer. Raises `Unavailable` where the server is stopping."""
        ...

    async def predict(self, request: PredictRequest) -> Answer:
        """The answer to every row. Raises `CertserveError`; cancelling the awaiting task cancels the work."""
        ...

    def events(self, request: PredictRequest) -> AsyncGenerator[Event[Answer], None]:
        """What is said of every row until its answer, which comes last and is that of `predict`. Raises as that; closing it
        cancels the work.
        """
        ...

    def model(self, name: str, version: str | None = None) -> Model:
        """A served model, the newest if no version is named. Raises `NotFound`."""
        ...

    def models(self) -> list[Model]:
        """Every served model and version."""
        ...

    def examples(self, model: Model) -> NDArray[np.int32]:
        """Inputs (rows, *shape) that a reader may begin with, as grid integers; there may be none."""
        ...

    def unready(self) -> str:
        """Why not every model is loaded and has reproduced its golden outputs; empty if they have."""
        ...

    def failed(self) -> str:
        """Why nothing but a new process makes this server answer again; empty if it may."""
        ...

    def observe(self, protocol: str, code: str, seconds: float) -> None:
        """Count one finished request; a wire calls it once for each predict or infer."""
        ...
