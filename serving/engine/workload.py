"""Everything in flight on one device, and what the device does next. No thread, clock, tensor library or I/O.

Time is an argument, results are handed in, and outcomes are taken out: so schedules with failures, cancellations and
slow devices can be simulated by the thousand. `serving.engine.engine` drives it with threads and a real device.

A request is answered exactly once: with a `Reply`, or with the error that ended it.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from serving import log
from serving.engine.deadlines import Deadlines
from serving.engine.fair import Party
from serving.engine.job import Job, SliceResult
from serving.engine.line import JobId, RequestId, Slice
from serving.engine.proven import Proven
from serving.engine.scheduler import BasePlan, Demand, NoisyPlan, Scheduler, Together, one_at_a_time
from serving.engine.shares import ShareJob
from serving.errors import (
    SEE_LOG,
    CertserveError,
    DeadlinePassed,
    Internal,
    NotOffered,
    Overloaded,
    Unavailable,
)
from serving.messages import Prediction, Reply, Share, Task
from serving.models.catalogue import Catalogue
from serving.models.identity import refuse_others
from serving.runtimes.runtime import DrawRange

Outcome = Reply[Any] | CertserveError
_log = logging.getLogger("certserve.engine")
_ATTEMPTS = 2
_BASE = -1
_STOPPING = "the server is stopping; try again elsewhere"


@dataclass(frozen=True, slots=True, eq=False)
class BaseBatch:
    """Inputs without noise, in row order."""

    plan: BasePlan
    lattices: tuple[NDArray[np.int32], ...]


@dataclass(frozen=True, slots=True, eq=False)
class NoisyBatch:
    """Slices in row order: the job's own in `plan`; as draws of a law at an input, in `draws`."""

    plan: NoisyPlan
    draws: tuple[DrawRange, ...]


@dataclass(slots=True, eq=False)
class _Request:
    arrived: float
    answers: list[Prediction | Share | None]
    first: JobId
    """The job of its first row; the others follow."""
    digest: str
    id: str = ""
    followed: bool = False
    started: float | None = None
    jobs: set[JobId] = field(default_factory=set)
    trace_id: str = ""


@dataclass(slots=True, eq=False)
class _Live:
    job: Job | ShareJob
    request: RequestId
    row: int
    failures: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Unwritten:
    """The outcome of a request whose remaining rows have ended as they were, still to be composed; nothing in flight is
    touched by that.
    """

    request: _Request
    lives: Sequence[_Live]
    now: float
    by: Proven

    def written(self) -> Outcome:
        """Compose it."""
        for live in self.lives:
            try:
                self.request.answers[live.row] = live.job.answer()
            except Exception:
                error = _defect(live)
                extra = log.about(self.request.id, self.request.trace_id)
                _log.error("request %s is refused: %s", self.request.id, error.message, extra=extra)
                return error
        return _reply(self.request, self.now, self.by)


class Workload:
    """The requests in flight on one device that serves what the `catalogue` says.

    A request goes on with the bundle that it began with, whatever the catalogue says meanwhile.
    """

    def __init__(
        self,
        catalogue: Catalogue[Proven],
        scheduler: Scheduler,
        max_pending_draws: int,
    ) -> None:
        self._scheduler = scheduler
        self._catalogue = catalogue
        self._begun: dict[str, Proven] = {}
        self._max_pending = max_pending_draws
        self._numbers = itertools.count()
        self._live: dict[JobId, _Live] = {}
        self._requests: dict[RequestId, _Request] = {}
        self._deadlines = Deadlines()
        self._outcomes: list[tuple[RequestId, Outcome | Unwritten]] = []
        self._news: set[RequestId] = set()
        self._closed = ""  # why nothing more is taken

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def owed(self) -> int:
        """Passes that everything in flight is expected to need still, base predictions among them."""
        return self._scheduler.owed

    def waits(self, base_only: bool = False) -> bool:
        """Whether there is something to run next, for a worker that runs base predictions only or for one that draws."""
        return self._scheduler.base_waits if base_only else self._scheduler.draws_wait

    def prepare(self, task: Task, draws: range | None = None) -> Sequence[Job | ShareJob]:
        """The jobs of a task, one a row: of its answer, or of these draws alone. Raises `NotFound` or `NotOffered`, and
        `Unavailable` where the task is for another bundle or runtime than serves here.

        It touches nothing that is in flight.
        """
        snapshot = self._catalogue.now
        proven = snapshot.kept(snapshot.model(task.model, task.version).digest)
        assert proven is not None
        refuse_others(task, task.runtime, proven.digest, proven.runtime)
        bundle = proven.bundle
        if draws is not None:
            return [ShareJob(bundle, task, row, draws) for row in range(len(task.rows))]
        notary = proven.notary if task.receipt else None
        if task.receipt and notary is None:
            raise NotOffered(
                "receipt: this server has no signing key, so it gives no receipts; leave it out, or have the operator set"
                " signing_key_file"
            )
        return [Job(bundle, task, row, notary) for row in range(len(task.rows))]

    def admit(
        self,
        jobs: Sequence[Job | ShareJob],
        timeout_s: float,
        now: float,
        draws_per_second: float,
        predictions_per_second: float = math.inf,
        followed: bool = False,
        composing_s: float = 0.0,
    ) -> RequestId:
        """Take a request in: the jobs of one task, as prepared. Raises `Overloaded` with a retry hint, or `Unavailable` when
        closed.

        `draws_per_second` and `predictions_per_second`, without noise, are what the device makes; infinite while that is not
        known. Of a request that is `followed`, `take_news` tells when there is more to say. What it takes to compose the
        answer of a row, `composing_s`, is taken from its time, a quarter of it at most.
        """
        if self._closed:
            raise Unavailable(self._closed, retry_after_s=1)
        self._begin(jobs[0].bundle)
        rows = sum(not job.has_base for job in jobs)
        self._wait_for_base(rows, jobs[0].party, timeout_s, predictions_per_second)
        self._make_room(jobs, timeout_s, draws_per_second)
        number = next(self._numbers)
        self._deadlines.add(number, now + timeout_s - min(len(jobs) * composing_s, timeout_s / 4))
        identities = [next(self._numbers) for _ in jobs]
        first = jobs[0]
        request = self._requests[number] = _Request(
            now,
            [None] * len(jobs),
            identities[0],
            first.bundle.digest,
            first.request_id,
            followed,
            trace_id=first.trace_id,
        )
        self._live.update((each, _Live(jobs[row], number, row)) for row, each in enumerate(identities))
        request.jobs.update(identities)
        self._schedule(identities, number, jobs[0])
        return number

    def _begin(self, bundle: Bundle) -> None:
        """Keep what serves a bundle, for requests that go on after it has left the catalogue."""
        proven = self._catalogue.now.kept(bundle.digest)
        if proven is None:
            raise Unavailable(f"{bundle.key} has just been taken out of service; try again", retry_after_s=1)
        self._begun[proven.digest] = proven

    def _schedule(self, identities: Sequence[JobId], number: RequestId, job: Job | ShareJob) -> None:
        """The rows of a task ask for the same, so one of them speaks for all."""
        expected, wanted = job.forecast()
        demand = Demand(
            model=job.bundle.digest,
            batch_rows=job.bundle.manifest.batch_rows,
            max_draws=job.max_draws,
            expected=expected,
            least=job.least_draws,
            wanted=wanted,
            first=job.first,
            base=not job.has_base,
            request=number,
            party=job.party,
        )
        self._scheduler.add_all(identities, demand)

    def _wait_for_base(self, rows: int, party: Party, timeout_s: float, predictions_per_second: float) -> None:
        """Refuse a request of so many rows whose base predictions would not be there in its time: without them there is no
        answer at all. A lone one never is refused.
        """
        before = self._scheduler.base_before(rows, party.name)
        if before and before + rows > predictions_per_second * timeout_s:
            late = (before + rows) / predictions_per_second - timeout_s
            raise Overloaded(
                f"{before} predictions come before the {rows} of this request: over what can be made in its time; try again"
                " later, allow more time or send fewer rows",
                retry_after_s=min(60.0, max(1.0, late)),
            )

    def _make_room(self, jobs: Sequence[Job | ShareJob], timeout_s: float, draws_per_second: float) -> None:
        """Under pressure budgets shrink first: a request gets no more than half of what can be drawn in its time beside what
        others are sure to get before it, so that they fall smoothly. It is refused where that does not leave its own least;
        a lone one never is.
        """
        least = sum(job.least_draws for job in jobs)
        before = self._scheduler.owed_before(least, max(job.forecast()[0] for job in jobs), jobs[0].party)
        if not before:
            return
        can = min(float(self._max_pending), draws_per_second * timeout_s)
        if before + least > can:
            raise Overloaded(
                f"{before} draws come before the {least} that this request needs at least: over what can be drawn in its"
                " time; try again later, allow more time or send fewer rows",
                retry_after_s=min(60.0, max(1.0, (before + least - can) / max(draws_per_second, 1.0))),
            )
        for job in jobs:
            job.shorten(int(can - before) // (2 * len(jobs)))

    def cancel(self, number: RequestId) -> None:
        """Whoever asked has gone: its work leaves, and it gets no outcome."""
        request = self._requests.pop(number, None)
        self._deadlines.remove(number)
        if request:
            self._scheduler.remove_all(request.jobs)
            for identity in request.jobs:
                del self._live[identity]

    def close(self, because: str = _STOPPING) -> None:
        """Refuse what is in flight, and everything from now on, as unavailable."""
        self._closed = because
        self.abort(Unavailable(because, retry_after_s=1))

    def abort(self, error: CertserveError) -> None:
        """End every request in flight with this error."""
        for number in list(self._requests):
            self._fail(number, error)

    def take_outcomes(self) -> list[tuple[RequestId, Outcome]]:
        """The outcomes since the last call."""
        taken = self.take_unwritten()
        return [(number, each.written() if isinstance(each, Unwritten) else each) for number, each in taken]

    def take_unwritten(self) -> list[tuple[RequestId, Outcome | Unwritten]]:
        """The same, where those of requests that a deadline has ended are still to be composed: that takes time, for which
        nobody else has to wait.
        """
        taken, self._outcomes = self._outcomes, []
        return taken

    def take_news(self) -> set[RequestId]:
        """The followed requests of which something was counted, or predicted, since the last call."""
        taken, self._news = self._news, set()
        return taken

    def so_far(self, number: RequestId, row: int) -> Prediction | None:
        """What is proven of a row, without a receipt; None where its base prediction is due, or its request has ended."""
        if (request := self._requests.get(number)) is None:
            return None
        done, live = request.answers[row], self._live.get(request.first + row)
        if live is None:
            assert isinstance(done, Prediction)
            return done
        assert isinstance(live.job, Job)
        return live.job.answer(receipt=False) if live.job.has_base else None

    def reply_so_far(self, number: RequestId, rows: Sequence[Prediction], now: float) -> Reply[Prediction] | None:
        """What was said of every row as a reply; None where the request has ended."""
        request = self._requests.get(number)
        return _reply(request, now, self._begun[request.digest], rows) if request else None

    def next_deadline(self) -> float:
        """When `expire` has to be called; infinite where nothing is in flight."""
        return self._deadlines.next()

    def next_batch(
        self, now: float, base_only: bool = False, together: Together = one_at_a_time
    ) -> BaseBatch | NoisyBatch | None:
        """What to run next; what has expired leaves first.

        A worker that runs base predictions only keeps them from waiting for a noisy batch to end; the others take them
        where no draws wait. `together` says how many noisy ones go at once.
        """
        self.expire(now)
        plan: BasePlan | NoisyPlan | None = None if base_only else self._scheduler.plan_noisy(together)
        plan = plan or self._scheduler.plan_base()
        if plan is None:
            return None
        lives = [self._live[job] for job in _jobs(plan)]
        for live in lives:
            request = self._requests[live.request]
            request.started = now if request.started is None else request.started
        if isinstance(plan, BasePlan):
            return BaseBatch(plan, tuple(live.job.lattice for live in lives))
        return NoisyBatch(plan, tuple(_draws(part, live) for part, live in zip(plan.slices, lives, strict=True)))

    def expire(self, now: float) -> None:
        """End what is over its deadline: with the best that is proven, or an error where there is no base prediction."""
        for number in self._deadlines.due(now):
            request = self._requests[number]
            lives = [self._live[job] for job in request.jobs]
            if all(live.job.has_base for live in lives):
                self.cancel(number)
                self._outcomes.append((number, Unwritten(request, lives, now, self._begun[request.digest])))
            else:
                self._fail(number, DeadlinePassed("the deadline passed before the base prediction; allow more time"))

    def deliver_base(self, batch: BaseBatch, probabilities: NDArray[np.float32] | None, now: float) -> None:
        """Probabilities (rows, C) of a base batch, or None if it came to nothing."""
        for row, identity in enumerate(batch.plan.jobs):
            if (live := self._live.get(identity)) is None:
                continue
            if probabilities is not None and np.isfinite(probabilities[row]).all():
                try:
                    live.job.receive_base(probabilities[row].copy())
                    self._look(identity, now)
                except Exception:
                    self._broke(live)
            elif _failed(live, _BASE) < _ATTEMPTS:
                self._scheduler.base_again(identity, batch.plan.model, live.request, live.job.party)
            else:
                came = "failed twice" if probabilities is None else "gave no finite answer"
                self._fail(live.request, Internal(f"row {live.row}: the base network {came}; {SEE_LOG}"))

    def deliver_noisy(
        self, batch: NoisyBatch, results: tuple[NDArray[np.int64], NDArray[np.float32]] | None, now: float
    ) -> None:
        """Votes and scores (rows,) of a noisy batch, or None if it came to nothing.

        A slice that came to nothing, or holds a vote for no class that there is, is drawn again under the same indices,
        once; then it counts against every claim of its row, and of no other. A score that is not a number is the largest
        there is.
        """
        none = len(self._begun[batch.plan.model].manifest.labels)
        wrong: NDArray[np.bool_] | None = None
        if results is not None:
            votes, scores = results
            results = votes, np.where(np.isnan(scores), np.float32(np.inf), scores)
            wrong = (votes < 0) | (votes > none) if votes.min() < 0 or votes.max() > none else None
        place, counted = 0, dict[JobId, None]()
        for part in batch.plan.slices:
            rows = slice(place, place + part.rows)
            place += part.rows
            if (live := self._live.get(part.job)) is None:
                continue
            lost = results is None or (wrong is not None and bool(wrong[rows].any()))
            if lost and _failed(live, part.start) < _ATTEMPTS:
                self._scheduler.again(part)
                continue
            if lost:
                nothing = "%s: %d draws from %d came to nothing"
                _log.warning(nothing, _name(live), part.rows, part.start, extra=_about(live.job))
            self._scheduler.settle(part)
            found = (None, None) if results is None or lost else (results[0][rows], results[1][rows])
            try:
                live.job.receive(part.start, SliceResult(part.rows, *found))
                counted[part.job] = None
            except Exception:
                self._broke(live)
        for identity in counted:
            if (live := self._live.get(identity)) is None:  # a job that fails takes the others of its request with it
                continue
            try:
                self._look(identity, now)
            except Exception:
                self._broke(live)

    def _look(self, identity: JobId, now: float) -> None:
        live = self._live[identity]
        job = live.job
        if self._requests[live.request].followed:
            self._news.add(live.request)
        if job.done:
            self._finish(identity, now)
        elif job.drawing:
            self._scheduler.update(identity, *job.forecast())
        else:
            self._scheduler.remove_draws(identity)

    def _finish(self, identity: JobId, now: float) -> None:
        live = self._live[identity]
        try:
            answer = live.job.answer()
        except Exception:
            self._broke(live)
            return
        request = self._requests[live.request]
        request.answers[live.row] = answer
        request.jobs.discard(identity)
        self._scheduler.remove(identity)
        del self._live[identity]
        if not request.jobs:
            del self._requests[live.request]
            self._deadlines.remove(live.request)
            self._outcomes.append((live.request, _reply(request, now, self._begun[request.digest])))

    def _broke(self, live: _Live) -> None:
        """A defect of ours that shows in one row: its request fails, and no other."""
        self._fail(live.request, _defect(live))

    def _fail(self, number: RequestId, error: CertserveError) -> None:
        if number in self._requests:
            if SEE_LOG in error.message:
                request = self._requests[number]
                extra = log.about(request.id, request.trace_id)
                _log.error("request %s is refused: %s", request.id, error.message, extra=extra)
            self.cancel(number)
            self._outcomes.append((number, error))


def _defect(live: _Live) -> Internal:
    """To be called where the answer of a row could not be composed."""
    _log.exception("%s: an answer could not be composed", _name(live), extra=_about(live.job))
    return Internal(f"row {live.row}: an answer could not be composed; {SEE_LOG}")


def _jobs(plan: BasePlan | NoisyPlan) -> list[JobId]:
    return list(plan.jobs) if isinstance(plan, BasePlan) else [part.job for part in plan.slices]


def _draws(part: Slice, live: _Live) -> DrawRange:
    key, start = live.job.source(part.start)
    return DrawRange(live.job.law, key, start, start + part.rows)


def _name(live: _Live) -> str:
    """A row as the log speaks of it."""
    return f"request {live.job.request_id}, row {live.row}"


def _about(job: Job | ShareJob) -> dict[str, str]:
    return log.about(job.request_id, job.trace_id)


def _failed(live: _Live, what: int) -> int:
    live.failures[what] = live.failures.get(what, 0) + 1
    return live.failures[what]


def _reply(request: _Request, now: float, by: Proven, rows: Sequence[Any] = ()) -> Reply[Any]:
    started = now if request.started is None else request.started
    whole: tuple[Any, ...] = tuple(rows or (answer for answer in request.answers if answer is not None))
    queued, ran = started - request.arrived, now - started
    return Reply(rows=whole, queue_s=queued, compute_s=ran, digest=by.digest, runtime=by.runtime)
