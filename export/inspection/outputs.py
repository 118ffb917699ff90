"""What the outputs of a foreign graph are, by running it: logits, softmax, sigmoid or scores, or none that classifies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto

from export.inspection.given import FLOATS
from export.sources.source import SourceError

Kind = Literal["logits", "softmax", "sigmoid", "scores"]
KINDS: tuple[Kind, ...] = ("logits", "softmax", "sigmoid", "scores")
OF_ONE = 1e-3
"""How far the probabilities of a row may sum from 1, as in a bundle."""
_ROUNDING = 4 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """One output of the graph: `size` numbers a row, or None where it does not classify; `why` in words.

    `sure`: nothing else gives such numbers. One number a row may be a quantity as well, and then nothing is a label.
    `as_said`: of a kind that the user says.
    """

    name: str
    kind: Kind | None
    size: int | None
    why: str
    sure: bool = True
    as_said: bool = False

    @property
    def labels(self) -> int:
        """How many labels it tells apart: one number tells two."""
        return 2 if self.size == 1 else self.size or 0


def candidates(model: ModelProto, name: str) -> list[str]:
    """The outputs that hold floats. Raises `SourceError`, with the mend, where there are none."""
    found = [
        each.name
        for each in model.graph.output
        if each.type.WhichOneof("value") == "tensor_type" and each.type.tensor_type.elem_type in FLOATS
    ]
    if not model.graph.output:
        raise SourceError(f"{name} has no output; export it with the scores of its labels")
    if not found:
        said = ", ".join(f"{each.name!r} ({_type_name(each)})" for each in model.graph.output)
        maps = any(each.type.WhichOneof("value") == "sequence_type" for each in model.graph.output)
        mend = (
            "convert the model again without dictionaries (zipmap=False), so that it gives its probabilities as a tensor"
            if maps
            else "export it with the scores of its labels"
        )
        raise SourceError(f"{name} gives {said}, and none of them is a tensor of floats; {mend}")
    return found


def other_outputs(model: ModelProto, floats: list[str]) -> list[Output]:
    """The outputs that cannot classify, by their type."""
    return [
        Output(name=each.name, kind=None, size=None, why=f"{_type_name(each)}: left out")
        for each in model.graph.output
        if each.name not in floats
    ]


def _type_name(value: ValueInfoProto) -> str:
    which = value.type.WhichOneof("value")
    if which == "sequence_type":
        inner = value.type.sequence_type.elem_type.WhichOneof("value")
        return "a sequence of maps" if inner == "map_type" else "a sequence"
    if which != "tensor_type":
        return str(which).removesuffix("_type")
    kind = value.type.tensor_type.elem_type
    return {7: "int64", 6: "int32", 8: "strings", 9: "booleans"}.get(kind, "a tensor of another type")


def told(name: str, values: NDArray[Any], rows: int, last: str | None) -> Output:
    """What this output is, from its numbers for `rows` inputs; `last` is the operator that makes it."""
    if values.ndim == 0 or values.shape[0] != rows:
        return Output(name=name, kind=None, size=None, why=f"shape {list(values.shape)} for {rows} rows: left out")
    if sum(size > 1 for size in values.shape[1:]) > 1:
        return Output(name=name, kind=None, size=None, why=f"a map of {list(values.shape[1:])} a row: left out")
    if not values.size:
        return Output(name=name, kind=None, size=None, why="no number at all: left out")
    flat = values.reshape(rows, -1).astype(np.float64)
    size = flat.shape[1]
    kind, why = _kind(flat, last)
    why += "" if varies(flat) else ", the same for all that was tried"
    return Output(name=name, kind=kind, size=size, why=why, sure=size > 1 or last == "Sigmoid")


def as_said(output: Output, kind: Kind, values: NDArray[Any], name: str) -> Output:
    """The same, of the kind that the user says. Raises `SourceError` where its numbers `values` contradict that."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    finite = flat[np.isfinite(flat).all(axis=1)]
    wrong = ""
    if kind in ("softmax", "sigmoid") and not _within(finite):
        wrong = f"numbers from {finite.min():.3g} to {finite.max():.3g}, beyond 0 to 1"
    elif kind == "softmax" and not _sum_to_one(finite):
        wrong = f"rows that sum to {finite[0].sum():.3g}, and not to 1"
    elif kind == "logits" and output.size == 1 and output.sure:
        wrong = "what a Sigmoid has made, one number a row"
    if wrong:
        raise SourceError(f"--output-kind {kind}: {name} gives {wrong}, as {output.name!r}; say another kind, or none")
    return Output(name=output.name, kind=kind, size=output.size, why="as you said", as_said=True)


def varies(numbers: NDArray[Any]) -> bool:
    """Whether numbers [rows, n] differ from row to row by more than rounding."""
    flat = numbers.reshape(len(numbers), -1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return not np.all(np.ptp(flat, axis=0) <= _ROUNDING * np.abs(flat).max(axis=0))


def _kind(flat: NDArray[np.float64], last: str | None) -> tuple[Kind, str]:
    finite = flat[np.isfinite(flat).all(axis=1)]
    if not len(finite):
        raise SourceError("no row of its output is finite on what was tried; check the model, or give --samples")
    within, size = _within(finite), flat.shape[1]
    if within and size > 1 and _sum_to_one(finite):
        return "softmax", "every row lies in 0 to 1 and sums to one"
    if last == "Sigmoid":
        return (
            "sigmoid",
            "made by Sigmoid, and rows do not sum to one" if size > 1 else "made by Sigmoid, one number a row",
        )
    if within:
        return (
            ("sigmoid", "one number a row, in 0 to 1")
            if size == 1
            else (
                "scores",
                "every row lies in 0 to 1, and rows do not sum to one",
            )
        )
    return "logits", "numbers beyond 0 to 1"


def _within(finite: NDArray[np.float64]) -> bool:
    return bool((finite >= 0).all() and (finite <= 1 + 1e-6).all())


def _sum_to_one(finite: NDArray[np.float64]) -> bool:
    return bool(np.all(np.abs(finite.sum(axis=1) - 1) <= OF_ONE))


def chosen(found: Mapping[str, Output], wanted: str | None, name: str) -> Output:
    """The output that classifies. Raises `SourceError` that names the flag where it cannot be told."""
    able = [each for each in found.values() if each.kind is not None]
    if wanted is not None:
        if wanted not in found:
            raise SourceError(f"{name} has no output {wanted!r} of floats; --output is one of {', '.join(found)}")
        if found[wanted].kind is None:
            raise SourceError(
                f"{name}: the output {wanted!r} has {found[wanted].why.removesuffix(': left out')}; expected one row of"
                " numbers for each input"
            )
        return found[wanted]
    if not able:
        said = "; ".join(f"{each.name!r}: {each.why.removesuffix(': left out')}" for each in found.values())
        raise SourceError(
            f"{name} gives no row of numbers for each input ({said}): it is no classifier of whole inputs"
        )
    probable = [each for each in able if each.kind == "softmax"]
    if len(able) == 1 or len(probable) == 1:
        return able[0] if len(able) == 1 else probable[0]
    said = ", ".join(f"{each.name} ({each.size} numbers, {each.kind})" for each in able)
    raise SourceError(f"{name} has several outputs that may classify: {said}; say which with --output NAME")
