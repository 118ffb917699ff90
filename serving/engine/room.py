"""Whether there is room for one more request beside those in flight, and for how much of it. No thread, clock or I/O.

Under pressure budgets shrink first: a request is refused only where what others are sure to get before it does not leave
what it needs at least.
"""

from __future__ import annotations

from collections.abc import Sequence

from certify.claims.procedures import SLICE
from serving.engine.job import Job
from serving.engine.scheduler import Scheduler
from serving.engine.shares import ShareJob
from serving.errors import Overloaded

_MOST_S = 60.0  # that a client is told to wait


def make_room(
    scheduler: Scheduler,
    jobs: Sequence[Job | ShareJob],
    timeout_s: float,
    draws_per_second: float,
    predictions_per_second: float,
    max_pending: int,
) -> None:
    """Let the jobs of one request in, which all ask for the same, with as many draws as there is room for. Raises
    `Overloaded`.
    """
    _for_base(scheduler, jobs, timeout_s, predictions_per_second)
    _for_draws(scheduler, jobs, timeout_s, draws_per_second, max_pending)


def _for_base(scheduler: Scheduler, jobs: Sequence[Job | ShareJob], timeout_s: float, per_second: float) -> None:
    """Refuse a request whose base predictions would not be there in its time: without them there is no answer at all. A
    lone one never is refused.
    """
    rows = 0 if jobs[0].has_base else len(jobs)
    before = scheduler.base_before(rows, jobs[0].party.name)
    if before and before + rows > per_second * timeout_s:
        late = (before + rows) / per_second - timeout_s
        raise Overloaded(
            f"{before} predictions come before the {rows} of this request: over what can be made in its time; try again"
            " later, allow more time or send fewer rows",
            retry_after_s=min(_MOST_S, max(1.0, late)),
        )


def _for_draws(
    scheduler: Scheduler, jobs: Sequence[Job | ShareJob], timeout_s: float, per_second: float, max_pending: int
) -> None:
    """Give a request no more than half of what can be drawn in its time beside what others are sure to get before it, so
    that budgets fall smoothly. It is refused where that does not leave its own least; a lone one never is.
    """
    one = jobs[0]
    least = len(jobs) * one.least_draws
    if not least:  # it draws nothing
        return
    before = scheduler.owed_before(least, one.forecast()[0], one.party)
    if not before:
        return
    can = min(float(max_pending), per_second * timeout_s)
    if before + least > can:
        raise Overloaded(
            f"{before} draws come before the {least} that this request needs at least: over what can be drawn in its"
            " time; try again later, allow more time or send fewer rows",
            retry_after_s=min(_MOST_S, max(1.0, (before + least - can) / max(per_second, 1.0))),
        )
    granted = int(can - before) // (2 * len(jobs))
    if granted < one.max_draws + SLICE:  # with more nothing would be shorter
        for job in jobs:
            job.shorten(granted)
