"""Grades of votes, for the claim of confidence: thresholds chosen from noisy passes, and the head that compares with them.

A vote leaves the graph as `label + (labels + 1) * grade`, one integer; the grade is how many thresholds the voted label's
own probability exceeds. A vote for none has no grade. See `certify.claims.confidence`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from certify.smoothing.law import Law
from export.build.passes import noisy_lattice, row_key
from export.build.score_graph import ending
from export.sources.source import SourceError

CLAIM = "confidence"
"""As `--also` names it."""
THRESHOLDS = 8
"""More divide alpha further and gain little: `python -m benchmarks.confidence`."""
_PROBABILITIES, _OWN = "probabilities", "confidence/"
_CANDIDATES, _BITS = 128, 10
_APART = 2**-12
"""How far, relatively, a threshold lies below the number that it is made of at least: more than rounding may move that."""
_ROUNDING = 1e-6
_TOGETHER = 256


def confidences(
    run: Callable[[NDArray[Any]], dict[str, NDArray[Any]]], lattice: NDArray[np.int32], law: Law, draws: int
) -> NDArray[np.float32]:
    """What the network gives the label that it votes for, of `draws` noisy passes of each input [rows, *shape]; 0 where it
    votes for none. `run` gives probabilities and votes. Raises `SourceError` where one of these is below 0.
    """
    found = []
    for row, one in enumerate(lattice):
        for start in range(0, draws, _TOGETHER):
            stop = min(draws, start + _TOGETHER)
            given = run(noisy_lattice(one, law, row_key("confidence", row), start, stop))
            _check_none_below(given[_PROBABILITIES])
            numbers = np.pad(given[_PROBABILITIES], ((0, 0), (0, 1)))  # none has no number
            found.append(np.take_along_axis(numbers, given["vote"][:, None], axis=1)[:, 0])
    seen: NDArray[np.float32] = np.nan_to_num(np.concatenate(found)).astype(np.float32)
    return seen


def _check_none_below(numbers: NDArray[np.floating]) -> None:
    """Such a number counts as 0, and its mean would be less than what is claimed."""
    least = float(np.min(numbers, initial=0.0, where=np.isfinite(numbers)))
    if least < -_ROUNDING:
        raise SourceError(
            f"--also confidence needs probabilities, and under noise the network gives a label {least:.3g}; end it with a"
            " softmax, or leave it out"
        )


def chosen(seen: NDArray[np.floating], count: int = THRESHOLDS) -> tuple[float, ...]:
    """The thresholds, up to `count`, with which the lower sum of these confidences is largest: floats with few digits.

    Raises `SourceError` where there is nothing to compare.
    """
    numbers = np.sort(np.asarray(seen, np.float64))
    at = np.unique(numbers[np.linspace(0, numbers.size - 1, _CANDIDATES).astype(int)])
    candidates = sorted({each for each in map(_below, at.tolist()) if each > 0})
    if not candidates:
        raise SourceError(
            "--also confidence: the network votes for no label with any confidence under noise; leave it out"
        )
    share = 1 - np.searchsorted(numbers, candidates, side="right") / numbers.size
    return tuple(candidates[place] for place in _largest_sum(np.array(candidates), share, min(count, len(candidates))))


def _below(number: float) -> float:
    """The largest float of few digits below it: what is compared with it exceeds it."""
    if number <= 0:
        return 0.0
    part, power = math.frexp(min(number, 1.0) * (1 - _APART))
    return math.ldexp((math.ceil(math.ldexp(part, _BITS)) - 1) / 2**_BITS, power)


def _largest_sum(at: NDArray[np.float64], share: NDArray[np.float64], count: int) -> list[int]:
    """The places whose `sum_j (at_j - at_(j-1)) share_j` is largest: the best sum that ends at each, one threshold more at a
    time.
    """
    best, ways = at * share, [[place] for place in range(at.size)]
    for _ in range(count - 1):
        sums = best[:, None] + (at[None, :] - at[:, None]) * share[None, :]
        sums[np.tril_indices(at.size)] = -np.inf  # they rise
        before = sums.argmax(axis=0)
        more = sums[before, np.arange(at.size)]
        ways = [[*ways[before[i]], i] if more[i] > best[i] else ways[i] for i in range(at.size)]
        best = np.maximum(best, more)
    return ways[int(best.argmax())]


def graded(noisy: bytes, whole: bytes, thresholds: Sequence[float], labels: int) -> bytes:
    """The noisy graph with grades in its votes. `whole` is the graph that it was made of, in which probabilities are as
    well: `largest` is its label with the largest number, `lost` says where that is none.
    """
    model, made = onnx.load_from_string(noisy), onnx.load_from_string(whole)
    _join(made, model)
    for node in made.graph.node:
        node.output[:] = [f"{_OWN}label" if name == "vote" else name for name in node.output]
    made.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([-1, 1], np.int64), f"{_OWN}column"),
            numpy_helper.from_array(np.array([-1], np.int64), f"{_OWN}row"),
            numpy_helper.from_array(np.array([thresholds], np.float32), f"{_OWN}thresholds"),
            numpy_helper.from_array(np.full((len(thresholds), 1), labels + 1, np.float32), f"{_OWN}steps"),
        ]
    )
    made.graph.node.extend(
        [
            helper.make_node("Reshape", ["largest", f"{_OWN}column"], [f"{_OWN}place"]),
            helper.make_node("GatherElements", [_PROBABILITIES, f"{_OWN}place"], [f"{_OWN}number"], axis=1),
            helper.make_node("Greater", [f"{_OWN}number", f"{_OWN}thresholds"], [f"{_OWN}exceeded"]),
            helper.make_node("Cast", [f"{_OWN}exceeded"], [f"{_OWN}ones"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", [f"{_OWN}ones", f"{_OWN}steps"], [f"{_OWN}grades"]),
            helper.make_node("Reshape", [f"{_OWN}grades", f"{_OWN}row"], [f"{_OWN}grade of a row"]),
            helper.make_node("Cast", [f"{_OWN}grade of a row"], [f"{_OWN}grade"], to=TensorProto.INT64),
            helper.make_node("Add", ["largest", f"{_OWN}grade"], [f"{_OWN}graded"]),
            helper.make_node("Where", ["lost", "none", f"{_OWN}graded"], ["vote"]),
        ]
    )
    return ending(made, {each.name: _told(each) for each in model.graph.output})


def _join(made: ModelProto, more: ModelProto) -> None:
    """Add to a graph what another one, of the same network, computes besides."""
    known = {name for node in made.graph.node for name in node.output}
    constants = {each.name for each in made.graph.initializer}
    made.graph.node.extend(node for node in more.graph.node if not known & set(node.output))
    made.graph.initializer.extend(each for each in more.graph.initializer if each.name not in constants)
    made.ir_version = max(made.ir_version, more.ir_version)


def _told(output: onnx.ValueInfoProto) -> tuple[int, list[int]]:
    kind = output.type.tensor_type
    return kind.elem_type, [dim.dim_value for dim in kind.shape.dim[1:]]
