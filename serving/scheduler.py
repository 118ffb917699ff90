"""Which draws the next batch holds. No I/O, clock, thread or tensor: numbers in, a plan out.

The unit of work is a slice of `SLICE` draws of one job. A batch holds one graph of one model, in a number of rows that the
model fixes. Three batches of four go by need: whoever is soon decided comes first, with all the slices that it is expected
to need. The fourth goes by age: requests take turns, a slice each. So a large request cannot keep small ones from the
device, nor many small ones a large one. Rows left over are filled with draws beyond that, which cost nothing and may turn
out to be needed: rows too few for a slice with the last draws of jobs whose number is no multiple of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from certify.procedures import SLICE
from serving.line import BaseLine, Entry, JobId, NoisyLine, RequestId, Slice, size

_TURNS = 4  # of which the last goes by age
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
class NoisyPlan:
    """Noisy passes in `batches` of `rows` rows: slices in row order, what they leave of them is padding."""

    model: str
    rows: int
    slices: tuple[Slice, ...]
    batches: int = 1


class Scheduler:
    """Plans batches of noisy rows, or of `base_rows` base rows, over all jobs that it was given."""

    def __init__(self, base_rows: int = 1) -> None:
        self.base_rows = base_rows
        self._entries: dict[JobId, tuple[NoisyLine, Entry]] = {}
        self._lines: dict[str, NoisyLine] = {}
        self._base: dict[JobId, tuple[str, RequestId]] = {}
        self._base_lines: dict[str, BaseLine] = {}
        self._owed: dict[int, dict[RequestId, int]] = {}
        self._remaining = self._planned = self._turn = 0

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
        request: RequestId | None = None,
    ) -> None:
        """A new job of a `request`: a base prediction, if `base`, and draws `[first, max_draws)`: `expected` by forecast,
        `least` not to be denied, `wanted` before the next forecast, if those are not all that are expected.

        Its model runs `batch_rows` rows at a time, which must be whole slices. A job of no request is one of its own.
        """
        if batch_rows % SLICE or batch_rows < SLICE:
            raise ValueError(f"a batch must hold whole slices of {SLICE} draws; got {batch_rows} rows")
        asked = job if request is None else request
        if base:
            self._wait_for_base(job, model, asked)
        if max_draws > first:
            whole = max_draws - (max_draws - first) % SLICE
            tail = Slice(job, whole, max_draws - whole) if whole < max_draws else None
            soon, certain = expected if wanted is None else wanted, expected >= max_draws - first
            entry = Entry(job, asked, whole, least, expected, soon, first, tail, certain)
            line = self._lines.setdefault(model, NoisyLine(model, batch_rows))
            self._entries[job] = line, entry
            self._count(line, entry, 1)
            line.enter(entry, self._planned)

    def _wait_for_base(self, job: JobId, model: str, request: RequestId) -> None:
        self._base[job] = model, request
        self._base_lines.setdefault(model, BaseLine()).enter(job, request)

    def _count(self, line: NoisyLine, entry: Entry, sign: int) -> None:
        """Keep the totals: a job is taken off before it changes, and put on afterwards."""
        self._remaining += sign * entry.remaining
        line.sure += sign * max(0, entry.wanted()) * entry.certain
        line.unsure += sign * (not entry.certain)
        line.failed += sign * len(entry.again)
        owed = self._owed.setdefault(size(entry.remaining), {})
        owed[entry.request] = owed.get(entry.request, 0) + sign * entry.needs()
        if not owed[entry.request]:
            del owed[entry.request]

    @contextmanager
    def _changed(self, job: JobId) -> Iterator[Entry | None]:
        if job not in self._entries:
            yield None
            return
        line, entry = self._entries[job]
        self._count(line, entry, -1)
        yield entry
        self._count(line, entry, 1)
        line.offer(entry)

    def update(self, job: JobId, expected: int, wanted: int | None = None) -> None:
        """A new forecast of the draws that a job still needs, and of those `wanted` before the next one: see `add`."""
        with self._changed(job) as entry:
            if entry:
                entry.remaining, entry.soon = expected, expected if wanted is None else wanted

    def settle(self, part: Slice) -> None:
        """A slice came back, with a result or counted as lost."""
        with self._changed(part.job) as entry:
            if entry:
                entry.in_flight -= 1

    def again(self, part: Slice) -> None:
        """A slice came to nothing: plan the same draws again, before others of its job."""
        with self._changed(part.job) as entry:
            if entry:
                entry.in_flight -= 1
                entry.again.append(part)

    def base_again(self, job: JobId, model: str, request: RequestId | None = None) -> None:
        """A base prediction came to nothing: plan it again."""
        self._wait_for_base(job, model, job if request is None else request)

    def remove(self, job: JobId) -> None:
        """A job is finished, cancelled or expired; nothing more of it is planned."""
        self.remove_draws(job)
        if found := self._base.pop(job, None):
            model, request = found
            self._base_lines[model].leave(job, request)
            if not self._base_lines[model]:
                del self._base_lines[model]

    def remove_draws(self, job: JobId) -> None:
        """A job needs no more draws, though its base prediction may still be due."""
        if found := self._entries.pop(job, None):
            line, entry = found
            self._count(line, entry, -1)
            line.leave(entry)
            if not line:
                del self._lines[line.model]

    @property
    def owed(self) -> int:
        """Passes that the jobs are expected to need still, base predictions among them."""
        return self._remaining + len(self._base)

    def owed_before(self, draws: int, expected: int) -> int:
        """Noisy passes that others are sure to get before a new request has the `draws` that it needs at least.

        Whoever is decided much later than the new one, with `expected` draws a row, comes after it; requests of its like
        take turns, so none of them counts for more than it does itself.
        """
        sooner = (requests for at, requests in self._owed.items() if at <= size(expected))
        return sum(min(owed, draws) for requests in sooner for owed in requests.values())

    def base_before(self, rows: int) -> int:
        """Base predictions that others get before a new request of `rows` rows has its own: requests take turns."""
        return sum(line.before(rows) for line in self._base_lines.values())

    @property
    def base_waits(self) -> bool:
        """Whether a base prediction could be planned."""
        return bool(self._base)

    @property
    def draws_wait(self) -> bool:
        """Whether noisy passes are wanted."""
        return any(line.neediest() for line in self._lines.values())

    def plan_base(self) -> BasePlan | None:
        """The next base predictions, all of one model, a turn for each request; None if none waits."""
        if not self._base:
            return None
        model, line = next(iter(self._base_lines.items()))
        jobs: list[JobId] = []
        while line and len(jobs) < self.base_rows:
            jobs.append(line.take())
            del self._base[jobs[-1]]
        del self._base_lines[model]  # models take turns, too
        if line:
            self._base_lines[model] = line
        return BasePlan(model, tuple(jobs))

    def plan_noisy(self, together: Together = one_at_a_time) -> NoisyPlan | None:
        """The next noisy passes, all of one model, in as many batches as are to go together; None if none is wanted: what
        is under way is expected to decide, and who comes next should not find the device at work in vain.
        """
        by_age = self._turn % _TURNS == _TURNS - 1
        line = self._line(by_age)
        if line is None:
            return None
        self._turn += 1
        batches = self._batches(line, together)
        self._planned += line.rows * batches
        return NoisyPlan(line.model, line.rows, tuple(self._fill(line, line.rows * batches, by_age)), batches)

    def _line(self, by_age: bool) -> NoisyLine | None:
        """The model of whoever comes first."""
        first = [(line, entry) for line in self._lines.values() if (entry := line.neediest())]
        if by_age:
            first = [(line, entry) for line, _ in first if (entry := line.oldest())]
        order = (lambda each: each[0].waits_since(each[1])) if by_age else (lambda each: each[1].place())
        return min(first, key=order)[0] if first else None

    def _batches(self, line: NoisyLine, together: Together) -> int:
        """One, unless all draws of everybody are sure to be made: what stops by what it sees has to see it, and should find
        a worker when it has. One also where something failed, so that not all of it fails together again.
        """
        return 1 if line.unsure or line.failed else together(line.model, line.sure // line.rows)

    def _fill(self, line: NoisyLine, room: int, by_age: bool) -> Iterator[Slice]:
        for take in (self._wanted, self._spare, self._ends):
            for part in take(line, room, by_age):
                room -= part.rows
                yield part

    def _wanted(self, line: NoisyLine, room: int, by_age: bool) -> Iterator[Slice]:
        while room >= SLICE and (entry := line.oldest() if by_age else line.neediest()):
            if part := self._take(line, entry, room):
                room -= part.rows
                yield part

    def _spare(self, line: NoisyLine, room: int, by_age: bool) -> Iterator[Slice]:
        fitted = True
        while room >= SLICE and fitted:
            fitted = False
            for entry in line.spare():
                if room >= SLICE and (part := self._take(line, entry, room)):
                    room, fitted = room - part.rows, True
                    yield part

    def _ends(self, line: NoisyLine, room: int, by_age: bool) -> Iterator[Slice]:
        for entry in line.ends(room) if room else ():
            if part := self._take(line, entry, room):
                room -= part.rows
                yield part

    def _take(self, line: NoisyLine, entry: Entry, room: int) -> Slice | None:
        self._count(line, entry, -1)
        part = line.take(entry, room, self._planned)
        self._count(line, entry, 1)
        return part
