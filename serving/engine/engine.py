"""The loop: threads that share the runtimes of all models and run what the workload plans.

A worker takes a batch from the workload, submits its draws to the runtime and hands the results back; where the runtime asks
for more in flight, it submits the next before it waits for the results of the last.
Nothing of a request but votes, scores and counts outlives a batch. One lock guards the workload; noise and model run
outside of it, and no loop waits for it.

A device may fail: its batch is drawn again. Or it is lost for good: the engine refuses everything as unavailable, so that
another one answers, and is unhealthy. Or it may hang: nobody can know that, so nothing is drawn again, but a thread
that never touches a device keeps the deadlines, and answers come from what was counted. The engine is unhealthy then.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving import metrics
from serving.engine.clock import EngineClock, SystemClock
from serving.engine.following import Following
from serving.engine.in_flight import Unwritten
from serving.engine.job import Job
from serving.engine.line import RequestId
from serving.engine.lock import EngineLock
from serving.engine.pace import Pace
from serving.engine.scheduler import Scheduler
from serving.engine.served import Served
from serving.engine.shares import ShareJob
from serving.engine.waiting import LARGE, Waiting, beside
from serving.engine.workload import BaseBatch, NoisyBatch, Workload
from serving.errors import SEE_LOG, CertserveError, Internal
from serving.events import Event, Events
from serving.messages import Prediction, Reply, Share, Task
from serving.models.catalogue import Catalogue
from serving.priority import give_way
from serving.runtimes.runtime import DeviceLost, InFlight
from serving.security.signing import Signer

_log = logging.getLogger("certserve.engine")

_FEW = 32  # rows of a request that are admitted where it is asked for; more take long, and others would wait meanwhile
_A_MOMENT_S = 0.0005  # for whoever waits for the lock to wake up and take it
_HUNG_S = 60.0  # in one batch: by then it is of no use to anybody who waits

_Jobs = Sequence[Job | ShareJob]


@dataclass(frozen=True, slots=True)
class Load:
    """What an engine has to do: requests in flight, passes that they need still, batches on the device."""

    requests: int
    owed: int
    running: int


@dataclass(frozen=True, slots=True, eq=False)
class _Flight:
    """A noisy batch on the device, since `started`; without `results` where it could not be submitted."""

    batch: NoisyBatch
    results: InFlight | None
    started: float


@dataclass(slots=True, eq=False)
class _Worker:
    """A thread that draws, what it has in flight, the oldest first, and when its last batch ended."""

    base_only: bool = False
    flying: deque[_Flight] = field(default_factory=deque)
    ended: float = -math.inf


class Engine:
    """Answers tasks on one device. It starts at once; `close` refuses what is still in flight as unavailable.

    With a `signer` it gives receipts to those who ask. Its `catalogue` says what it serves, of what it was given.
    """

    def __init__(
        self,
        served: Sequence[Served],
        scheduler: Scheduler,
        threads: int,
        max_pending_draws: int,
        signer: Signer | None = None,
        clock: EngineClock | None = None,
    ) -> None:
        self._served = {each.bundle.digest: each for each in served}
        self.runtimes = {each.bundle.key: each.runtime.description for each in served}
        self.catalogue = Catalogue([each.proven(signer) for each in served])
        self._work = Workload(self.catalogue, scheduler, max_pending_draws)
        self._clock = clock or SystemClock()
        self._following = Following(self._so_far)
        # The lock guards all that is below; what is above never changes, but for the workload, which it guards as well.
        self._lock = EngineLock()
        self._waiting: dict[RequestId, Waiting] = {}
        self._wake, self._wake_base, self._wake_clock = (self._lock.condition() for _ in range(3))
        self._alarm = math.inf
        self._unwritten: list[tuple[Waiting, Unwritten]] = []
        self._closed = self._told = self._lost = False
        self._owed = -1  # as the metrics say
        self._pace = Pace(threads)
        self._at_work: dict[BaseBatch | NoisyBatch, float] = {}
        # One thread more, for base predictions alone: the system lets it in beside threads that give way.
        workers = [*(_Worker() for _ in range(threads)), _Worker(base_only=True)]
        turns = [*(partial(self._turn, worker) for worker in workers), self._keep_deadlines]
        self._threads = [
            threading.Thread(target=self._run, args=(turn, place < threads), name=f"engine-{place}", daemon=True)
            for place, turn in enumerate(turns)
        ]
        for thread in self._threads:
            thread.start()

    def predict(self, task: Task) -> Events[Reply[Prediction]]:
        """The answer to every row of a task, or the events that lead to it: see `serving.events`. Raises `CertserveError`;
        when cancelled, or closed, its work leaves the engine.
        """
        return Events(partial(self._answer, task), partial(self._events, task))

    async def _answer(self, task: Task) -> Reply[Prediction]:
        return await self._done(task, partial(self._work.prepare, task))

    async def _events(self, task: Task) -> AsyncGenerator[Event[Reply[Prediction]], None]:
        async with (
            self._admitted(task, partial(self._work.prepare, task)) as waiting,
            contextlib.aclosing(self._following.events(waiting, len(task.rows))) as events,
        ):
            async for event in events:
                yield event

    def _so_far(self, number: RequestId, count: int) -> Reply[Prediction] | None:
        """Composed row by row, so that nobody waits for the lock meanwhile."""
        rows: list[Prediction] = []
        for row in range(count):
            with self._lock:
                said = self._work.so_far(number, row)
            if said is None:
                return None
            rows.append(said)
            if self._lock.wanted:
                time.sleep(_A_MOMENT_S)
        with self._lock:
            return self._work.reply_so_far(number, rows, self._clock.now())

    async def count(self, task: Task, draws: range) -> Reply[Share]:
        """The share of every row of a task: what came of `draws`, whole slices, until its deadline. Else as `predict`."""
        return await self._done(task, partial(self._work.prepare, task, draws))

    async def _done(self, task: Task, prepare: Callable[[], _Jobs]) -> Reply[Any]:
        waiting = await self._admit(task, prepare, followed=False)
        try:
            return await waiting.future
        finally:
            self._dismiss(task, waiting)

    @contextlib.asynccontextmanager
    async def _admitted(self, task: Task, prepare: Callable[[], _Jobs]) -> AsyncIterator[Waiting]:
        """One request in flight that is followed, until its outcome or the end of the context."""
        waiting = await self._admit(task, prepare, followed=True)
        try:
            yield waiting
        finally:
            self._dismiss(task, waiting)

    async def _admit(self, task: Task, prepare: Callable[[], _Jobs], followed: bool) -> Waiting:
        until, waiting = self._clock.now() + task.timeout_s, Waiting.here()
        if len(task.rows) <= _FEW:
            self._lock.soon(partial(self._enter, waiting, prepare(), until, followed))
            if waiting.refused:
                raise waiting.refused
        else:
            await beside(partial(self._enter_large, waiting, prepare, until, followed), self._leave_large)
        return waiting

    def _dismiss(self, task: Task, waiting: Waiting) -> None:
        """Nobody waits for a request any more: where it has no outcome its work leaves."""
        if waiting.settled():
            return
        if len(task.rows) <= _FEW:
            self._lock.soon(partial(self._leave, waiting))
        else:
            waiting.loop.run_in_executor(LARGE, self._leave_large, waiting)

    def _enter_large(self, waiting: Waiting, prepare: Callable[[], _Jobs], until: float, followed: bool) -> Waiting:
        jobs = prepare()
        with self._lock:
            self._enter(waiting, jobs, until, followed)
        if waiting.refused:
            raise waiting.refused
        return waiting

    def _leave_large(self, waiting: Waiting) -> None:
        with self._lock:
            self._leave(waiting)

    def _enter(self, waiting: Waiting, jobs: _Jobs, until: float, followed: bool) -> None:
        """Let a request in, or refuse it. Under the lock, as all that has to do with the workload."""
        now = self._clock.now()
        try:
            number = self._work.admit(
                jobs, max(0.0, until - now), now, *self._pace.per_second(), followed, self._pace.composing_s
            )
        except CertserveError as error:
            waiting.refuse(error)
            return
        except Exception:
            _log.exception("a request could not be let in")
            waiting.refuse(Internal(f"the engine failed; {SEE_LOG}"))
            return
        waiting.number, self._waiting[number] = number, waiting
        self._wake_base.notify()
        if self._work.next_deadline() < self._alarm:
            self._wake_clock.notify()
        if self._work.waits():
            self._wake.notify_all()

    def _leave(self, waiting: Waiting) -> None:
        if waiting.number is not None:
            self._waiting.pop(waiting.number, None)
            self._work.cancel(waiting.number)

    def load(self) -> Load:
        """What it has to do now."""
        with self._lock:
            return Load(requests=len(self._work), owed=self._work.owed, running=len(self._at_work))

    def healthy(self) -> bool:
        """Whether every thread is alive, and none is long in one batch."""
        ended = not all(thread.is_alive() for thread in self._threads)
        # A copy, which no other thread changes, for a health check must not wait for the lock.
        hung = self._clock.now() - min(self._at_work.copy().values(), default=math.inf) > _HUNG_S
        if self._closed or not (hung or ended or self._lost):
            return not self._closed
        with self._lock:
            told, self._told = self._told, True
        if not told:
            _log.error("the engine has failed: %s", "a thread has ended" if ended else "a batch does not end")
        return False

    def close(self) -> None:
        """Stop the workers; what is in flight is refused as unavailable."""
        with self._lock:
            self._closed = True
            self._work.close()
            self._tell()
            self._wake.notify_all()
            self._wake_base.notify()
            self._wake_clock.notify()
        for thread in self._threads:
            thread.join(timeout=10)

    def _run(self, turn: Callable[[], bool], draws: bool) -> None:
        if draws:
            give_way()
        going = True
        while going:
            try:
                going = turn()
            except Exception:  # a defect of ours: nobody may wait for an answer that will not come
                _log.exception("a thread of the engine failed; what was in flight is refused")
                with self._lock:
                    self._work.abort(Internal(f"the engine failed; {SEE_LOG}"))
                    self._tell()

    def _turn(self, worker: _Worker) -> bool:
        """Begin what comes next, after a wait if need be, and settle what is over; false once the engine is closed."""
        batch, started = self._next(worker.base_only, wait=not worker.flying)
        if isinstance(batch, BaseBatch):
            self._run_base(batch, started)
        elif batch is not None:
            worker.flying.append(_Flight(batch, self._submitted(batch), started))
            if len(worker.flying) < self._served[batch.plan.model].runtime.ahead:
                return True
        if worker.flying:
            self._settle(worker, worker.flying.popleft())
            return True
        return batch is not None

    def _next(self, base_only: bool, wait: bool) -> tuple[BaseBatch | NoisyBatch | None, float]:
        """What to run next, and when it was taken; None once the engine is closed, or where there is nothing to wait for.
        Finished requests are settled first.
        """
        wake = self._wake_base if base_only else self._wake
        with self._lock:
            while not self._closed:
                now = self._clock.now()
                batch = self._work.next_batch(now, base_only, self._pace.together)
                self._tell()
                if batch is not None:
                    self._wake_next(base_only)
                    self._at_work[batch] = now
                    return batch, now
                if not wait:
                    break
                self._clock.wait(wake, math.inf)
            return None, 0.0

    def _wake_next(self, base_only: bool) -> None:
        """Where there is more than one thread can do, another may help: with predictions, too, if it has no draws."""
        if self._work.waits(base_only):
            self._wake.notify()

    def _over(self, batch: BaseBatch | NoisyBatch) -> float:
        """The time at which a batch ended. To be called under the lock."""
        del self._at_work[batch]
        return self._clock.now()

    def _keep_deadlines(self) -> bool:
        """End what is over its deadline, and have the answers of that composed, for which nobody waits under the lock."""
        with self._lock:
            self._work.expire(self._clock.now())
            self._tell()
            self._alarm = self._work.next_deadline()
            if not (self._closed or self._unwritten):
                self._clock.wait(self._wake_clock, self._alarm)
            unwritten, self._unwritten = self._unwritten, []
            going = not self._closed
        for waiting, each in unwritten:
            if len(each.rows) <= _FEW:
                self._write(waiting, each)
            else:  # beside this thread, for which others wait
                write = partial(self._write_large, waiting, each)
                threading.Thread(target=write, name="engine-writes", daemon=True).start()
        return going

    def _write_large(self, waiting: Waiting, unwritten: Unwritten) -> None:
        give_way()
        self._write(waiting, unwritten)

    def _write(self, waiting: Waiting, unwritten: Unwritten) -> None:
        began = self._clock.now()
        waiting.settle(unwritten.written())
        took = self._clock.now() - began
        with self._lock:
            self._pace.composed(len(unwritten.rows), took)

    def _tell(self) -> None:
        for number, outcome in self._work.take_unwritten():
            if (waiting := self._waiting.pop(number, None)) is None:
                continue
            if isinstance(outcome, Unwritten):
                self._unwritten.append((waiting, outcome))
                self._wake_clock.notify()
            else:
                waiting.settle(outcome)
        for number in self._work.take_news():
            if number in self._waiting:
                self._waiting[number].stir()
        if (owed := self._work.owed) != self._owed:
            self._owed = owed
            metrics.PENDING.set(owed)

    def _run_base(self, batch: BaseBatch, started: float) -> None:
        probabilities: NDArray[np.float32] | None = None
        try:
            probabilities = self._served[batch.plan.model].probabilities(batch.lattices)
        except DeviceLost as error:
            self._lose(error)
        except Exception:
            _log.exception("a batch of base predictions failed")
        with self._lock:
            now = self._over(batch)
            self._work.deliver_base(batch, probabilities, now)
            self._pace.predicted(len(batch.lattices), now - started)
        metrics.DEVICE_SECONDS.inc(now - started)

    def _submitted(self, batch: NoisyBatch) -> InFlight | None:
        """Its draws on the device, or None where that failed."""
        try:
            return self._served[batch.plan.model].runtime.submit(batch.draws)
        except DeviceLost as error:
            self._lose(error)
        except Exception:
            _log.exception("a batch of noisy passes could not be begun")
        return None

    def _lose(self, error: DeviceLost) -> None:
        """The device is gone, and what this engine has in hand is another's: draws are keyed, so that loses time alone."""
        with self._lock:
            if self._lost:
                return
            self._lost = self._told = True
            self._work.close("the device of this engine has failed; try again")
            self._tell()
        _log.error("the engine has failed: %s", error)

    def _settle(self, worker: _Worker, flight: _Flight) -> None:
        """Hand the results of a batch back, as soon as they are there."""
        batch, results = flight.batch, None
        drawn = sum(part.rows for part in batch.plan.slices)
        try:
            if flight.results is not None:
                results = self._served[batch.plan.model].passes(flight.results, drawn)
        except DeviceLost as error:
            self._lose(error)
        except Exception:
            _log.exception("a batch of noisy passes failed")
        with self._lock:
            now = self._over(batch)
            took = now - max(flight.started, worker.ended)  # before that the device had another batch of this worker
            self._work.deliver_noisy(batch, results, now)
            self._pace.drawn(drawn, took)
            if results is not None:
                self._pace.ran(batch.plan.model, batch.plan.batches, took)
        worker.ended = now
        metrics.DEVICE_SECONDS.inc(took)
        metrics.DRAWS.inc(drawn)
        metrics.BATCH_ROWS.inc(batch.plan.rows * batch.plan.batches)
