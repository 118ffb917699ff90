"""What one gateway has answered, by model and version, as the Open Inference Protocol's statistics count it.

Another gateway counts its own. A request counts once its body is here, over any wire; a row counts as one inference, a
request as one execution, for batches are shared among requests.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from serving.messages import Answer, Model


@dataclass(slots=True)
class Duration:
    """How often, and how long in all."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """Once more."""
        self.count += 1
        if seconds > 0:
            self.ns += round(seconds * 1e9)


@dataclass(slots=True)
class Batches:
    """The requests of one number of rows."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class ModelCounts(Batches):
    """Everything about one version of a model. `last_ms` is when the last request was answered, since 1970."""

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    inferences: int = 0
    last_ms: int = 0
    by_rows: dict[int, Batches] = field(default_factory=dict)


class Clock:
    """Takes the time of one request while its context is open: call `decoded` and `answered` as it gets there."""

    __slots__ = ("_answer", "_answered", "_began", "_counts", "_decoded")

    def __init__(self, counts: ModelCounts) -> None:
        """What it takes goes into these counts; a request that raises has failed."""
        self._counts = counts
        self._began = self._decoded = self._answered = time.perf_counter()
        self._answer: Answer | None = None

    def __enter__(self) -> Clock:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._succeeded()
        else:
            self._counts.fail.add(time.perf_counter() - self._began)

    def decoded(self) -> None:
        """The request is read, and nothing was computed for it."""
        self._decoded = time.perf_counter()

    def answered(self, answer: Answer) -> None:
        """The engine has answered; what remains is to write it."""
        self._answered, self._answer = time.perf_counter(), answer

    def _succeeded(self) -> None:
        """Count the request, now that its answer is written."""
        assert self._answer is not None
        now, rows, counts = time.perf_counter(), len(self._answer.predictions), self._counts
        counts.success.add(now - self._began)
        counts.queue.add(self._answer.queue_s)
        counts.inferences += rows
        counts.last_ms = time.time_ns() // 1_000_000
        if (alike := counts.by_rows.get(rows)) is None:
            alike = counts.by_rows[rows] = Batches()
        for each in (counts, alike):
            each.compute_input.add(self._decoded - self._began)
            each.compute_infer.add(self._answer.compute_s)
            each.compute_output.add(now - self._answered)


class Statistics:
    """The counts of one gateway."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], ModelCounts] = {}

    def of(self, model: Model) -> ModelCounts:
        """The counts of one version of a model."""
        place = model.manifest.name, model.manifest.version
        if (found := self._counts.get(place)) is None:
            found = self._counts[place] = ModelCounts()
        return found

    def request(self, model: Model) -> Clock:
        """For while one request is read, answered and written."""
        return Clock(self.of(model))
