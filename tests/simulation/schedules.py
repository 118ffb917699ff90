"""Random schedules of the workload on a virtual clock and a virtual device, with an exact model.

A schedule is a list of small numbers, so that hypothesis shrinks a failing one. The device is the half-space in numpy on the
keyed noise; it may be slow, fail, and finish batches in any order. What is checked holds at every step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from certify.noise import derive_key
from certify.procedures import SLICE
from serving.errors import CertserveError, DeadlinePassed, Internal, Overloaded
from serving.job import Job, SliceResult
from serving.messages import PARTS, Reply, Task
from serving.scheduler import Scheduler
from serving.workload import BaseBatch, Workload
from tests.half_space import CUT

BATCH_S = 0.01


@dataclass(frozen=True)
class Step:
    """What happens next: `kind` arrive, run, finish, fail or cancel; `pick` says which one; `pause` in milliseconds."""

    kind: str
    pick: int
    pause: int


@dataclass
class World:
    """One device's workload, everything that was asked of it, and what came of it."""

    bundle: object
    workload: Workload
    now: float = 0.0
    running: list = field(default_factory=list)
    asked: dict = field(default_factory=dict)
    cancelled: set = field(default_factory=set)
    outcomes: dict = field(default_factory=dict)
    refused: list = field(default_factory=list)

    def take(self, step: Step) -> None:
        self.now += step.pause / 1000
        {
            "arrive": self.arrive,
            "run": self.run,
            "finish": lambda pick: self.finish(pick, fail=False),
            "fail": lambda pick: self.finish(pick, fail=True),
            "cancel": self.cancel,
        }[step.kind](step.pick)
        self.collect()

    def arrive(self, pick: int) -> None:
        task = task_number(self.bundle, pick)
        draws = (
            range(pick // 7 % 2 * SLICE, task.max_draws) if pick % 7 == 0 and task.mode in ("best", "fixed") else None
        )
        try:
            jobs = self.workload.prepare(task, draws)
            number = self.workload.admit(jobs, task.timeout_s, self.now, 1_000.0)
        except Overloaded as error:
            self.refused.append(error.retry_after_s)
            return
        self.asked[number] = (task, draws)

    def run(self, pick: int) -> None:
        if (
            len(self.running) < 2
            and (batch := self.workload.next_batch(self.now, base_only=bool(pick % 2))) is not None
        ):
            self.running.append(batch)

    def finish(self, pick: int, fail: bool) -> None:
        if not self.running:
            return
        batch = self.running.pop(pick % len(self.running))
        self.now += BATCH_S
        if isinstance(batch, BaseBatch):
            found = None if fail else np.stack([base(lattice) for lattice in batch.lattices])
            self.workload.deliver_base(batch, found, self.now)
        else:
            found = None if fail else device(self.bundle, batch)
            self.workload.deliver_noisy(batch, found, self.now)

    def cancel(self, pick: int) -> None:
        waiting = [number for number in self.asked if number not in self.outcomes and number not in self.cancelled]
        if waiting:
            number = waiting[pick % len(waiting)]
            self.cancelled.add(number)
            self.workload.cancel(number)

    def collect(self) -> None:
        for number, outcome in self.workload.take_outcomes():
            assert number in self.asked, "an answer to nobody"
            assert number not in self.outcomes, "answered twice"
            assert number not in self.cancelled, "answered after it was cancelled"
            self.outcomes[number] = outcome
            self.check(number, outcome)

    def check(self, number: int, outcome) -> None:
        task, draws = self.asked[number]
        if isinstance(outcome, CertserveError):
            assert isinstance(outcome, (DeadlinePassed, Internal))
            return
        assert isinstance(outcome, Reply)
        assert len(outcome.rows) == len(task.rows)
        if draws is not None:
            for row, share in enumerate(outcome.rows):
                check_share(self.bundle, task, row, draws, share)
            return
        for row, prediction in enumerate(outcome.rows):
            if prediction.lost_draws == 0:
                assert essence(prediction) == essence(alone(self.bundle, task, row, prediction.draws))

    def drain(self) -> None:
        """Let everything finish: nothing may be left over, and nothing waits longer than its deadline and a batch."""
        for turn in range(10_000):
            if not len(self.workload) and not self.running:
                return
            self.run(turn)
            self.finish(0, fail=False)
            self.now += 0.001
            self.collect()
        raise AssertionError("the workload never came to an end")


def task_number(bundle, pick: int) -> Task:
    """One of some hundred requests: modes, rows near the half-space's boundary, deadlines short and long."""
    modes = ("target", "best", "precision", "fixed", "off")
    mode = modes[pick % 5]
    first = CUT + (pick // 5) % 60 - 30
    rows = np.array([[first, pick % 7, row, 0] for row in range(1 + pick % 3)], dtype=np.int32)
    draws = (64, 200, 1_000)[pick // 8 % 3]
    digest = bytes.fromhex(bundle.digest.removeprefix("sha256:"))
    fixed = draws if mode == "fixed" else None
    return Task(
        model="half-space",
        version="1",
        rows=rows,
        keys=tuple(derive_key(b"k" * 32, digest, row, fixed) for row in rows),
        mode=mode,
        target_radius=8.0,
        radius_tolerance=8.0 if mode == "precision" else 0.0,
        max_draws=draws,
        alpha=0.01,
        timeout_s=(0.05, 0.5, 60.0)[pick // 16 % 3],
        parts=frozenset(PARTS),
    )


def base(lattice: np.ndarray) -> np.ndarray:
    share = 1 / (1 + np.exp(0.05 * (CUT - float(lattice[0]))))
    return np.array([1 - share, share], dtype=np.float32)


def device(bundle, batch):
    """Votes and scores of a batch by the exact model."""
    columns = []
    for part, lattice, key in batch.sources:
        noise = bundle.noise.sample(key, part.start, part.start + part.rows, lattice.size)
        columns.append(noise[:, 0].astype(np.int64) + lattice[0])
    first = np.concatenate(columns)
    return (first > CUT).astype(np.int64), first.astype(np.float32)


def alone(bundle, task: Task, row: int, draws: int):
    """The answer to one row from its first `draws` draws, counted in order with nothing else in the world."""
    job = Job(bundle, task, row)
    job.receive_base(base(task.rows[row]))
    for start in range(0, draws, SLICE):
        rows = min(SLICE, draws - start)
        job.receive(start, SliceResult(rows, *exact(bundle, task, row, start, start + rows)))
    return job.answer()


def check_share(bundle, task: Task, row: int, draws: range, share) -> None:
    """A prefix of its range in whole slices, each as the exact model draws it or marked as lost."""
    counted = len(share.votes)
    votes, scores = exact(bundle, task, row, draws.start, draws.stop)
    kept = np.array([index - index % SLICE not in share.lost for index in draws[:counted]], dtype=bool)
    np.testing.assert_array_equal(share.votes[kept], votes[:counted][kept])
    np.testing.assert_array_equal(share.scores[kept], scores[:counted][kept])
    assert counted % SLICE == 0 or counted == len(draws)
    assert share.granted is None or (task.mode == "best" and counted <= share.granted < len(draws))
    assert (share.base is None) == (draws.start > 0)


def exact(bundle, task: Task, row: int, start: int, stop: int):
    """Votes and scores of the draws `[start, stop)` by the exact model."""
    noise = bundle.noise.sample(task.keys[row], start, stop, task.rows[row].size)[:, 0]
    first = noise.astype(np.int64) + task.rows[row][0]
    return (first > CUT).astype(np.int64), first.astype(np.float32)


def essence(prediction):
    """All that an answer claims."""
    return (prediction.certificate, prediction.ood, prediction.mixture, prediction.draws, prediction.class_index)


def fresh(bundle) -> World:
    workload = Workload({bundle.key: bundle}, Scheduler(base_rows=2), max_pending_draws=6_000)
    return World(bundle, workload)
