"""What is in flight on one device: a request, its rows, and how it is answered. No thread, clock or I/O."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from serving import log
from serving.engine.job import Job
from serving.engine.line import JobId, RequestId
from serving.engine.proven import Proven
from serving.engine.shares import ShareJob
from serving.errors import SEE_LOG, CertserveError, Internal
from serving.messages import Prediction, Reply, Share

Outcome = Reply[Any] | CertserveError
_log = logging.getLogger("certserve.engine")


@dataclass(slots=True, eq=False)
class Underway:
    """A request: when it `arrived` and was `started`, its answers so far, a place for each row, and the jobs of the rest.

    The job of its `first` row has that number, the others follow. `digest` is that of its bundle. Of one that is `followed`
    somebody wants to know what is proven meanwhile.
    """

    arrived: float
    answers: list[Prediction | Share | None]
    first: JobId
    digest: str
    id: str
    trace_id: str
    followed: bool
    jobs: set[JobId]
    started: float | None = None

    def reply(self, now: float, by: Proven, rows: Sequence[Any] = ()) -> Reply[Any]:
        """Its answers, or what was said of its `rows` so far, and the time that it took."""
        started = now if self.started is None else self.started
        whole: tuple[Any, ...] = tuple(rows or (answer for answer in self.answers if answer is not None))
        queued, ran = started - self.arrived, now - started
        return Reply(rows=whole, queue_s=queued, compute_s=ran, digest=by.digest, runtime=by.runtime)

    def log(self, error: CertserveError) -> None:
        """Say for the operator why it is refused, where its client is told to look there."""
        if SEE_LOG in error.message:
            extra = log.about(self.id, self.trace_id)
            _log.error("request %s is refused: %s", self.id, error.message, extra=extra)


@dataclass(slots=True, eq=False)
class RowUnderway:
    """One row of a request that is not answered yet, and how often parts of it came to nothing."""

    job: Job | ShareJob
    request: RequestId
    place: int
    failures: dict[int, int] = field(default_factory=dict)

    def failed(self, what: int) -> int:
        """A slice, by its first draw, or something else, by a number below 0, came to nothing: how often it did by now."""
        self.failures[what] = self.failures.get(what, 0) + 1
        return self.failures[what]

    def defect(self) -> Internal:
        """What a request is refused with where the answer of this row could not be composed; to be called where that was
        seen.
        """
        _log.exception("%s: an answer could not be composed", self, extra=about(self.job))
        return Internal(f"row {self.place}: an answer could not be composed; {SEE_LOG}")

    def __str__(self) -> str:
        """As the log speaks of it."""
        return f"request {self.job.request_id}, row {self.place}"


@dataclass(frozen=True, slots=True, eq=False)
class Unwritten:
    """The outcome of a request whose remaining rows have ended as they were, still to be composed; nothing in flight is
    touched by that.
    """

    request: Underway
    rows: Sequence[RowUnderway]
    now: float
    by: Proven

    def written(self) -> Outcome:
        """Compose it."""
        for row in self.rows:
            try:
                self.request.answers[row.place] = row.job.answer()
            except Exception:
                error = row.defect()
                self.request.log(error)
                return error
        return self.request.reply(self.now, self.by)


def about(job: Job | ShareJob) -> dict[str, str]:
    """What a line of the log about a job carries beside its text."""
    return log.about(job.request_id, job.trace_id)
