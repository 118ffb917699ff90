"""The loop: threads that share the runtimes of all models and run what the workload plans.

A worker takes a batch from the workload, submits its draws to the runtime and hands the results back; where the runtime asks
for more in flight, it submits the next before it waits for the results of the last.
Nothing of a request but votes, scores and counts outlives a batch. One lock guards the workload; noise and model run
outside of it.

A device may fail: its batch is drawn again. Or it is lost for good: the engine refuses everything as unavailable, so that
another one answers, and is unhealthy. Or it may hang: nobody can know that, so nothing is drawn again, but a thread
that never touches a device keeps the deadlines, and answers come from what was counted. The engine is unhealthy then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from serving import metrics
from serving.engine.clock import EngineClock, SystemClock
from serving.engine.job import Job
from serving.engine.line import RequestId
from serving.engine.proven import Proven
from serving.engine.scheduler import Scheduler
from serving.engine.shares import ShareJob
from serving.engine.waiting import LARGE, Waiting, beside, over
from serving.engine.workload import BaseBatch, NoisyBatch, Unwritten, Workload
from serving.errors import SEE_LOG, Internal
from serving.events import Base, Event, Events, Final, Progress
from serving.messages import Prediction, Reply, Share, Task
from serving.models.catalogue import Catalogue
from serving.runtimes.runtime import DeviceLost, InFlight, Passes, Runtime
from serving.security.signing import Notary, Signer

_log = logging.getLogger("certserve.engine")

_MEMORY_S = 2.0  # of work, in the rate of the device: many batches, so that one that had to wait does not count for all
_KNOWN_S = 0.25  # of work, before which that rate is not known
_TURN_S, _MOST_BATCHES = 0.02, 6  # of a worker's turn, for whose end waits what is finished, cancelled or new
_NICENESS = 10  # of threads that draw, over those that read requests, predict without noise and answer
_PACE_S, _WATCHING = 0.25, 0.1  # between two events of progress, and the share of the time that all of them may take
_FEW = 32  # rows of a request that are admitted where it is asked for; more take long, and others would wait meanwhile
_COMPOSING_S = 0.0003  # for the answer of a row, before it is known
_HUNG_S = 60.0  # in one batch: by then it is of no use to anybody who waits


_Prepare = Callable[[], Sequence[Job | ShareJob]]


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A bundle and what runs it, proven."""

    bundle: Bundle
    runtime: Runtime


@dataclass(slots=True, eq=False)
class _Rate:
    """How many passes a worker makes in a second of work, of late."""

    made: float = 0.0
    seconds: float = 0.0

    def note(self, passes: int, seconds: float) -> None:
        """Some passes were made in so much time."""
        kept = math.exp(-seconds / _MEMORY_S)
        self.made, self.seconds = kept * self.made + passes, kept * self.seconds + seconds

    def per_second(self) -> float:
        """The rate; infinite while it is not known."""
        return self.made / self.seconds if self.seconds > _KNOWN_S else math.inf


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
        self.catalogue = Catalogue([_proven(each, signer) for each in served])
        self._work = Workload(self.catalogue, scheduler, max_pending_draws)
        self._clock = clock or SystemClock()
        self._watched = 0  # requests whose progress is asked for; the loop's alone
        # The lock guards all that is below; what is above never changes, but for the workload, which it guards as well.
        self._lock = threading.Lock()
        self._waiting: dict[RequestId, Waiting] = {}
        self._wake, self._wake_base = threading.Condition(self._lock), threading.Condition(self._lock)
        self._wake_clock, self._alarm = threading.Condition(self._lock), math.inf
        self._unwritten: list[tuple[Waiting, Unwritten]] = []
        self._composing_s = _COMPOSING_S
        self._closed = self._told = self._lost = False
        self._drawn, self._predicted = _Rate(), _Rate()
        self._batch_s: dict[str, float] = {}
        self._at_work: dict[BaseBatch | NoisyBatch, float] = {}
        self._workers = threads
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
        """Each event is composed when it is asked for, from what is counted by then; whoever does not ask costs nothing."""
        async with self._admitted(task, partial(self._work.prepare, task), followed=True) as waiting, self._watching():
            seen = None
            while not await over(waiting):
                reply, took = await asyncio.to_thread(self._looked, waiting.number, len(task.rows))
                draws = sum(row.draws for row in reply.rows) if reply else 0
                if reply is None or (seen is not None and draws <= seen):
                    continue
                yield Base(_bare(reply)) if seen is None else Progress(reply)
                if seen is not None:
                    await asyncio.wait([waiting.future], timeout=pause(took, self._watched))
                seen = draws if seen is not None else 0
            reply = await waiting.future
            if seen is None:
                yield Base(_bare(reply))
            yield Final(reply)

    @contextlib.asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        self._watched += 1
        try:
            yield
        finally:
            self._watched -= 1

    def _looked(self, number: RequestId, count: int) -> tuple[Reply[Prediction] | None, float]:
        """What is proven by now, and the seconds of work that it took to say."""
        began = time.thread_time()
        reply = self._so_far(number, count)
        return reply, time.thread_time() - began

    def _so_far(self, number: RequestId, count: int) -> Reply[Prediction] | None:
        """Composed row by row, so that nobody waits for the lock meanwhile."""
        rows: list[Prediction] = []
        for row in range(count):
            with self._lock:
                said = self._work.so_far(number, row)
            if said is None:
                return None
            rows.append(said)
        with self._lock:
            return self._work.reply_so_far(number, rows, self._clock.now())

    async def count(self, task: Task, draws: range) -> Reply[Share]:
        """The share of every row of a task: what came of `draws`, whole slices, until its deadline. Else as `predict`."""
        return await self._done(task, partial(self._work.prepare, task, draws))

    async def _done(self, task: Task, prepare: _Prepare) -> Reply[Any]:
        async with self._admitted(task, prepare) as waiting:
            return await waiting.future

    @contextlib.asynccontextmanager
    async def _admitted(self, task: Task, prepare: _Prepare, followed: bool = False) -> AsyncIterator[Waiting]:
        """One request in flight, until its outcome or the end of the context, which takes its work away."""
        loop = asyncio.get_running_loop()
        few = len(task.rows) <= _FEW
        until = self._clock.now() + task.timeout_s
        enter = partial(self._enter, prepare, until, followed, loop, loop.create_future())
        waiting = enter() if few else await beside(enter, self._leave)
        try:
            yield waiting
        finally:
            if not waiting.settled():
                self._leave(waiting) if few else loop.run_in_executor(LARGE, self._leave, waiting)

    def _enter(
        self,
        prepare: _Prepare,
        until: float,
        followed: bool,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[Reply[Any]],
    ) -> Waiting:
        jobs = prepare()
        with self._lock:
            rates = self._workers * self._drawn.per_second(), self._predicted.per_second()
            now = self._clock.now()
            number = self._work.admit(jobs, max(0.0, until - now), now, *rates, followed, self._composing_s)
            waiting = self._waiting[number] = Waiting(number, loop, future, asyncio.Event())
            self._wake_base.notify()
            if self._work.next_deadline() < self._alarm:
                self._wake_clock.notify()
            if self._work.waits():
                self._wake.notify_all()
        return waiting

    def _leave(self, waiting: Waiting) -> None:
        with self._lock:
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
            _give_way()
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
            worker.flying.append(self._submit(batch, started))
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
                batch = self._work.next_batch(now, base_only, self._together)
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

    def _together(self, model: str, wanted: int) -> int:
        """As many batches as fit into a turn, where there are as many for every worker: their models come back to back, and
        Python's own work, slow after each for want of what the model drove from the caches, comes once.
        """
        batch_s = max(self._batch_s.get(model, math.inf), _TURN_S / _MOST_BATCHES)
        return max(1, min(int(_TURN_S / batch_s), wanted // self._workers))

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
            if len(each.lives) <= _FEW:
                self._write(waiting, each)
            else:  # beside this thread, for which others wait
                threading.Thread(target=self._write, args=(waiting, each), name="engine-writes", daemon=True).start()
        return going

    def _write(self, waiting: Waiting, unwritten: Unwritten) -> None:
        began = self._clock.now()
        waiting.settle(unwritten.written())
        took = (self._clock.now() - began) / len(unwritten.lives)
        with self._lock:
            self._composing_s += (took - self._composing_s) / 4

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
        metrics.PENDING.set(self._work.owed)

    def _run_base(self, batch: BaseBatch, started: float) -> None:
        served = self._served[batch.plan.model]
        probabilities: NDArray[np.float32] | None = None
        try:
            rows = np.stack(batch.lattices)
            probabilities = _probabilities(served, rows)
        except DeviceLost as error:
            self._lose(error)
        except Exception:
            _log.exception("a batch of base predictions failed")
        with self._lock:
            now = self._over(batch)
            self._work.deliver_base(batch, probabilities, now)
            self._predicted.note(len(batch.lattices), now - started)
        metrics.DEVICE_SECONDS.inc(now - started)

    def _submit(self, batch: NoisyBatch, started: float) -> _Flight:
        try:
            return _Flight(batch, self._served[batch.plan.model].runtime.submit(batch.draws), started)
        except DeviceLost as error:
            self._lose(error)
        except Exception:
            _log.exception("a batch of noisy passes could not be begun")
        return _Flight(batch, None, started)

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
                results = _votes(flight.results.result(), drawn, self._served[batch.plan.model].bundle)
        except DeviceLost as error:
            self._lose(error)
        except Exception:
            _log.exception("a batch of noisy passes failed")
        with self._lock:
            now = self._over(batch)
            took = now - max(flight.started, worker.ended)  # before that the device had another batch of this worker
            self._work.deliver_noisy(batch, results, now)
            self._drawn.note(drawn, took)
            if results is not None:
                self._batch_s[batch.plan.model] = took / batch.plan.batches
        worker.ended = now
        metrics.DEVICE_SECONDS.inc(took)
        metrics.DRAWS.inc(drawn)
        metrics.BATCH_ROWS.inc(batch.plan.rows * batch.plan.batches)


def pause(took: float, watched: int) -> float:
    """Seconds until a request is looked at again that took so long, as each of those that are `watched` may."""
    return max(_PACE_S, took * watched / _WATCHING)


def _bare(reply: Reply[Prediction]) -> Reply[Prediction]:
    """The base predictions alone: no draw is counted for them, and nothing is claimed."""
    nothing: dict[str, Any] = dict.fromkeys(("certificate", "ood", "mixture", "joint", "receipt", "granted_draws"))
    return replace(reply, rows=tuple(replace(row, draws=0, lost_draws=0, **nothing) for row in reply.rows))


def _give_way() -> None:
    """Let the other threads of the server in whenever they have something to do, which is never long."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox may not allow it
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS)


def _proven(served: Served, signer: Signer | None) -> Proven:
    description = served.runtime.description
    return Proven(served.bundle, description, Notary(signer=signer, runtime=description) if signer else None)


def _probabilities(served: Served, rows: NDArray[np.int32]) -> NDArray[np.float32]:
    """Of each row, and in one column more its weight where the bundle declares that it depends on the input."""
    bundle, mixture = served.bundle, served.bundle.manifest.mixture
    learnt = mixture is not None and mixture.declared is not None
    found = served.runtime.weighted(rows) if learnt else served.runtime.base(rows)
    if found.shape != (len(rows), len(bundle.manifest.labels) + learnt):
        raise ValueError(f"{bundle.key}: the base graph gave {found.shape} for {len(rows)} rows")
    return found


def _votes(found: Passes, draws: int, bundle: Bundle) -> Passes:
    """What a runtime returned, if it is a vote and a score for every draw: absent ones would count as misses."""
    votes, scores = found
    if votes.shape != (draws,) or scores.shape != (draws,) or votes.dtype.kind not in "iu":
        raise ValueError(
            f"{bundle.key}: the noisy graph gave {votes.dtype} {votes.shape}, {scores.shape} for {draws} draws"
        )
    return votes, scores
