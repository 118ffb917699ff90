"""All that is found of a foreign model, by reading its nodes and by running it, before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from export.graphs.reading import GraphError
from export.graphs.rows import follow
from export.inspection.given import FLOATS, Given, freed, given, sizes
from export.inspection.outputs import Kind, Output, as_said, candidates, chosen, other_outputs, told
from export.inspection.structure import Structure, maker, structure
from export.sources.onnx_file import opset_of
from export.sources.running import GraphRun, in_chunks, open_graph
from export.sources.source import Source, SourceError

TRIED = 8
SAME = 1e-5
"""How far a row may lie from the original's once the batch is free, of the largest number of the output."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A model that can be served. `model` gives the chosen output alone, for any number of rows of `shape`.

    `original` is the file as it came, as a function of values in the model's own units.
    """

    name: str
    model: ModelProto
    original: GraphRun
    given: Given
    shape: tuple[int, ...]
    outputs: Sequence[Output]
    output: Output
    structure: Structure
    opset: int
    size: int


def inspect(
    source: Source,
    *,
    shape: tuple[int, ...] | None = None,
    samples: NDArray[Any] | None = None,
    output: str | None = None,
    output_kind: Kind | None = None,
    where_open: bool = False,
) -> Found:
    """What the model is. `samples` [n, *shape] are inputs in its own units; without them some are made up.

    `output_kind` is what the user says of its output, or, `where_open`, of one whose kind running it leaves open. Raises
    `SourceError` for what cannot be served.
    """
    model, name = source.model, source.name
    entry = given(model, name)
    row = sizes(entry, samples.shape[1:] if samples is not None else shape, name)
    values = made_up(row) if samples is None else samples[:TRIED]
    values = values if entry.kind in FLOATS else np.rint(np.clip(values, 0, 255))
    floats = candidates(model, name)
    original = _original(source, entry, floats)
    free = freed(model, entry, row)
    said = original(values.astype(_numpy(entry)))
    found = {each: told(each, said[each], len(values), maker(model, each)) for each in floats}
    best = chosen(found, output, name)
    if output_kind is not None and not (where_open and best.sure):
        best = as_said(best, output_kind, said[best.name], name)
    if best.size == 1 and best.kind == "scores":
        raise SourceError(
            f"{name} gives one number a row, {best.name!r}, that is no probability: this is no classifier"
        )
    pruned = _pruned(free, entry.name, best.name, name)
    _check_rows(pruned, entry, row, best, said[best.name], name)
    _check_freed(pruned, best.name, values.astype(_numpy_free(entry)), said[best.name], name)
    return Found(
        name=name,
        model=pruned,
        original=original,
        given=entry,
        shape=row,
        outputs=[*found.values(), *other_outputs(model, floats)],
        output=best,
        structure=structure(pruned, entry.name, best.name),
        opset=opset_of(model),
        size=len(source.original),
    )


def made_up(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Inputs to try where none are given: chance in 0 to 1, about 0, and in 0 to 255."""
    generator = np.random.default_rng(0)
    rows = [generator.random(shape) if row % 2 else generator.standard_normal(shape) for row in range(TRIED)]
    rows[-1], rows[-2] = 255 * rows[-1], np.zeros(shape)
    return np.stack(rows).astype(np.float32)


def _numpy(entry: Given) -> Any:
    return helper.tensor_dtype_to_np_dtype(entry.kind)


def _numpy_free(entry: Given) -> Any:
    return _numpy(entry) if entry.kind in FLOATS else np.float32


def _original(source: Source, entry: Given, floats: list[str]) -> GraphRun:
    run = open_graph(source.original, source.name, floats)
    return in_chunks(run, entry.batch) if entry.batch is not None else run


def _pruned(model: ModelProto, entry: str, output: str, name: str) -> ModelProto:
    """The part of the graph that leads to one output."""
    if [each.name for each in model.graph.output] == [output]:
        return model
    kept = ModelProto()
    kept.CopyFrom(model)
    needed, nodes = {output}, []
    for node in reversed(kept.graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed.update(each for each in node.input if each)
            needed.update(_of_subgraphs(node))
    keep = [node for node in kept.graph.node if any(node is each for each in nodes)]
    graph = ModelProto()
    graph.CopyFrom(kept)
    del graph.graph.node[:], graph.graph.output[:], graph.graph.initializer[:]
    graph.graph.node.extend(keep)
    graph.graph.initializer.extend(each for each in kept.graph.initializer if each.name in needed)
    graph.graph.output.extend(each for each in kept.graph.output if each.name == output)
    return graph


def _of_subgraphs(node: Any) -> set[str]:
    return {
        name
        for attribute in node.attribute
        for graph in [attribute.g, *attribute.graphs]
        for inner in graph.node
        for name in [*inner.input, *_of_subgraphs(inner)]
        if name
    }


def _check_rows(
    model: ModelProto, entry: Given, shape: tuple[int, ...], output: Output, said: NDArray[Any], name: str
) -> None:
    """Each row is answered by itself, by what serving would allow, and with more than the number of a label."""
    kind = entry.kind if entry.kind in FLOATS else TensorProto.FLOAT
    try:
        fact = follow(model, shape, name, kind, entry.name).facts.get(output.name)
    except GraphError as error:
        raise SourceError(str(error)) from error
    if fact is not None and output.size == 1 and fact.jumps and np.array_equal(said, np.rint(said)):
        raise SourceError(
            f"{name} gives one whole number a row, {output.name!r}: the number of a label, and no score of any; export it"
            " with the scores of its labels"
        )


def _check_freed(model: ModelProto, output: str, values: NDArray[Any], said: NDArray[Any], name: str) -> None:
    """The graph with free rows gives the original's numbers, all rows at once and one alone."""
    run = open_graph(model.SerializeToString(), f"{name}, its batch made free,", [output])
    for rows in (values, values[:1], values[:3]):
        found = np.asarray(run(rows)[output])
        wanted = said[: len(rows)]
        scale = max(1.0, float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0)))
        same = found.shape == wanted.shape and np.allclose(found, wanted, rtol=0, atol=SAME * scale, equal_nan=True)
        if not same:
            raise SourceError(
                f"{name} gives other numbers for {len(rows)} rows than one batch at a time: something in it depends on the"
                " number of rows; export it with a free first axis (dynamic_shapes or dynamic_axes)"
            )


def check_sure(found: Found) -> None:
    """Raise `SourceError` where the output may as well be no classifier's."""
    if not found.output.sure:
        raise SourceError(f"{found.name} gives one number a row, {found.output.name!r}: {doubt(found.output)}")


def doubt(output: Output) -> str:
    """What one number a row may be, and how to say it."""
    return (
        f"that may be the {output.kind} of two labels or a quantity, which nothing is certified of; say --output-kind"
        " logits where above 0 means the second label, or sigmoid where it is that label's probability"
    )


def questions(found: Found) -> Mapping[str, str]:
    """What could not be decided, as the flag that decides it, with what is done without it."""
    asked = {}
    if found.structure.normalisation is None:
        asked["--mean, --std"] = (
            "nothing normalises at its entrance; taken as it is, so that samples are in its own units"
        )
    if len(found.shape) == 3 and layout_of(found.shape) == "features":
        asked["--layout"] = f"no axis of {list(found.shape)} has 1 or 3 colours; served as plain numbers"
    if not found.output.sure:
        asked["--output-kind"] = f"export needs it: {doubt(found.output)}"
    elif found.output.kind in ("logits", "scores"):
        asked["--output-kind"] = f"taken for {found.output.kind}: {found.output.why}"
    asked["--labels"] = f"the names of its {found.output.labels} labels; numbers otherwise"
    return asked


def layout_of(shape: tuple[int, ...]) -> Literal["CHW", "HWC", "features"]:
    """CHW or HWC by which axis has one or three colours; plain features otherwise."""
    if len(shape) != 3:
        return "features"
    if shape[0] in (1, 3):
        return "CHW"
    return "HWC" if shape[2] in (1, 3) else "features"
