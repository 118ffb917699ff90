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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from serving.engine.deadlines import Deadlines
from serving.engine.in_flight import Outcome, RowUnderway, Underway, Unwritten, about
from serving.engine.job import Job, SliceResult
from serving.engine.line import JobId, RequestId, Slice
from serving.engine.proven import Proven
from serving.engine.room import make_room
from serving.engine.scheduler import BasePlan, Demand, NoisyPlan, Scheduler, Together, one_at_a_time
from serving.engine.shares import ShareJob
from serving.errors import SEE_LOG, CertserveError, DeadlinePassed, Internal, NotOffered, Unavailable
from serving.messages import Prediction, Reply, Task
from serving.models.catalogue import Catalogue
from serving.models.identity import refuse_others
from serving.runtimes.runtime import DrawRange

_log = logging.getLogger("certserve.engine")
_ATTEMPTS = 2
_BASE = -1
_NOTHING = "%s: %d draws from %d came to nothing"
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
        self._rows: dict[JobId, RowUnderway] = {}
        self._requests: dict[RequestId, Underway] = {}
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
        jobs = [Job(bundle, task, 0, notary)]
        jobs += (Job(bundle, task, row, notary, beside=jobs[0]) for row in range(1, len(task.rows)))
        return jobs

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
        rates = draws_per_second, predictions_per_second
        make_room(self._scheduler, jobs, timeout_s, *rates, self._max_pending)
        number = next(self._numbers)
        self._deadlines.add(number, now + timeout_s - min(len(jobs) * composing_s, timeout_s / 4))
        identities = [next(self._numbers) for _ in jobs]
        self._requests[number] = _underway(jobs, identities, now, followed)
        for place, (each, job) in enumerate(zip(identities, jobs, strict=True)):
            self._rows[each] = RowUnderway(job, number, place)
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

    def cancel(self, number: RequestId) -> None:
        """Whoever asked has gone: its work leaves, and it gets no outcome."""
        request = self._requests.pop(number, None)
        self._deadlines.remove(number)
        if request:
            self._scheduler.remove_all(request.jobs)
            for identity in request.jobs:
                del self._rows[identity]

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
        done, left = request.answers[row], self._rows.get(request.first + row)
        if left is None:
            assert isinstance(done, Prediction)
            return done
        assert isinstance(left.job, Job)
        return left.job.answer(receipt=False) if left.job.has_base else None

    def reply_so_far(self, number: RequestId, rows: Sequence[Prediction], now: float) -> Reply[Prediction] | None:
        """What was said of every row as a reply; None where the request has ended."""
        request = self._requests.get(number)
        return request.reply(now, self._begun[request.digest], rows) if request else None

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
        rows = [self._rows[job] for job in _jobs(plan)]
        for row in rows:
            request = self._requests[row.request]
            request.started = now if request.started is None else request.started
        if isinstance(plan, BasePlan):
            return BaseBatch(plan, tuple(row.job.lattice for row in rows))
        return NoisyBatch(plan, tuple(_draws(part, row) for part, row in zip(plan.slices, rows, strict=True)))

    def expire(self, now: float) -> None:
        """End what is over its deadline: with the best that is proven, or an error where there is no base prediction."""
        for number in self._deadlines.due(now):
            request = self._requests[number]
            rows = [self._rows[job] for job in request.jobs]
            if all(row.job.has_base for row in rows):
                self.cancel(number)
                self._outcomes.append((number, Unwritten(request, rows, now, self._begun[request.digest])))
            else:
                self._fail(number, DeadlinePassed("the deadline passed before the base prediction; allow more time"))

    def deliver_base(self, batch: BaseBatch, probabilities: NDArray[np.float32] | None, now: float) -> None:
        """Probabilities (rows, C) of a base batch, or None if it came to nothing."""
        for place, identity in enumerate(batch.plan.jobs):
            if (row := self._rows.get(identity)) is None:
                continue
            if probabilities is not None and np.isfinite(probabilities[place]).all():
                try:
                    row.job.receive_base(probabilities[place].copy())
                    self._look(identity, now)
                except Exception:
                    self._broke(row)
            elif row.failed(_BASE) < _ATTEMPTS:
                self._scheduler.base_again(identity, batch.plan.model, row.request, row.job.party)
            else:
                came = "failed twice" if probabilities is None else "gave no finite answer"
                self._fail(row.request, Internal(f"row {row.place}: the base network {came}; {SEE_LOG}"))

    def deliver_noisy(
        self, batch: NoisyBatch, results: tuple[NDArray[np.int64], NDArray[np.float32]] | None, now: float
    ) -> None:
        """Votes and scores (rows,) of a noisy batch, or None if it came to nothing.

        A slice that came to nothing, or holds a vote for no class that there is, is drawn again under the same indices,
        once; then it counts against every claim of its row, and of no other. A score that is not a number is the largest
        there is.
        """
        last = self._begun[batch.plan.model].manifest.last_vote
        wrong: NDArray[np.bool_] | None = None
        if results is not None:
            votes, scores = results
            results = votes, np.where(np.isnan(scores), np.float32(np.inf), scores)
            wrong = (votes < 0) | (votes > last) if votes.min() < 0 or votes.max() > last else None
        place, counted = 0, dict[JobId, None]()
        for part in batch.plan.slices:
            places = slice(place, place + part.rows)
            place += part.rows
            if (row := self._rows.get(part.job)) is None:
                continue
            lost = results is None or (wrong is not None and bool(wrong[places].any()))
            if lost and row.failed(part.start) < _ATTEMPTS:
                self._scheduler.again(part)
                continue
            if lost:
                _log.warning(_NOTHING, row, part.rows, part.start, extra=about(row.job))
            self._scheduler.settle(part)
            found = (None, None) if results is None or lost else (results[0][places], results[1][places])
            try:
                row.job.receive(part.start, SliceResult(part.rows, *found))
                counted[part.job] = None
            except Exception:
                self._broke(row)
        for identity in counted:
            if (row := self._rows.get(identity)) is None:  # a job that fails takes the others of its request with it
                continue
            try:
                self._look(identity, now)
            except Exception:
                self._broke(row)

    def _look(self, identity: JobId, now: float) -> None:
        row = self._rows[identity]
        job = row.job
        if self._requests[row.request].followed:
            self._news.add(row.request)
        if job.done:
            self._finish(identity, now)
        elif job.drawing:
            self._scheduler.update(identity, *job.forecast())
        else:
            self._scheduler.remove_draws(identity)

    def _finish(self, identity: JobId, now: float) -> None:
        row = self._rows[identity]
        try:
            answer = row.job.answer()
        except Exception:
            self._broke(row)
            return
        request = self._requests[row.request]
        request.answers[row.place] = answer
        request.jobs.discard(identity)
        self._scheduler.remove(identity)
        del self._rows[identity]
        if not request.jobs:
            del self._requests[row.request]
            self._deadlines.remove(row.request)
            self._outcomes.append((row.request, request.reply(now, self._begun[request.digest])))

    def _broke(self, row: RowUnderway) -> None:
        """A defect of ours that shows in one row: its request fails, and no other."""
        self._fail(row.request, row.defect())

    def _fail(self, number: RequestId, error: CertserveError) -> None:
        if number in self._requests:
            self._requests[number].log(error)
            self.cancel(number)
            self._outcomes.append((number, error))


def _underway(jobs: Sequence[Job | ShareJob], identities: Sequence[JobId], now: float, followed: bool) -> Underway:
    first = jobs[0]
    return Underway(
        arrived=now,
        answers=[None] * len(jobs),
        first=identities[0],
        digest=first.bundle.digest,
        id=first.request_id,
        trace_id=first.trace_id,
        followed=followed,
        jobs=set(identities),
    )


def _jobs(plan: BasePlan | NoisyPlan) -> list[JobId]:
    return list(plan.jobs) if isinstance(plan, BasePlan) else [part.job for part in plan.slices]


def _draws(part: Slice, row: RowUnderway) -> DrawRange:
    key, start = row.job.source(part.start)
    return DrawRange(row.job.law, key, start, start + part.rows)
