"""The loop: scheduler, noise, runtime, procedure. Threads of one process that share the runtimes of all models.

A worker asks the scheduler for a batch, draws the noise of its slices, runs the graph and hands each slice to its job.
Nothing of a request but votes, scores and counts outlives a batch. Finished, cancelled and expired work leaves before
the next batch is formed. A deadline that comes after the base prediction gives the best proven answer.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from serving import metrics
from serving.errors import CertserveError, DeadlinePassed, Internal, NotFound, Overloaded, Unavailable
from serving.job import Job, SliceResult
from serving.messages import Prediction, Reply, Task
from serving.runtimes.protocol import Runtime
from serving.scheduler import BasePlan, JobId, NoisyPlan, Scheduler, Slice

_log = logging.getLogger("certserve.engine")
_ATTEMPTS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A bundle and what runs it, proven."""

    bundle: Bundle
    runtime: Runtime

    @property
    def key(self) -> str:
        """The model's place in the repository."""
        return f"{self.bundle.manifest.name}/{self.bundle.manifest.version}"


@dataclass(slots=True, eq=False)
class _Request:
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Reply]
    deadline: float
    arrived: float
    answers: list[Prediction | None]
    started: float | None = None
    jobs: set[JobId] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Live:
    job: Job
    request: _Request
    row: int
    failures: dict[int, int] = field(default_factory=dict)


class Engine:
    """Answers tasks on one device. Start it once; `close` refuses what is still in flight as unavailable."""

    def __init__(self, served: Sequence[Served], scheduler: Scheduler, threads: int, max_pending_draws: int) -> None:
        self._served = {each.key: each for each in served}
        self._scheduler = scheduler
        self._max_pending = max_pending_draws
        self._ids = itertools.count()
        self._live: dict[JobId, _Live] = {}
        self._requests: set[_Request] = set()
        self._wake = threading.Condition()
        self._closed = False
        self._drawn, self._busy = 0, 0.0
        self._threads = [threading.Thread(target=self._work, name=f"engine-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    async def predict(self, task: Task) -> Reply:
        """The answer to every row of a task. Raises `CertserveError`; when cancelled, its work leaves the engine."""
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        request = _Request(loop, loop.create_future(), now + task.timeout_s, now, [None] * len(task.rows))
        self._admit(task, request)
        try:
            return await request.future
        finally:
            self._forget(request)

    def _admit(self, task: Task, request: _Request) -> None:
        served = self._served.get(f"{task.model}/{task.version}")
        if served is None:
            raise NotFound(f"Request for unknown model: '{task.model}' version '{task.version}' is not found")
        jobs = [Job(served.bundle, task, row) for row in range(len(task.rows))]
        owed = sum(job.expected_remaining() for job in jobs)
        with self._wake:
            if self._closed:
                raise Unavailable("the server is stopping; try again elsewhere", retry_after_s=1)
            pending = self._scheduler.owed
            if pending and pending + owed > self._max_pending:
                raise Overloaded(
                    f"{pending} draws are owed already, and this request would add {owed}, over the limit of"
                    f" {self._max_pending}; try again later or ask for fewer draws",
                    retry_after_s=self._seconds_for(pending),
                )
            self._requests.add(request)
            for row, job in enumerate(jobs):
                self._enter(served.key, _Live(job, request, row))
            self._wake.notify(len(self._threads))

    def _seconds_for(self, draws: int) -> float:
        """How long the device takes for so many draws, from its speed so far; at least a second."""
        speed = self._drawn / self._busy * len(self._threads) if self._busy else 1000.0
        return min(60.0, max(1.0, draws / max(speed, 1.0)))

    def _enter(self, model: str, live: _Live) -> None:
        number = next(self._ids)
        self._live[number] = live
        live.request.jobs.add(number)
        self._scheduler.add(number, model, live.job.max_draws, live.job.expected_remaining())
        metrics.PENDING.set(self._scheduler.owed)

    def _forget(self, request: _Request) -> None:
        with self._wake:
            self._drop(request)

    def _drop(self, request: _Request) -> None:
        for number in request.jobs:
            self._scheduler.remove(number)
            self._live.pop(number, None)
        request.jobs.clear()
        self._requests.discard(request)
        metrics.PENDING.set(self._scheduler.owed)

    def check(self) -> None:
        """Raise `RuntimeError` if a worker has died."""
        if not self._closed and not all(thread.is_alive() for thread in self._threads):
            raise RuntimeError("a worker of the engine has died; the replica has to be replaced")

    def close(self) -> None:
        """Stop the workers; what is in flight is refused as unavailable."""
        with self._wake:
            self._closed = True
            for request in list(self._requests):
                self._fail(request, Unavailable("the server is stopping; try again elsewhere", retry_after_s=1))
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    def _work(self) -> None:
        while (plan := self._next_plan()) is not None:
            started = time.monotonic()
            if isinstance(plan, BasePlan):
                self._run_base(plan)
            else:
                self._run_noisy(plan)
            spent = time.monotonic() - started
            self._busy += spent
            metrics.DEVICE_SECONDS.inc(spent)

    def _next_plan(self) -> BasePlan | NoisyPlan | None:
        with self._wake:
            while not self._closed:
                self._expire()
                plan = self._scheduler.plan()
                if plan is not None:
                    self._mark_started(plan)
                    return plan
                self._wake.wait(timeout=self._until_next_deadline())
            return None

    def _until_next_deadline(self) -> float | None:
        deadlines = [request.deadline for request in self._requests]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _mark_started(self, plan: BasePlan | NoisyPlan) -> None:
        now = time.monotonic()
        for number in plan.jobs if isinstance(plan, BasePlan) else {part.job for part in plan.slices}:
            request = self._live[number].request
            request.started = request.started or now

    def _expire(self) -> None:
        now = time.monotonic()
        for request in [each for each in self._requests if each.deadline <= now]:
            lives = [self._live[number] for number in request.jobs]
            if all(live.job.has_base for live in lives):
                for number in list(request.jobs):
                    self._finish(number)
            else:
                self._fail(request, DeadlinePassed("the deadline passed before the base prediction; allow more time"))

    def _run_base(self, plan: BasePlan) -> None:
        served = self._served[plan.model]
        lattice = np.zeros((self._scheduler.base_rows, *served.bundle.manifest.input.shape), dtype=np.int32)
        with self._wake:
            lives = {number: self._live[number] for number in plan.jobs if number in self._live}
        for place, number in enumerate(plan.jobs):
            if number in lives:
                lattice[place] = lives[number].job.lattice
        try:
            probabilities: NDArray[np.float32] | None = served.runtime.base(lattice)
        except Exception:
            _log.exception("a batch of base predictions failed")
            probabilities = None
        with self._wake:
            for place, number in enumerate(plan.jobs):
                self._deliver_base(number, plan.model, None if probabilities is None else probabilities[place])

    def _deliver_base(self, number: JobId, model: str, probabilities: NDArray[np.float32] | None) -> None:
        live = self._live.get(number)
        if live is None:
            return
        if probabilities is not None and np.isfinite(probabilities).all():
            live.job.receive_base(probabilities)
            if live.job.done:
                self._finish(number)
        elif self._failed(live, -1) < _ATTEMPTS:
            self._scheduler.base_again(number, model)
        else:
            self._fail(live.request, Internal("the base network gave no finite answer; the operator's log says more"))

    def _run_noisy(self, plan: NoisyPlan) -> None:
        served = self._served[plan.model]
        with self._wake:
            lives = {part.job: self._live[part.job] for part in plan.slices if part.job in self._live}
        results: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None
        try:
            results = served.runtime.noisy(self._noisy_batch(served.bundle, plan, lives))
        except Exception:
            _log.exception("a batch of noisy passes failed")
        with self._wake:
            place = 0
            for part in plan.slices:
                rows = slice(place, place + part.rows)
                place += part.rows
                found = (results[0][rows], results[1][rows]) if results else (None, None)
                self._deliver(part, SliceResult(part.rows, *found))
            metrics.PENDING.set(self._scheduler.owed)
            self._drawn += place
        metrics.DRAWS.inc(place)
        metrics.BATCH_ROWS.inc(self._scheduler.batch_rows)

    def _noisy_batch(self, bundle: Bundle, plan: NoisyPlan, lives: dict[JobId, _Live]) -> NDArray[np.int32]:
        """`X + Z` of every slice in a batch of fixed shape; rows of jobs that have left, and rows over, stay zero."""
        spec = bundle.manifest.input
        batch = np.zeros((self._scheduler.batch_rows, spec.size), dtype=np.int32)
        place = 0
        for part in plan.slices:
            if part.job in lives:
                job = lives[part.job].job
                noise = bundle.noise.sample(job.key, part.start, part.start + part.rows, spec.size)
                np.add(noise, job.lattice.reshape(1, -1), out=batch[place : place + part.rows])
            place += part.rows
        return batch.reshape(-1, *spec.shape)

    def _deliver(self, part: Slice, result: SliceResult) -> None:
        live = self._live.get(part.job)
        if live is None:
            return
        if result.votes is None and self._failed(live, part.start) < _ATTEMPTS:
            self._scheduler.again(part)
            return
        self._scheduler.settle(part)
        live.job.receive(part.start, result)
        self._scheduler.update(part.job, live.job.expected_remaining())
        if live.job.done:
            self._finish(part.job)
        elif not live.job.drawing:
            self._scheduler.remove_draws(part.job)

    def _failed(self, live: _Live, what: int) -> int:
        live.failures[what] = live.failures.get(what, 0) + 1
        return live.failures[what]

    def _finish(self, number: JobId) -> None:
        live = self._live.pop(number)
        request = live.request
        self._scheduler.remove(number)
        request.jobs.discard(number)
        try:
            request.answers[live.row] = live.job.prediction()
        except Exception:
            _log.exception("an answer could not be composed")
            self._fail(request, Internal("an answer could not be composed; the operator's log says more"))
            return
        if not request.jobs:
            self._requests.discard(request)
            _tell(request, self._reply(request))

    def _reply(self, request: _Request) -> Reply:
        now = time.monotonic()
        started = request.started or now
        answers = tuple(answer for answer in request.answers if answer is not None)
        return Reply(predictions=answers, queue_s=started - request.arrived, compute_s=now - started)

    def _fail(self, request: _Request, error: CertserveError) -> None:
        self._drop(request)
        _tell(request, error)


def _tell(request: _Request, outcome: Reply | CertserveError) -> None:
    def settle() -> None:
        if request.future.done():
            return
        if isinstance(outcome, CertserveError):
            request.future.set_exception(outcome)
        else:
            request.future.set_result(outcome)

    try:
        request.loop.call_soon_threadsafe(settle)
    except RuntimeError:
        _log.debug("the loop of a request is closed; its answer is dropped")
