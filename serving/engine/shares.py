"""A large certificate over several engines: who counts which draws, what one engine counts, the answer from all. Pure.

Draws are keyed by their index, so where they are made makes no difference. The shares are counted, in index order, by the
very `Job` that would have counted them on one engine: the answer is the same, bit for bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from certify.claims.procedures import SLICE, Off
from export.bundle import Bundle
from serving.engine.fair import Party
from serving.engine.job import ENOUGH, Job, SliceResult, first_place, source
from serving.messages import Prediction, Reply, Share, Task

WORTH = 2_048
"""Draws of a row that are worth the way to another engine."""


def split(task: Task, engines: int) -> tuple[range, ...]:
    """The draws of each row of a task that one engine each is to count: whole slices, in index order; one range if it is
    not to be split.

    Procedures that stop by what they see stay whole, since later draws would mostly be made for nothing; so does what
    asks for a receipt, which is signed where the counts are.
    """
    parts = min(engines, task.max_draws // WORTH)
    if parts < 2 or task.receipt or task.procedure.sees or isinstance(task.procedure, Off):
        return (range(task.max_draws),)
    slices = -(-task.max_draws // SLICE)
    cuts = [part * slices // parts * SLICE for part in range(parts)] + [task.max_draws]
    return tuple(range(start, stop) for start, stop in itertools.pairwise(cuts))


class ShareJob:
    """The engine's state of one row of which it counts the draws at the places `[first, max_draws)`: see `Job`, which has
    the draws of the score before the first range, and so has this. It concludes nothing.
    """

    def __init__(self, bundle: Bundle, task: Task, row: int, draws: range) -> None:
        self.bundle = bundle
        self.request_id, self.trace_id = task.request_id, task.trace_id
        self.party = Party(task.asker, task.weight)
        self.lattice = task.rows[row]
        self.law = bundle.law.at(self.lattice)
        self._task, self._row = task, row
        self.first, self.max_draws = draws.start or first_place(bundle, task), draws.stop
        self.has_base = draws.start > 0
        self._all_or_nothing = not task.procedure.anytime
        self._next = self.first
        self._base: NDArray[np.float32] | None = None
        self._waiting: dict[int, SliceResult] = {}
        self._counted: list[SliceResult] = []
        self._granted: int | None = None

    @property
    def least_draws(self) -> int:
        """What overload has to leave of the range: see `Job.least_draws`."""
        draws = self.max_draws - self.first
        return draws if self._all_or_nothing else min(draws, ENOUGH)

    def shorten(self, draws: int) -> None:
        """Allow no more than the first `draws` draws of the range: see `Job.shorten`."""
        allowed = max(self.least_draws, draws // SLICE * SLICE)
        if allowed < self.max_draws - self.first:
            self._granted = allowed
            self.max_draws = self.first + allowed

    @property
    def drawing(self) -> bool:
        """Whether more draws are needed."""
        return self._next < self.max_draws

    def source(self, place: int) -> tuple[bytes, int]:
        """See `Job.source`."""
        return source(self._task, self._row, self.first, place)

    @property
    def done(self) -> bool:
        """Whether the share is complete."""
        return self.has_base and not self.drawing

    def forecast(self) -> tuple[int, int]:
        """All that is left of the range, twice: see `Job.forecast`."""
        left = self.max_draws - self._next - sum(result.rows for result in self._waiting.values())
        return left, left

    def receive_base(self, probabilities: NDArray[np.float32]) -> None:
        """The accurate network's answer on the input without noise."""
        self._base, self.has_base = probabilities, True

    def receive(self, start: int, result: SliceResult) -> None:
        """Results of the draws from `start` on; they are counted once all before them in the range are."""
        self._waiting[start] = result
        while self._next in self._waiting:
            self._counted.append(self._waiting.pop(self._next))
            self._next += self._counted[-1].rows

    def answer(self) -> Share:
        """What was counted so far: the whole range, or how far it came."""
        draws = self._next - self.first
        votes = np.zeros(draws, dtype=np.min_scalar_type(self.bundle.manifest.last_vote))
        scores = np.zeros(draws, dtype=np.float32)
        lost = set()
        for place, result in zip(range(0, draws, SLICE), self._counted, strict=True):
            if result.votes is None or result.scores is None:
                lost.add(self.first + place)
            else:
                votes[place : place + result.rows] = result.votes
                scores[place : place + result.rows] = result.scores
        return Share(votes=votes, scores=scores, lost=frozenset(lost), base=self._base, granted=self._granted)


class MixedRuntimes(ValueError):
    """The shares of a task were counted by different runtimes, or of different bundles: no claim may be made of them
    together.
    """


def merge(bundle: Bundle, task: Task, ranges: Sequence[range], replies: Sequence[Reply[Share]]) -> Reply[Prediction]:
    """The answer to a task from what came of its ranges, in index order. Where one was cut short, what lies beyond is not
    counted. Raises `MixedRuntimes`, also where they are of another bundle than the task or `bundle`.
    """
    for kind, found in (
        ("by", {reply.runtime for reply in replies}),
        ("of", {bundle.digest, task.digest, *(reply.digest for reply in replies)}),
    ):
        if len(found) > 1:
            raise MixedRuntimes(f"draws {kind} {f' and {kind} '.join(sorted(found))} are not counted together")
    rows = zip(*(reply.rows for reply in replies), strict=True)
    return Reply(
        rows=tuple(_whole(Job(bundle, task, row), ranges, shares) for row, shares in enumerate(rows)),
        queue_s=max(reply.queue_s for reply in replies),
        compute_s=max(reply.compute_s for reply in replies),
        digest=replies[0].digest,
        runtime=replies[0].runtime,
    )


def _whole(job: Job, ranges: Sequence[range], shares: Sequence[Share]) -> Prediction:
    if (base := shares[0].base) is not None:
        job.receive_base(base)
    for draws, share in zip(ranges, shares, strict=True):
        if share.granted is not None:
            job.shorten(draws.start + share.granted)
        for start, result in _slices(draws.start or job.first, share):
            job.receive(start, result)
    return job.answer()


def _slices(first: int, share: Share) -> Iterator[tuple[int, SliceResult]]:
    for place in range(0, len(share.votes), SLICE):
        votes, scores = share.votes[place : place + SLICE], share.scores[place : place + SLICE]
        kept = first + place not in share.lost
        yield first + place, SliceResult(len(votes), votes if kept else None, scores if kept else None)
