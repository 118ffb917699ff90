"""Where every wire meets: look the model up, make the task complete, have it answered, count what happened."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serving import metrics
from serving.budget import BufferedBytes
from serving.config import Limits
from serving.errors import Unavailable
from serving.events import Event, Events, Final, newest
from serving.gateway.draining import Draining
from serving.gateway.quotas import Bill, Ledger
from serving.gateway.resolve import resolve
from serving.gateway.statistics import Statistics
from serving.log import REQUEST_ID, TRACE_ID
from serving.messages import Answer, InputNote, Model, ModelIdentity, Prediction, PredictRequest, Reply, Task
from serving.models.catalogue import Catalogue
from serving.models.identity import refuse_others
from serving.priority import give_way
from serving.security.callers import ANONYMOUS, CALLER, INFER, LEFT, Caller

_QUICK = 64 * 1024
# Few, for threads that run Python let the loop wait for each other's turns.
_LARGE = ThreadPoolExecutor(2, "gateway-large", give_way)
_FREE = contextlib.nullcontext(Bill(0))


class Predictor(Protocol):
    """Whoever answers tasks: the engine in this process, or its replicas behind Ray."""

    def predict(self, task: Task) -> Events[Reply[Prediction]]:
        """The answer, or the events that lead to it; raises `CertserveError`. When cancelled, the work is given up."""
        ...


class Gateway:
    """One server as its wires see it."""

    def __init__(
        self,
        catalogue: Catalogue[Any],
        predictor: Predictor,
        secret: bytes,
        limits: Limits,
        unready: Callable[[], str] = lambda: "",
        runtime: str = "",
        failed: Callable[[], str] = lambda: "",
    ) -> None:
        """It serves what the `catalogue` says. `unready` says why the engines cannot answer, if they cannot, and `failed`
        why they will not before this process is started anew. `runtime` is the description of the only one that may; where
        it is empty, that of each model's first answer.
        """
        self.limits = limits
        self.buffered = BufferedBytes(limits.max_buffered_bytes)
        self.statistics = Statistics()
        self._catalogue = catalogue
        self._predictor = predictor
        self._secret = secret
        self._unready = unready
        self.failed = failed
        self._runtime = runtime
        self._runtimes: dict[tuple[str, str], str] = {}
        self._draining = Draining()
        self.ledger = Ledger(time.time)
        """What callers have drawn of their quotas."""

    def unready(self) -> str:
        """Why not every model is proven and can be reached, empty if they are; an empty repository never is ready."""
        if self._draining.begun:
            return "it is stopping"
        return self._unready() if self.models() else "there is no model in the repository"

    def admitted(self) -> AbstractContextManager[None]:
        """One request from its head to its answer. Raises `Unavailable` once the server is stopping."""
        return self._draining.admitted()

    async def drain(self) -> None:
        """Let no more requests in, and return when those inside are answered."""
        await self._draining.drain()

    def models(self) -> list[Model]:
        """Every version of every model."""
        return self._catalogue.now.models()

    def model(self, name: str, version: str | None = None) -> Model:
        """One model; without a version the one with the highest number. Raises `NotFound`."""
        return self._catalogue.now.model(name, version)

    def examples(self, model: Model) -> NDArray[np.int32]:
        """Inputs that a reader may begin with: the golden ones of the model's bundle, if it is served still."""
        golden = getattr(self._catalogue.now.kept(model.digest), "golden", None)
        return np.zeros((0, *model.manifest.input.shape), dtype=np.int32) if golden is None else golden.base_input

    async def predict(self, request: PredictRequest) -> Answer:
        """The answer to a decoded request. Raises `CertserveError`; cancelling it gives the work up."""
        model, task, notes = await self._completed(request)
        with self._charged(request.caller, task) as bill:
            answer = self._answer(model, task, notes, await self._predictor.predict(task))
            bill.took(_cost(answer))
        _count(answer, request.caller)
        return answer

    async def events(self, request: PredictRequest) -> AsyncGenerator[Event[Answer], None]:
        """What is said of a decoded request until its answer, which comes last and is that of `predict`; whoever reads
        slowly gets the newest alone. Raises and ends as `predict`; closing it gives the work up.
        """
        model, task, notes = await self._completed(request)
        with self._charged(request.caller, task) as bill:
            async with contextlib.aclosing(newest(self._predictor.predict(task))) as events:
                async for event in events:
                    answer = self._answer(model, task, notes, event.said)
                    bill.took(_cost(answer))
                    if isinstance(event, Final):
                        _count(answer, request.caller)
                    yield event.saying(answer)

    async def _completed(self, request: PredictRequest) -> tuple[Model, Task, list[InputNote | None]]:
        request.caller.must_have(INFER)
        model = self._meant(request)
        known = self._known(model.manifest.name, model.manifest.version), REQUEST_ID.get(), TRACE_ID.get()
        completing = functools.partial(resolve, request, model, self.limits, self._secret, *known)
        # Millions of numbers are compared, converted and hashed: meanwhile others are served.
        quick = request.inputs.size <= _QUICK
        task, notes = completing() if quick else await asyncio.get_running_loop().run_in_executor(_LARGE, completing)
        return model, task, notes

    @contextlib.contextmanager
    def _billed(self, caller: Caller, task: Task) -> Iterator[Bill]:
        try:
            with self.ledger.charged(caller, len(task.rows), task.max_draws + 1) as bill:
                yield bill
        finally:
            LEFT.set(self.ledger.said(caller))

    def _charged(self, caller: Caller, task: Task) -> AbstractContextManager[Bill]:
        """While a task is answered: whoever has a quota pays. Raises `Overloaded`."""
        return _FREE if caller.quota is None else self._billed(caller, task)

    def _answer(self, model: Model, task: Task, notes: Sequence[InputNote | None], reply: Reply[Prediction]) -> Answer:
        made_by = self._identity(task, reply)
        noted = zip(reply.rows, notes, strict=True)
        rows = tuple([replace(row, input=note) if note else row for row, note in noted])
        return Answer(
            model=made_by,
            labels=model.manifest.labels,
            predictions=rows,
            queue_s=reply.queue_s,
            compute_s=reply.compute_s,
            step=model.manifest.input.length,
            base_output=model.manifest.base_output,
        )

    def _meant(self, request: PredictRequest) -> Model:
        """The model of a request: the very one for which its wire has read it."""
        model = self.model(request.model, request.version)
        if request.digest not in ("", model.digest):
            changed = f"{request.model}/{model.manifest.version} was replaced while the request was read; try again"
            raise Unavailable(changed, retry_after_s=1)
        return model

    def _known(self, name: str, version: str) -> str:
        """The runtime that has answered for a model before, or the only one that may."""
        return self._runtimes.get((name, version), self._runtime)

    def _identity(self, task: Task, reply: Reply[Prediction]) -> ModelIdentity:
        """What made a reply, by its own word: never another than was asked, nor than made the answers before it."""
        refuse_others(task, self._known(task.model, task.version), reply.digest, reply.runtime)
        self._runtimes[task.model, task.version] = reply.runtime
        return ModelIdentity(name=task.model, version=task.version, digest=reply.digest, runtime=reply.runtime)

    def observe(self, protocol: str, code: str, seconds: float) -> None:
        """Count one finished request; each wire calls it once, whatever came of it."""
        metrics.of(metrics.REQUESTS, protocol, code).inc()
        metrics.of(metrics.REQUEST_SECONDS, protocol).observe(seconds)
        if name := CALLER.get(ANONYMOUS).name:
            metrics.CALLER_REQUESTS.labels(metrics.caller_label(name), code).inc()


def _cost(answer: Answer) -> int:
    """The passes of an answer: a row's draws, and the one without noise."""
    return sum(row.draws + row.lost_draws + 1 for row in answer.predictions)


def _count(answer: Answer, caller: Caller) -> None:
    if caller.name:
        metrics.CALLER_DRAWS.labels(metrics.caller_label(caller.name)).inc(_cost(answer))
    rows, name = answer.predictions, answer.model.name
    metrics.QUEUE_SECONDS.observe(answer.queue_s)
    if shortened := sum([row.granted_draws is not None for row in rows]):
        metrics.SHORTENED.inc(shortened)
    statuses = [row.certificate.status if row.certificate else "off" for row in rows]
    for status in set(statuses):
        metrics.of(metrics.CERTIFICATES, name, status).inc(statuses.count(status))
    decisions = ["in_distribution" if row.ood.in_distribution else "out_of_distribution" for row in rows if row.ood]
    for decision in set(decisions):
        metrics.of(metrics.OOD, name, decision).inc(decisions.count(decision))
