"""`certserve inspect`: what a foreign model is, what export will do with it, and the flag for each thing left open."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """The command, for the parser of the command line."""
    inspect = commands.add_parser("inspect", help="say what a model is, what export will do, and what it cannot decide")
    add_model(inspect)
    inspect.add_argument("--samples", type=Path, metavar="FILE", help="inputs as .npy [rows, ...]; made up if left out")
    inspect.add_argument(
        "--shape", type=sizes, metavar="3x32x32", help="one input's shape, where the file leaves it open"
    )
    inspect.set_defaults(run=_run)


def add_model(command: argparse.ArgumentParser) -> None:
    """The arguments that name a model and its output."""
    command.add_argument("model", help="an ONNX file, or package.module:factory that makes a torch module")
    command.add_argument(
        "--weights", type=Path, metavar="FILE", help="of the factory's module: safetensors or a state dict"
    )
    command.add_argument("--output", metavar="NAME", help="the output that classifies, where there are several")
    command.add_argument(
        "--output-kind", metavar="KIND", help="logits, softmax, sigmoid or scores; found by running it"
    )


def sizes(text: str) -> tuple[int, ...]:
    """A shape such as 3x32x32 or 3,32,32."""
    found = tuple(int(part) for part in text.replace(",", "x").split("x"))
    if not found or min(found) < 1:
        raise ValueError(text)
    return found


def _run(options: argparse.Namespace) -> None:
    from export import own_model

    found = own_model.inspect(
        options.model,
        weights=options.weights,
        samples=options.samples,
        shape=options.shape,
        output=options.output,
        output_kind=options.output_kind,
    )
    print("\n".join(lines(found)))


def lines(found: Any) -> Iterator[str]:
    """What was found, for a reader."""
    from export.inspection.inspect import layout_of, questions

    given, structure = found.given, found.structure
    rows = "free" if given.batch is None else f"fixed at {given.batch}, will be made free"
    named = f" ({given.axes[0]!r})" if isinstance(given.axes[0], str) else ""
    yield f"{found.name}: {found.size:,} bytes, opset {found.opset}"
    yield f"input      {given.name!r}: {given.type_name} {list(found.shape)}, layout {layout_of(found.shape)}"
    yield f"batch      axis {rows}{named}"
    for output in found.outputs:
        used = "; taken" if output.name == found.output.name else "" if output.kind is None else "; left out"
        size = "" if output.size is None else f"{output.size} numbers a row, "
        yield f"output     {output.name!r}: {size}{output.kind or 'no classes'} ({output.why}){used}"
    yield (
        f"features   {structure.features!r}, what enters {structure.layer}"
        if structure.features
        else f"features   its own inputs, which enter {structure.layer}"
        if structure.layer
        else "features   not found: no last layer with constant weights; scores are made of its outputs"
    )
    yield f"normalises {structure.normalisation or 'nothing at its entrance'}"
    yield f"operators  {', '.join(f'{name} {count}' for name, count in sorted(structure.operators.items()))}"
    yield "state      none"
    yield f"export     {_plan(found)}"
    for flag, what in questions(found).items():
        yield f"undecided  {flag}: {what}"


def _plan(found: Any) -> str:
    labels = found.output.labels
    ends = {
        "logits": "a softmax is added",
        "softmax": "its own probabilities are kept",
        "sigmoid": "its own numbers are kept, no softmax is added",
        "scores": "its own numbers are kept, and are not called probabilities",
    }
    return f"one graph from grid integers to {labels} labels and a vote; {ends[found.output.kind]}"
