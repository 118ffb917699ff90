"""An engine replica on a virtual clock and a virtual device: the real workload, coroutines where the engine has threads.

It does what `serving.engine.engine` and `serving.deployments.on_ray.EngineReplica` do, and what happens to a device or
a process happens to it when it is told: batches fail, are slow or never come back; it freezes, stops or dies.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque

import numpy as np

from serving.engine.proven import Proven
from serving.engine.scheduler import _TURNS, Scheduler, one_at_a_time
from serving.engine.workload import BaseBatch, Workload
from serving.errors import CertserveError
from serving.gateway.retry import Lost
from serving.models.catalogue import Catalogue
from tests.simulation.device import base

BATCH_S = 0.01
DRAWS_PER_SECOND = 12_800.0
WORKERS = (False, False, True)
"""Whether each takes base predictions only."""


def two_at_most(model, wanted):
    """Batches that go together."""
    return max(1, min(2, wanted))


class WatchedScheduler(Scheduler):
    """Says when a job was passed over for longer than the order of the queue can explain."""

    def __init__(self, starved) -> None:
        super().__init__(base_rows=2)
        self._starved = starved
        self._passed: dict[int, tuple[int, int]] = {}

    def plan_noisy(self, together=one_at_a_time):
        waiting = {job for job, (_, entry) in self._entries.items() if entry.wants()}
        plan = super().plan_noisy(together)
        served = {part.job for part in plan.slices} if plan else set()
        passed = {job: self._passed.get(job, (0, 0)) for job in waiting - served}
        self._passed = {job: (n + 1, max(most, len(self._entries))) for job, (n, most) in passed.items()}
        for job, (times, most) in self._passed.items():
            # One batch of some goes by age, in which the others, of two rows a request at most, go first once or twice.
            if times > _TURNS * (2 * most + 2):
                self._starved(f"job {job} was passed over {times} times among {most}")
        return plan


class Replica:
    """Serves `bundles`; tells `broken` (a name, what happened) where an invariant fails, and `hung` of a lost batch."""

    def __init__(
        self,
        bundles,
        device,
        notaries,
        broken,
        hung,
        together,
        runtime="virtual",
        max_pending_draws=6_000,
        base_s=BATCH_S,
    ) -> None:
        self.workload = Workload(
            Catalogue(Proven(bundle, runtime, notaries.get(bundle.key)) for bundle in bundles),
            WatchedScheduler(lambda what: broken("nothing_starves", what)),
            max_pending_draws=max_pending_draws,
        )
        self.serving, self.dead, self.frozen = True, False, False
        self.fates: deque[tuple[str, int]] = deque()
        self._base_s = base_s
        self._device, self._broken, self._hung, self._together = device, broken, hung, together
        self._clock = asyncio.get_running_loop().time
        self._waiting: dict[int, asyncio.Future] = {}
        self._ended: set[int] = set()
        self._wake, self._admitted = asyncio.Event(), asyncio.Event()
        self._turns = [asyncio.ensure_future(turn) for turn in (*map(self._work, WORKERS), self._keep_deadlines())]

        for turn in self._turns:
            turn.add_done_callback(self._over)

    async def predict(self, task):
        """The answer, or the refusal as a value. Raises `Lost` when the replica dies."""
        if self.dead:
            raise Lost
        try:
            jobs = self.workload.prepare(task)
            number = self.workload.admit(jobs, task.timeout_s, self._clock(), DRAWS_PER_SECOND)
        except CertserveError as error:
            return error
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        for event in (self._wake, self._admitted):
            _pulse(event)
        try:
            outcome = await answer
            if self.frozen:
                await asyncio.get_running_loop().create_future()
            return outcome
        finally:
            self._waiting.pop(number, None)
            self._ended.add(number)
            self.workload.cancel(number)

    def stop(self) -> None:
        """What is in flight is refused, and all that comes."""
        self.workload.close()
        self._tell()
        self._end()

    def kill(self) -> None:
        """The process is gone, with all that it knew."""
        self.dead = True
        self._end()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Lost())

    def left_over(self) -> bool:
        """Whether something is in flight that nobody waits for."""
        return not self.dead and bool(len(self.workload) or self.workload.owed or self._waiting)

    def _end(self) -> None:
        self.serving = False
        for turn in self._turns:
            turn.cancel()

    def _over(self, turn: asyncio.Task) -> None:
        if not turn.cancelled():
            self._broken("nothing_raises", repr(turn.exception()))

    async def _work(self, base_only: bool) -> None:
        for turn in itertools.count():
            batch = self.workload.next_batch(self._clock(), base_only, self._together)
            self._tell()
            if batch is None:
                await self._wake.wait()
                continue
            if self.workload.waits():
                _pulse(self._wake)
            fate, times = self._fate(batch)
            if fate == "lose":
                self._hung(self)
                await asyncio.get_running_loop().create_future()
            takes = self._base_s if isinstance(batch, BaseBatch) else BATCH_S * batch.plan.batches
            await asyncio.sleep(takes * times * (1 + turn % 3 / 4))  # the workers do not keep step
            self._deliver(batch, failed=fate == "fail")
            self._tell()

    def _fate(self, batch) -> tuple[str, int]:
        """What happens to a batch, and how many times as long it takes."""
        return self.fates.popleft() if self.fates else ("well", 1)

    def _base(self, lattice) -> np.ndarray:
        """The base network's probabilities."""
        return base(lattice)

    def _deliver(self, batch, failed: bool) -> None:
        if isinstance(batch, BaseBatch):
            found = None if failed else np.stack([self._base(lattice) for lattice in batch.lattices])
            self.workload.deliver_base(batch, found, self._clock())
        else:
            self.workload.deliver_noisy(batch, None if failed else self._device.noisy(batch), self._clock())

    async def _keep_deadlines(self) -> None:
        while True:
            self.workload.expire(self._clock())
            self._tell()
            deadline = self.workload.next_deadline()
            try:
                async with asyncio.timeout_at(deadline if deadline < math.inf else None):
                    await self._admitted.wait()
            except TimeoutError:
                continue

    def _tell(self) -> None:
        for number, outcome in self.workload.take_outcomes():
            if number in self._ended:
                self._broken("answered_once", f"request {number} was answered again, or after it was given up")
            self._ended.add(number)
            if (answer := self._waiting.get(number)) is not None and not answer.done():
                answer.set_result(outcome)


def _pulse(event: asyncio.Event) -> None:
    """Let those go on who wait now."""
    event.set()
    event.clear()
