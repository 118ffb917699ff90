"""Which draws the next batch holds. No I/O, clock, thread or tensor: numbers in, a plan out.

The unit of work is a slice of `SLICE` draws of one job. A batch holds one graph of one model, in a number of rows that the
model fixes. Noisy slices go in the order of their jobs' expected remaining draws, less the rows that have been planned since
a job was last served, so that nothing starves. Each job takes the slices that it is expected to need; rows left over
are filled with draws beyond that, which cost nothing and may turn out to be needed: rows too few for a slice with the last
draws of jobs whose number is no multiple of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from certify.procedures import SLICE

JobId = int
Together = Callable[[str, int], int]
"""How many batches of a model go together where so many full ones are wanted: at least one, and no more than those."""


def one_at_a_time(model: str, wanted: int) -> int:
    """Every batch by itself."""
    return 1


@dataclass(frozen=True, slots=True)
class BasePlan:
    """One batch of base predictions: the jobs whose inputs it holds, in row order."""

    model: str
    jobs: tuple[JobId, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """Draws `[start, start + rows)` of one job."""

    job: JobId
    start: int
    rows: int


@dataclass(frozen=True, slots=True)
class NoisyPlan:
    """Noisy passes in `batches` of `rows` rows: slices in row order, what they leave of them is padding."""

    model: str
    rows: int
    slices: tuple[Slice, ...]
    batches: int = 1


@dataclass(slots=True)
class _Entry:
    model: str
    batch_rows: int
    whole: int
    least: int
    remaining: int
    soon: int
    next_start: int
    tail: Slice | None
    certain: bool
    again: list[Slice] = field(default_factory=list)
    in_flight: int = 0
    served: int = 0

    def available(self) -> bool:
        return bool(self.again or self.tail) or self.next_start < self.whole

    def wants(self) -> bool:
        return self.available() and (bool(self.again) or not self.in_flight or self.wanted() > 0)

    def wanted(self) -> int:
        return self.soon - self.in_flight * SLICE

    def needs(self) -> int:
        return min(self.remaining, self.least)

    def take(self, job: JobId, room: int) -> Slice | None:
        """What comes next of what fits into `room` rows. The last draws, where they are no whole slice, may come early."""
        if self.again and self.again[0].rows <= room:
            return self.again.pop(0)
        if self.next_start < self.whole and room >= SLICE:
            self.next_start += SLICE
            return Slice(job, self.next_start - SLICE, SLICE)
        if self.tail and self.tail.rows <= room:
            tail, self.tail = self.tail, None
            return tail
        return None

    def priority(self) -> tuple[bool, int]:
        """What only waits for its results must not choose the model of a batch, or one that hangs starves the others."""
        return not self.wants(), self.soon + self.served


class Scheduler:
    """Plans batches of noisy rows, or of `base_rows` base rows, over all jobs that it was given."""

    def __init__(self, base_rows: int = 1) -> None:
        self.base_rows = base_rows
        self._entries: dict[JobId, _Entry] = {}
        self._planned = self._owed_at_least = 0
        self._base: dict[JobId, str] = {}

    def add(
        self,
        job: JobId,
        model: str,
        batch_rows: int,
        max_draws: int,
        expected: int,
        least: int = 0,
        wanted: int | None = None,
        first: int = 0,
        base: bool = True,
    ) -> None:
        """A new job: a base prediction, if `base`, and draws `[first, max_draws)`: `expected` by forecast, `least` not to be
        denied, `wanted` before the next forecast, if those are not all that are expected.

        Its model runs `batch_rows` rows at a time, which must be whole slices.
        """
        if batch_rows % SLICE or batch_rows < SLICE:
            raise ValueError(f"a batch must hold whole slices of {SLICE} draws; got {batch_rows} rows")
        if base:
            self._base[job] = model
        if max_draws > first:
            whole = max_draws - (max_draws - first) % SLICE
            tail = Slice(job, whole, max_draws - whole) if whole < max_draws else None
            soon, certain = expected if wanted is None else wanted, expected >= max_draws - first
            entry = _Entry(model, batch_rows, whole, least, expected, soon, first, tail, certain, served=self._planned)
            self._entries[job] = entry
            self._owed_at_least += entry.needs()

    def update(self, job: JobId, expected: int, wanted: int | None = None) -> None:
        """A new forecast of the draws that a job still needs, and of those `wanted` before the next one: see `add`."""
        if job in self._entries:
            entry = self._entries[job]
            self._owed_at_least -= entry.needs()
            entry.remaining, entry.soon = expected, expected if wanted is None else wanted
            self._owed_at_least += entry.needs()

    def settle(self, part: Slice) -> None:
        """A slice came back, with a result or counted as lost."""
        if part.job in self._entries:
            self._entries[part.job].in_flight -= 1

    def again(self, part: Slice) -> None:
        """A slice came to nothing: plan the same draws again, before others of its job."""
        if part.job in self._entries:
            self._entries[part.job].in_flight -= 1
            self._entries[part.job].again.append(part)

    def base_again(self, job: JobId, model: str) -> None:
        """A base prediction came to nothing: plan it again."""
        self._base[job] = model

    def remove(self, job: JobId) -> None:
        """A job is finished, cancelled or expired; nothing more of it is planned."""
        self.remove_draws(job)
        self._base.pop(job, None)

    def remove_draws(self, job: JobId) -> None:
        """A job needs no more draws, though its base prediction may still be due."""
        if entry := self._entries.pop(job, None):
            self._owed_at_least -= entry.needs()

    @property
    def owed(self) -> int:
        """Passes that the jobs are expected to need still, base predictions among them."""
        return sum(entry.remaining for entry in self._entries.values()) + len(self._base)

    @property
    def owed_at_least(self) -> int:
        """The same, no job counted for more than must not be denied it: what stands before a job of few draws."""
        return self._owed_at_least + len(self._base)

    @property
    def base_waits(self) -> bool:
        """Whether a base prediction could be planned."""
        return bool(self._base)

    @property
    def draws_wait(self) -> bool:
        """Whether noisy passes are wanted."""
        return any(entry.wants() for entry in self._entries.values())

    def plan_base(self) -> BasePlan | None:
        """The next base predictions, oldest first, all of one model; None if none waits."""
        if not self._base:
            return None
        model = next(iter(self._base.values()))
        jobs = [job for job, of in self._base.items() if of == model][: self.base_rows]
        for job in jobs:
            del self._base[job]
        return BasePlan(model, tuple(jobs))

    def plan_noisy(self, together: Together = one_at_a_time) -> NoisyPlan | None:
        """The next noisy passes, all of one model, in as many batches as are to go together; None if none is wanted: what
        is under way is expected to decide, and who comes next should not find the device at work in vain.
        """
        order = sorted(
            (j for j, e in self._entries.items() if e.available()), key=lambda j: self._entries[j].priority()
        )
        if not order or not self._entries[order[0]].wants():
            return None
        model, rows = self._entries[order[0]].model, self._entries[order[0]].batch_rows
        order = [job for job in order if self._entries[job].model == model]
        batches = self._batches([self._entries[job] for job in order], model, rows, together)
        slices = tuple(self._fill(order, rows * batches))
        self._planned += rows * batches
        for part in slices:
            self._entries[part.job].served = self._planned
        return NoisyPlan(model, rows, slices, batches)

    def _batches(self, entries: Sequence[_Entry], model: str, rows: int, together: Together) -> int:
        """One, unless all draws of whoever comes first are sure to be made: what stops by what it sees has to see it. One
        also where something failed, so that not all of it fails together again.
        """
        if not entries[0].certain or any(entry.again for entry in entries):
            return 1
        return together(model, sum(max(0, entry.wanted()) for entry in entries if entry.certain) // rows)

    def _fill(self, order: list[JobId], room: int) -> Iterator[Slice]:
        for job in order:
            while self._entries[job].wants() and (part := self._next(job, room)):
                room -= part.rows
                yield part
            if not room:
                return
        fitted = True
        while room and fitted:
            fitted = False
            for job in order:
                if part := self._next(job, room):
                    room, fitted = room - part.rows, True
                    yield part

    def _next(self, job: JobId, room: int) -> Slice | None:
        part = self._entries[job].take(job, room)
        self._entries[job].in_flight += part is not None
        return part
