"""The jobs that wait for a device, in the orders in which it takes them. No clock, thread or tensor.

A job is one row of a request. Its noisy draws are made in slices of `SLICE` draws; each draw takes one place of a batch.
Noisy draws are taken from a `NoisyLine`, one for each model and caller, which knows two orders. *By need*: the job that is
expected to be decided soonest comes first, so that many get their answer early. *By age*: requests take turns, a slice
each, so that none waits for ever, and a request of many jobs gets no more than a request of one. Base predictions, on the
input without noise, wait in a `BaseLine`, where requests take turns. The scheduler chooses between the orders.

Both lines answer "who is next?" without looking at everybody who waits.
"""

from __future__ import annotations

import heapq
import itertools
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from certify.claims.procedures import SLICE
from serving.engine.fair import NOBODY, Party
from serving.engine.totals import CappedTotal

JobId = int
RequestId = int
_LOOKED_AT = 64  # jobs, at most, that are asked for draws to fill rows that are left over


def size(draws: int) -> int:
    """The class of about equal need that a number of draws falls into: its number of binary digits."""
    return max(0, draws).bit_length()


@dataclass(frozen=True, slots=True)
class Slice:
    """Draws `[start, start + rows)` of one job."""

    job: JobId
    start: int
    rows: int


@dataclass(slots=True, eq=False)
class Entry:
    """What the scheduler knows of a job that draws.

    Its draws have indices: whole slices end at `whole`, and `tail` are the last draws if they do not fill a slice.
    `remaining` is the number of draws that it is expected to need, `soon` how many of them it wants before its procedure
    looks again, `least` how many it gets however great the load. Where `certain`, it does not stop by what it sees, and
    draws all it may. `again` are slices whose batch failed, `in_flight` counts slices that are being drawn.
    """

    job: JobId
    request: RequestId
    whole: int
    least: int
    remaining: int
    soon: int
    next_start: int
    tail: Slice | None
    certain: bool
    again: list[Slice] = field(default_factory=list)
    in_flight: int = 0
    queued: tuple[int, int] | None = None
    """Its place in the order by need, if it stands there."""
    turn: int = 0
    """Which of all turns its last was."""

    def available(self) -> bool:
        """Whether there are draws that nobody makes yet."""
        return bool(self.again or self.tail) or self.next_start < self.whole

    def wants(self) -> bool:
        """Whether it should get draws now: it may be undecided after what is under way."""
        return self.available() and (bool(self.again) or not self.in_flight or self.wanted() > 0)

    def wanted(self) -> int:
        """Draws that it wants beyond those under way."""
        return self.soon - self.in_flight * SLICE

    def place(self) -> tuple[int, int]:
        """Its place in the order by need. Those of about the same need take turns, or rows of one request would differ in
        their draws.
        """
        return size(self.soon), self.turn

    def sure(self) -> int:
        """How many draws it wants, if it is a job whose draws are certain to be made, else 0."""
        return max(0, self.wanted()) if self.certain else 0

    def needs(self) -> int:
        """How many draws are to be made for it however great the load: what it is expected to need, `least` at most."""
        return min(self.remaining, self.least)

    def owes_otherwise(self, remaining: int) -> bool:
        """Whether the forecast `remaining` instead of its own would change `needs`, or the class that it is counted in."""
        same = size(remaining) == size(self.remaining) and min(remaining, self.least) == self.needs()
        return not same

    def ends_within(self, room: int) -> bool:
        """Whether a failed slice, or its tail, fits into `room` places of a batch."""
        return bool((self.again and self.again[0].rows <= room) or (self.tail and self.tail.rows <= room))

    def take(self, room: int) -> Slice | None:
        """Its next draws that fit into `room` places: a failed slice, else a whole one, else the tail, which may come
        early; None where none of them fits.
        """
        if self.again and self.again[0].rows <= room:
            return self.again.pop(0)
        if self.next_start < self.whole and room >= SLICE:
            self.next_start += SLICE
            return Slice(self.job, self.next_start - SLICE, SLICE)
        if self.tail and self.tail.rows <= room:
            tail, self.tail = self.tail, None
            return tail
        return None


@dataclass(slots=True, eq=False)
class _Turns:
    """The jobs of one request, whoever waits longest first; `served` is when the request had its last turn, or came."""

    served: int
    jobs: OrderedDict[JobId, Entry] = field(default_factory=OrderedDict)


class NoisyLine:
    """The jobs of one caller that wait for noisy draws of one model, whose batches have `rows` places.

    Three totals over them are kept with every change: `sure`, the sum of `Entry.sure`; `unsure`, the number of jobs that
    stop by what they see; `failed`, the number of slices that have to be drawn again. Entries are changed through this
    class alone.
    """

    def __init__(self, model: str, rows: int, party: Party = NOBODY) -> None:
        self.model, self.rows, self.party = model, rows, party
        self.sure = self.unsure = self.failed = 0
        self._by_need: list[tuple[tuple[int, int], int, Entry]] = []
        self._turns = itertools.count()
        self._jobs = 0
        self._requests: OrderedDict[RequestId, _Turns] = OrderedDict()
        self._tails: OrderedDict[JobId, Entry] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._requests)

    def enter(self, entry: Entry, now: int) -> None:
        """A new job; `now` counts the places planned so far, which is what age is measured in."""
        self._requests.setdefault(entry.request, _Turns(now)).jobs[entry.job] = entry
        self._jobs += 1
        self.unsure += not entry.certain
        self.sure += entry.sure()
        if entry.tail:
            self._tails[entry.job] = entry
        entry.turn = next(self._turns)
        self._offer(entry)

    def leave(self, entry: Entry) -> None:
        """Nothing more of this job is planned."""
        turns = self._requests[entry.request]
        del turns.jobs[entry.job]
        if not turns.jobs:
            del self._requests[entry.request]
        self._tails.pop(entry.job, None)
        self._jobs -= 1
        self.unsure -= not entry.certain
        self.sure -= entry.sure()
        self.failed -= len(entry.again)
        entry.queued, entry.tail, entry.again, entry.whole = None, None, [], 0

    def wish(self, entry: Entry, soon: int) -> None:
        """Note how many draws this job wants before its next look."""
        self.sure -= entry.sure()
        entry.soon = soon
        self.sure += entry.sure()
        self._offer(entry)

    def back(self, entry: Entry, failed: Slice | None = None) -> None:
        """A slice of this job came back; one that `failed` has to be made again."""
        self.sure -= entry.sure()
        entry.in_flight -= 1
        self.sure += entry.sure()
        if failed:
            entry.again.append(failed)
            self.failed += 1
            if failed.rows < SLICE:
                self._tails[entry.job] = entry
        self._offer(entry)

    def _offer(self, entry: Entry) -> None:
        """Something of this job changed: enter it at its present place in the order by need, if it wants draws."""
        place = entry.place()
        if entry.queued != place and entry.wants():
            entry.queued = place
            heapq.heappush(self._by_need, (place, next(self._turns), entry))
            if len(self._by_need) > 4 * self._jobs + _LOOKED_AT:  # most of it is out of date
                self._by_need = [each for each in self._by_need if each[2].queued == each[0]]
                heapq.heapify(self._by_need)

    def neediest(self) -> Entry | None:
        """Who wants draws and is decided soonest."""
        while self._by_need:
            place, _, entry = self._by_need[0]
            if entry.queued == place and entry.wants():
                return entry
            heapq.heappop(self._by_need)
            if entry.queued == place:
                entry.queued = None
        return None

    def oldest(self) -> Entry | None:
        """Who wants draws and waits longest, of the request that waits longest."""
        for turns in self._requests.values():
            for entry in turns.jobs.values():
                if entry.wants():
                    return entry
        return None

    def waits_since(self) -> int:
        """When the request of the job that waits longest had its last turn, or came."""
        entry = self.oldest()
        return self._requests[entry.request].served if entry else sys.maxsize

    def spare(self) -> list[Entry]:
        """The first jobs by age that have draws left, wanted or not, to fill a batch that would run partly empty."""
        everybody = (entry for turns in self._requests.values() for entry in turns.jobs.values())
        return [entry for entry in itertools.islice(everybody, _LOOKED_AT) if entry.available()]

    def ends(self) -> Iterator[tuple[Entry, int]]:
        """The first jobs that came with a tail, or a failed one, and how many places that takes at most: it may fill what
        is too little room for a whole slice.
        """
        yield from [(entry, SLICE - 1) for entry in itertools.islice(self._tails.values(), _LOOKED_AT)]

    def take(self, entry: Entry, room: int, now: int) -> list[Slice]:
        """The next draws of a job that fit into `room` places; its request stands last by age from then on, and it in its
        request.
        """
        parts: list[Slice] = []
        self.sure -= entry.sure()
        self.failed -= len(entry.again)
        while room and (part := entry.take(room)):
            parts.append(part)
            room -= part.rows
        entry.in_flight += len(parts)
        self.failed += len(entry.again)
        self.sure += entry.sure()
        if parts:
            self._served(entry, now)
        return parts

    def _served(self, entry: Entry, now: int) -> None:
        if self._tails and not entry.ends_within(SLICE - 1):
            self._tails.pop(entry.job, None)
        entry.turn = next(self._turns)
        turns = self._requests[entry.request]
        turns.served = now
        turns.jobs.move_to_end(entry.job)
        self._requests.move_to_end(entry.request)
        self._offer(entry)


class BaseLine:
    """Jobs of one model and caller that wait for a base prediction; requests take turns."""

    def __init__(self) -> None:
        self._requests: OrderedDict[RequestId, OrderedDict[JobId, None]] = OrderedDict()
        self._total = CappedTotal()

    def __bool__(self) -> bool:
        return bool(self._requests)

    def enter(self, new: Iterable[JobId], request: RequestId) -> None:
        """Jobs of a request that have no base prediction."""
        jobs = self._requests.setdefault(request, OrderedDict())
        before = len(jobs)
        jobs.update(dict.fromkeys(new))
        self._total.change(before, len(jobs))

    def leave(self, gone: Iterable[JobId], request: RequestId) -> None:
        """Nobody waits for these jobs of a request any more, if they are here."""
        if (jobs := self._requests.get(request)) is None:
            return
        before = len(jobs)
        for job in gone:
            jobs.pop(job, None)
        self._total.change(before, len(jobs))
        if not jobs:
            del self._requests[request]

    def take(self) -> JobId:
        """The job whose turn it is."""
        request, jobs = next(iter(self._requests.items()))
        job, _ = jobs.popitem(last=False)
        self._total.change(len(jobs) + 1, len(jobs))
        if jobs:
            self._requests.move_to_end(request)
        else:
            del self._requests[request]
        return job

    def before(self, rows: int) -> int:
        """Predictions that are made before those of a new request of `rows` rows, at most."""
        return self._total.capped(rows)
