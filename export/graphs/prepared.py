"""A graph as it is served: every check passed, and the numbers that its decisions are made from among its outputs.

The same session has to serve and to be proven: ONNX Runtime may join operators that have no output between them, and so
compute other last bits where another set of outputs is asked for. The file, and so the bundle's digest, stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto, TensorProto, helper

from export.bundle import Bundle
from export.bundle.files import BASE, NOISY
from export.graphs.facts import Fact, Place
from export.graphs.precision import check_precision
from export.graphs.reading import LATTICE_TYPES, GraphError, declared_outputs, lattice_kind, place, read
from export.graphs.rows import Rows, follow


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """`data` is the graph to open; it takes the lattice as `input_type`, numpy's name of it, which holds whatever noise may
    make of an input. `declared`: the numpy type and the shape of a row of each output of the format.

    `axes`: the axis of the rows in each output, what the decisions are made from included; `suspects` and
    `multiplications` as in `export.graphs.rows.Rows`.
    """

    data: bytes
    input_type: str
    declared: Mapping[str, tuple[str, tuple[int, ...]]]
    axes: Mapping[str, int]
    suspects: Sequence[str]
    multiplications: float


def prepare(bundle: Bundle, file: str) -> Prepared:
    """The graph in `file`, checked and followed. Raises `GraphError`."""
    where, model = place(bundle, file), read(bundle, file)
    rows = follow(model, bundle.manifest.input.shape, where, lattice_kind(model))
    wanted = declared_outputs(bundle, file, {each.name for each in model.graph.output})
    shapes = {name: (len(bundle.manifest.labels),)[: rank - 1] for name, (_, rank) in wanted.items()}
    for name, (kind, _) in wanted.items():
        _check_output(rows, name, kind, shapes[name], where)
    if bundle.manifest.ood is not None and "score" in wanted and not rows.facts["score"].depends:
        raise GraphError(
            f"{where} gives a 'score' that does not depend on the input; export it with the declared score"
        )
    check_precision(bundle, file, model, where)
    added = {_exposed(model, name, fact): fact for name, fact in rows.jumping.items() if name not in wanted}
    model.graph.output.extend(helper.make_tensor_value_info(name, _kind(fact), None) for name, fact in added.items())
    return Prepared(
        data=model.SerializeToString(),
        input_type=LATTICE_TYPES[lattice_kind(model)],
        declared={name: (_NUMPY[kind], shapes[name]) for name, (kind, _) in wanted.items()},
        axes=dict.fromkeys(wanted, 0) | {name: fact.place.axis for name, fact in added.items() if fact.place},
        suspects=rows.suspects,
        multiplications=rows.multiplications,
    )


def check(bundle: Bundle) -> None:
    """What can be told of both graphs without running them. Raises `GraphError`."""
    for file in (BASE, NOISY):
        prepare(bundle, file)


_NUMPY: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.INT64: "int64"}
_UNREADABLE = TensorProto.BFLOAT16
"""numpy has no such type: what is put out is the same number as a float."""


def _check_output(rows: Rows, name: str, kind: int, shape: tuple[int, ...], where: str) -> None:
    fact = rows.facts.get(name)
    if fact is None:
        raise GraphError(f"{where} names the output {name!r}, and does not compute it; export it again")
    if fact.kind != kind or fact.place != Place(0) or fact.shapes[0][1:] != shape:
        found = "x".join(map(str, fact.shapes[0][1:])) if fact.place == Place(0) else "something else"
        raise GraphError(
            f"{where} computes {name!r} as {TensorProto.DataType.Name(fact.kind).lower()} with {found or 'one number'} for"
            f" each row on the first axis; expected {TensorProto.DataType.Name(kind).lower()} with"
            f" {'x'.join(map(str, shape)) or 'one number'}: export it so"
        )


def _exposed(model: ModelProto, name: str, fact: Fact) -> str:
    if fact.kind != _UNREADABLE:
        return name
    readable = f"{name} as float"
    model.graph.node.append(helper.make_node("Cast", [name], [readable], to=TensorProto.FLOAT))
    return readable


def _kind(fact: Fact) -> int:
    return int(TensorProto.FLOAT if fact.kind == _UNREADABLE else fact.kind)
