"""Which draws the next batch holds. No I/O, clock, thread or tensor: numbers in, a plan out.

The unit of work is a slice of `SLICE` draws of one job. A batch holds one graph of one model, in a number of rows that the
model fixes. Callers have fair shares: a batch is first of the one who has had least for its weight. Three batches of four go
by need: whoever is soon decided comes first, with all the slices that it is expected to need. The fourth goes by age:
requests take turns, a slice each. So a large request cannot keep small ones from the device, nor many small ones a large
one. Rows left over are for other callers, then filled with draws beyond that, which cost nothing and may turn out to be
needed: rows too few for a slice with the last draws of jobs whose number is no multiple of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from certify.claims.procedures import SLICE
from serving.engine.fair import NOBODY, Party, Turns
from serving.engine.line import BaseLine, Entry, JobId, NoisyLine, RequestId, Slice
from serving.engine.owed import OwedByAll

_Key = tuple[str, str]  # a model's and a caller's name
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


@dataclass(frozen=True, slots=True)
class Demand:
    """What a new job asks for: draws `[first, max_draws)` of a model that runs `batch_rows` rows at a time, whole slices.

    `expected` draws by forecast, `least` of them not to be denied, `wanted` before the next forecast, if those are not all
    that are expected. It needs a base prediction, if `base`. A job of no `request` is one of its own.
    """

    model: str
    batch_rows: int
    max_draws: int
    expected: int
    least: int = 0
    wanted: int | None = None
    first: int = 0
    base: bool = True
    request: RequestId | None = None
    party: Party = NOBODY

    def __post_init__(self) -> None:
        if self.batch_rows % SLICE or self.batch_rows < SLICE:
            raise ValueError(f"a batch must hold whole slices of {SLICE} draws; got {self.batch_rows} rows")

    def entry(self, job: JobId, request: RequestId) -> Entry:
        """Its draws as they wait in line."""
        whole = self.max_draws - (self.max_draws - self.first) % SLICE
        return Entry(
            job=job,
            request=request,
            whole=whole,
            least=self.least,
            remaining=self.expected,
            soon=self.expected if self.wanted is None else self.wanted,
            next_start=self.first,
            tail=Slice(job, whole, self.max_draws - whole) if whole < self.max_draws else None,
            certain=self.expected >= self.max_draws - self.first,
        )


class Scheduler:
    """Plans batches of noisy rows, or of `base_rows` base rows, over all jobs that it was given."""

    def __init__(self, base_rows: int = 1) -> None:
        self.base_rows = base_rows
        self._entries: dict[JobId, tuple[NoisyLine, Entry]] = {}
        self._lines: dict[_Key, NoisyLine] = {}
        self._callers: dict[str, int] = {}
        """How many lines each caller has."""
        self._turns = Turns()
        self._base: dict[JobId, tuple[_Key, RequestId]] = {}
        self._base_lines: dict[_Key, BaseLine] = {}
        self._owed = OwedByAll()
        self._remaining = self._planned = self._turn = 0

    def add(self, job: JobId, demand: Demand) -> None:
        """A new job, and what it asks for."""
        self.add_all((job,), demand)

    def add_all(self, jobs: Sequence[JobId], demand: Demand) -> None:
        """New jobs of one request, and what each of them asks for. Totals change once, however many they are."""
        request = jobs[0] if demand.request is None else demand.request
        key = demand.model, demand.party.name
        if demand.base:
            self._wait_for_base(jobs, key, request)
        if demand.max_draws > demand.first:
            line = self._lines.get(key) or self._new_line(demand)
            entries = [demand.entry(job, request) for job in jobs]
            self._owe(line, entries, 1)
            for job, entry in zip(jobs, entries, strict=True):
                self._entries[job] = line, entry
                line.enter(entry, self._planned)

    def _new_line(self, demand: Demand) -> NoisyLine:
        name = demand.party.name
        lines = self._callers.get(name, 0)
        if not lines:
            self._turns.comes(name)
        self._callers[name] = lines + 1
        line = self._lines[demand.model, name] = NoisyLine(demand.model, demand.batch_rows, demand.party)
        return line

    def _end_line(self, line: NoisyLine) -> None:
        name = line.party.name
        del self._lines[line.model, name]
        self._callers[name] -= 1
        if not self._callers[name]:
            del self._callers[name]
            self._turns.leaves(name)

    def _wait_for_base(self, jobs: Collection[JobId], key: _Key, request: RequestId) -> None:
        self._base.update(dict.fromkeys(jobs, (key, request)))
        self._base_lines.setdefault(key, BaseLine()).enter(jobs, request)

    def _owe(self, line: NoisyLine, entries: Collection[Entry], sign: int) -> None:
        """Keep what is owed: a job is taken off before its forecast changes, and put on afterwards."""
        self._remaining += sign * sum(entry.remaining for entry in entries)
        self._owed.change(line.party, entries, sign)

    def update(self, job: JobId, expected: int, wanted: int | None = None) -> None:
        """A new forecast of the draws that a job still needs, and of those `wanted` before the next one: see `add`."""
        if found := self._entries.get(job):
            line, entry = found
            if entry.owes_otherwise(expected):
                self._owe(line, (entry,), -1)
                entry.remaining = expected
                self._owe(line, (entry,), 1)
            else:
                self._remaining += expected - entry.remaining
                entry.remaining = expected
            line.wish(entry, expected if wanted is None else wanted)

    def settle(self, part: Slice) -> None:
        """A slice came back, with a result or counted as lost."""
        if found := self._entries.get(part.job):
            found[0].back(found[1])

    def again(self, part: Slice) -> None:
        """A slice came to nothing: plan the same draws again, before others of its job."""
        if found := self._entries.get(part.job):
            found[0].back(found[1], part)

    def base_again(self, job: JobId, model: str, request: RequestId | None = None, party: Party = NOBODY) -> None:
        """A base prediction came to nothing: plan it again."""
        self._wait_for_base((job,), (model, party.name), job if request is None else request)

    def remove(self, job: JobId) -> None:
        """A job is finished, cancelled or expired; nothing more of it is planned."""
        self.remove_all((job,))

    def remove_all(self, jobs: Collection[JobId]) -> None:
        """The same of many jobs, whose totals change once."""
        self._remove_draws(jobs)
        waiting: dict[tuple[_Key, RequestId], list[JobId]] = {}
        for job in jobs:
            if found := self._base.pop(job, None):
                waiting.setdefault(found, []).append(job)
        for (key, request), gone in waiting.items():
            self._base_lines[key].leave(gone, request)
            if not self._base_lines[key]:
                del self._base_lines[key]

    def remove_draws(self, job: JobId) -> None:
        """A job needs no more draws, though its base prediction may still be due."""
        self._remove_draws((job,))

    def _remove_draws(self, jobs: Collection[JobId]) -> None:
        gone: dict[NoisyLine, list[Entry]] = {}
        for job in jobs:
            if found := self._entries.pop(job, None):
                gone.setdefault(found[0], []).append(found[1])
        for line, entries in gone.items():
            self._owe(line, entries, -1)
            for entry in entries:
                line.leave(entry)
            if not line:
                self._end_line(line)

    @property
    def owed(self) -> int:
        """Passes that the jobs are expected to need still, base predictions among them."""
        return self._remaining + len(self._base)

    def owed_before(self, draws: int, expected: int, party: Party = NOBODY) -> int:
        """Noisy passes that others are sure to get before a new request has the `draws` that it needs at least.

        Whoever is decided much later than the new one, with `expected` draws a row, comes after it; requests of its like
        take turns, so none of them counts for more than it does itself. Other callers get no more
        than their share beside it.
        """
        return self._owed.before(draws, expected, party)

    def base_before(self, rows: int, caller: str = "") -> int:
        """Base predictions that others get before a new request of `rows` rows has its own: callers take turns, and the
        requests of each.
        """
        by_caller: dict[str, int] = {caller: 0}
        for (_, name), line in self._base_lines.items():
            by_caller[name] = by_caller.get(name, 0) + line.before(rows)
        own = by_caller.pop(caller)
        return own + sum(min(theirs, own + rows) for theirs in by_caller.values())

    @property
    def base_waits(self) -> bool:
        """Whether a base prediction could be planned."""
        return bool(self._base)

    @property
    def draws_wait(self) -> bool:
        """Whether noisy passes are wanted."""
        return any(line.neediest() for line in self._lines.values())

    def plan_base(self) -> BasePlan | None:
        """The next base predictions, all of one model, a turn for each caller and request; None if none waits."""
        if not self._base:
            return None
        model = next(iter(self._base_lines))[0]
        jobs: list[JobId] = []
        for key in [each for each in self._base_lines if each[0] == model]:
            line = self._base_lines.pop(key)
            while line and len(jobs) < self.base_rows:
                jobs.append(line.take())
                del self._base[jobs[-1]]
            if line:  # at the end: models and callers take turns, too
                self._base_lines[key] = line
            if len(jobs) == self.base_rows:
                break
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
        """The line of whoever comes first: of the caller that has had least, the model."""
        wanting = [(line, entry) for line in self._lines.values() if (entry := line.neediest())]
        if len(wanting) < 2:
            return wanting[0][0] if wanting else None
        caller = self._turns.first({line.party.name for line, _ in wanting})
        wanting = [each for each in wanting if each[0].party.name == caller]
        if by_age:
            return min((line for line, _ in wanting), key=NoisyLine.waits_since)
        return min(wanting, key=lambda each: each[1].place())[0]

    def _batches(self, line: NoisyLine, together: Together) -> int:
        """One, unless all draws of everybody are sure to be made: what stops by what it sees has to see it, and should find
        a worker when it has. One also where something failed, so that not all of it fails together again.
        """
        return 1 if line.unsure or line.failed else together(line.model, line.sure // line.rows)

    def _fill(self, first: NoisyLine, room: int, by_age: bool) -> Iterator[Slice]:
        lines = self._beside(first)
        for takes in (
            *((line, self._wanted(line, by_age)) for line in lines),
            *((line, self._spare(line)) for line in lines),
            *((line, line.ends()) for line in lines),
        ):
            line = takes[0]
            for entry, most in takes[1] if room else ():
                for part in line.take(entry, min(most, room), self._planned):
                    room -= part.rows
                    self._turns.served(line.party, part.rows)
                    yield part
                if room < SLICE:
                    break

    def _beside(self, first: NoisyLine) -> list[NoisyLine]:
        """The lines that fill a batch: what the first leaves is for other callers of its model, before any draw in vain."""
        others = [line for line in self._lines.values() if line.model == first.model and line is not first]
        return [first, *sorted(others, key=lambda line: self._turns.had(line.party.name))]

    def _wanted(self, line: NoisyLine, by_age: bool) -> Iterator[tuple[Entry, int]]:
        """Who comes next, with as many rows as it may take: as it wants, or a slice."""
        while entry := line.oldest() if by_age else line.neediest():
            yield entry, SLICE * (1 if by_age else max(1, len(entry.again), -(-entry.wanted() // SLICE)))

    def _spare(self, line: NoisyLine) -> Iterator[tuple[Entry, int]]:
        """Whoever could make draws beyond what it wants, a slice each, round by round."""
        while some := line.spare():
            yield from ((entry, SLICE) for entry in some)
