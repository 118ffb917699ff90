"""What the two graphs of a bundle give, and in which precision they compute."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from export.bundle.schema import Strict

GraphPrecision = Literal["float32", "float16", "bfloat16", "int8"]
"""Of the weights and products of a network; heads may be finer."""


class BaseGraphSpec(Strict):
    """The accurate network, asked once without noise.

    Its head gives `probabilities`, of which those of a row sum to one, or a network's own `scores` of the labels (such as
    independent sigmoids), which are never called probabilities and cannot be mixed. The output of the graph is called
    `probabilities` either way.
    """

    heads: Annotated[tuple[Literal["probabilities", "scores"]], Field(strict=False)]
    precision: GraphPrecision


class NoisyGraphSpec(Strict):
    """The smoothed network, asked once for each draw: it gives a `vote`, and a `score` where there is a detector."""

    heads: Annotated[tuple[Literal["vote", "score"], ...], Field(strict=False)]
    precision: GraphPrecision

    @model_validator(mode="after")
    def _votes(self) -> NoisyGraphSpec:
        if self.heads[:1] != ("vote",) or len(set(self.heads)) != len(self.heads):
            raise ValueError("heads must be a vote first, then what else there is, each once")
        return self


class Graphs(Strict):
    """What is in base.onnx and in noisy.onnx."""

    base: BaseGraphSpec
    noisy: NoisyGraphSpec


def graphs(
    *,
    score: bool,
    gives: Literal["probabilities", "scores"] = "probabilities",
    precision: GraphPrecision = "float32",
    noisy: GraphPrecision | None = None,
) -> Graphs:
    """Two graphs of one `precision`, or the noisy one in its own; with a score or without."""
    return Graphs(
        base=BaseGraphSpec(heads=(gives,), precision=precision),
        noisy=NoisyGraphSpec(heads=("vote", "score") if score else ("vote",), precision=noisy or precision),
    )
