"""What a runtime has to show before it serves: the golden outputs, and that a row's answer is its own.

A certificate speaks of one function of the input. A runtime whose result depends on a row's place in the batch or on its
mates computes another function for each batch, and nothing would be proven of any of them. `export.graphs` shows that no
node joins rows; what is left is the order in which a runtime adds up the numbers of one row, and that is tried here.
Compared are the bits of the numbers that decide, not the decisions: those differ near ties alone, the bits everywhere.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certify.claims.confidence import labels_of
from export.bundle import Bundle
from export.bundle.files import GOLDEN
from serving.models import probes
from serving.models.probes import Effort, ProbeRows
from serving.runtimes.runtime import DrawRange, Runtime, given

_Evidence = dict[str, NDArray[Any]]
_SUM_TOLERANCE = 1e-3
_PROVEN_NUMBERS, _LEAST_ROWS = 2**20, 64
_KEY, _HIGH = bytes(range(16)), 2**33 + 5


class ProofError(RuntimeError):
    """A runtime does not compute what its bundle declares."""


def prove(bundle: Bundle, runtime: Runtime, base_rows: int) -> None:
    """Raise `ProofError` unless the runtime reproduces the golden outputs, in every slot and among any mates.

    Noisy passes run `batch_rows` of the manifest at a time, base passes `base_rows`.
    """
    _several(bundle)
    _prove_noise(bundle, runtime)
    effort = Effort.of(runtime.multiplications)
    noisy = _Slots(bundle, runtime, runtime.noisy_evidence, bundle.manifest.batch_rows, "noisy graph")
    base = _Slots(bundle, runtime, runtime.base_evidence, base_rows, "base graph")
    _prove_noisy(bundle, runtime, noisy, effort)
    _prove_base(bundle, runtime, base, effort)


def _several(bundle: Bundle) -> None:
    golden = bundle.golden
    for name, rows in (("noisy_input", golden.noisy_input), ("base_input", golden.base_input)):
        if len(np.unique(rows, axis=0)) < 2:
            raise ProofError(
                f"{bundle.key}: {GOLDEN} holds one {name} only, and a row is proven beside others; give several"
            )


def _prove_noise(bundle: Bundle, runtime: Runtime) -> None:
    """What the graph is given has to be what the law says, integer by integer: a million of them, at low and at high
    indices, in whole slices and in others.
    """
    law = bundle.law.at(bundle.golden.base_input[0])
    rows = max(_LEAST_ROWS, -(-_PROVEN_NUMBERS // bundle.manifest.input.size))
    cuts = _cuts(rows)
    ranges = [DrawRange(law, _KEY, first, last) for first, last in itertools.pairwise(cuts)]
    ranges += [DrawRange(law, _KEY[::-1], _HIGH + first, _HIGH + last) for first, last in itertools.pairwise(cuts[1:4])]
    expected = [law.sample(each.key, each.start, each.stop) for each in ranges]
    if not np.array_equal(runtime.drawn(ranges), np.concatenate(expected)):
        raise ProofError(
            f"{bundle.key}: {runtime.description} draws other noise than the definition of {law.stream}; on a processor,"
            " remove numba to draw without compiled code"
        )


def _cuts(rows: int) -> list[int]:
    """Where ranges of so many draws begin and end: whole slices and others, in order however few rows a large input has."""
    return sorted({0, 1, 33, max(34, rows // 2), rows})


def _prove_noisy(bundle: Bundle, runtime: Runtime, slots: _Slots, effort: Effort) -> None:
    golden = bundle.golden
    found = slots.answers(golden.noisy_input)
    slots.everywhere(golden.noisy_input[:2])  # first, since its message is the better one
    _check_served(bundle, runtime, slots.rows, found)
    votes = found["vote"]
    if not np.array_equal(votes, golden.votes):
        differ = int(np.sum(votes != golden.votes))
        raise ProofError(f"{bundle.key}: {differ} golden votes differ under {runtime.description}")
    _close(bundle, found["score"], golden.scores, f"golden scores under {runtime.description}")
    rows = probes.random_rows(bundle, -(-effort.random // slots.rows) * slots.rows, seed=0)
    answers = slots.answers(rows)
    _check_answers(bundle, answers)
    known, all_votes = np.concatenate([golden.noisy_input, rows[:64]]), np.concatenate([votes, answers["vote"][:64]])
    ties = probes.near_ties(known, all_votes, lambda batch: slots.answers(batch)["vote"], effort.ties, slots.rows)
    everywhere = _first(effort.everywhere, golden.noisy_input, ties, rows)
    slots.everywhere(everywhere)
    slots.beside(everywhere, probes.extremes(bundle))
    slots.shuffled(rows)


def _prove_base(bundle: Bundle, runtime: Runtime, slots: _Slots, effort: Effort) -> None:
    golden = bundle.golden
    probabilities = slots.answers(golden.base_input)["probabilities"]
    slots.everywhere(golden.base_input[:2])
    _close(bundle, probabilities, golden.base_probabilities, f"golden probabilities under {runtime.description}")
    rows = probes.clean_rows(bundle, effort.random // 32, seed=1)
    _check_sums(bundle, slots.answers(np.concatenate([golden.base_input, rows]))["probabilities"])
    slots.everywhere(golden.base_input)
    slots.beside(golden.base_input, rows[:2])
    slots.shuffled(rows)


def _first(count: int, golden: ProbeRows, ties: ProbeRows, rows: ProbeRows) -> ProbeRows:
    """Some of each: two fifths golden rows, as many near ties, the rest chance."""
    share = 2 * count // 5
    some = np.concatenate([golden[:share], ties[:share]])
    return np.concatenate([some, rows[: count - len(some)]])


class _Slots:
    """Runs batches and remembers the bits of every row's evidence: a row has to give the same whenever it is seen again."""

    def __init__(
        self, bundle: Bundle, runtime: Runtime, run: Callable[[ProbeRows], _Evidence], rows: int, graph: str
    ) -> None:
        self.rows = rows
        self._bundle, self._runtime, self._run, self._graph = bundle, runtime, run, graph
        self._seen: dict[bytes, dict[str, bytes]] = {}

    def answers(self, rows: ProbeRows) -> _Evidence:
        """The evidence of these rows, batch after batch; the last one is filled up with its first row."""
        parts = [self._batch(batch) for batch in _batches(rows, self.rows)]
        return {name: np.concatenate([part[name] for part in parts])[: len(rows)] for name in parts[0]}

    def everywhere(self, rows: ProbeRows) -> None:
        """Each of these rows fills a batch, and so is seen in every slot, beside its like."""
        for row in rows:
            self._batch(np.repeat(row[None], self.rows, axis=0))

    def beside(self, rows: ProbeRows, mates: ProbeRows) -> None:
        """These rows and one of `mates` in turn, in even and in odd slots; then a single mate among the rows."""
        slots = np.arange(self.rows)
        for count, mate in enumerate(mates):
            for odd in (0, 1):
                batch = rows[(slots // 2 + count) % len(rows)]
                batch[slots % 2 == odd] = mate
                self._batch(batch)
            batch = rows[(slots + count) % len(rows)]
            batch[count % self.rows] = mate
            self._batch(batch)

    def shuffled(self, rows: ProbeRows) -> None:
        """All of these rows again, in other slots and beside others."""
        self.answers(rows[np.random.default_rng(2).permutation(len(rows))])

    def _batch(self, batch: ProbeRows) -> _Evidence:
        evidence = self._run(batch)
        bits = {name: _bits(values) for name, values in evidence.items()}
        for slot, row in enumerate(batch):
            own = {name: found[slot] for name, found in bits.items()}
            first = self._seen.setdefault(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), own)
            if first != own:
                raise ProofError(self._refusal(next(name for name in own if first[name] != own[name])))
        return evidence

    def _refusal(self, name: str) -> str:
        suspects = "; ".join(self._runtime.suspects[:3])
        mend = (
            f"suspect {suspects}: add up by a product with ones (MatMul), which keeps the order"
            if suspects
            else "export it with operators that keep rows apart, or serve it on another device"
        )
        return (
            f"{self._bundle.key}: an answer depends on its place in the batch or on the rows beside it, in {name!r} of the"
            f" {self._graph} under {self._runtime.description}; {mend}"
        )


def _batches(rows: ProbeRows, size: int) -> Iterator[ProbeRows]:
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield np.concatenate([part, np.repeat(rows[:1], size - len(part), axis=0)])


def _bits(values: NDArray[Any]) -> Sequence[bytes]:
    """A digest of each row's bits; one that is not a number has many bit patterns, which nothing tells apart."""
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    if flat.dtype.kind == "f":
        flat = np.where(np.isnan(flat), flat.dtype.type(np.nan), flat)
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in flat]


def _check_served(bundle: Bundle, runtime: Runtime, rows: int, found: _Evidence) -> None:
    """What is proven has to be what is served, which asks the same session for fewer outputs, in as many places as the
    runtime has batches in flight.
    """
    batch = next(_batches(bundle.golden.noisy_input, rows))
    vote, score = runtime.noisy(given(np.concatenate([batch] * runtime.ahead)))
    count = min(rows, len(bundle.golden.noisy_input))
    which = [*range(count), *[0] * (rows - count)]
    for name, served in (("vote", vote), ("score", score)):
        for start in range(0, len(served), rows):
            if _bits(served[start : start + rows]) != _bits(found[name][which]):
                raise ProofError(f"{bundle.key}: {name!r} differs by what else is asked of {runtime.description}")


def _check_answers(bundle: Bundle, answers: _Evidence) -> None:
    votes, scores, labels = answers["vote"], answers["score"], len(bundle.manifest.labels)
    graded, last = votes > labels, bundle.manifest.last_vote
    if np.any((votes < 0) | (votes > last) | (graded & (labels_of(votes, labels) == labels))):
        raise ProofError(
            f"{bundle.key}: the noisy graph votes beyond 0 to {labels} ({labels} for none)"
            + (f", or with a grade beyond 0 to {last} or of none" if last > labels else "")
            + "; export it so"
        )
    if bundle.manifest.ood is not None and len(np.unique(scores)) < 2:
        raise ProofError(
            f"{bundle.key}: the noisy graph gives the same score, {scores[0]:g}, to {len(scores)} inputs; export it with"
            f" the declared score ({bundle.manifest.ood.score})"
        )


def _check_sums(bundle: Bundle, probabilities: NDArray[np.float32]) -> None:
    """A row with what is not finite is left out of answers by the engine; scores need not be probabilities."""
    if bundle.manifest.base_output == "scores":
        return
    finite = probabilities[np.isfinite(probabilities).all(axis=1)].astype(float)
    off = np.abs(finite.sum(axis=1) - 1)
    if np.any(finite < 0) or np.any(off > _SUM_TOLERANCE):
        raise ProofError(
            f"{bundle.key}: the base graph gives probabilities below 0, or that sum to one but for {off.max(initial=0):.2g};"
            " export it with a softmax at its end"
        )


def _close(bundle: Bundle, found: NDArray[np.float32], wanted: NDArray[np.float32], what: str) -> None:
    scale, tolerance = np.maximum(1.0, np.abs(wanted)), bundle.manifest.golden_tolerance
    worst = float(np.max(np.abs(found.astype(float) - wanted) / scale))
    if not worst <= tolerance:
        raise ProofError(f"{bundle.key}: {what} are off by {worst:.2g}, more than the bundle's {tolerance:g}")
