"""A foreign network as it would be served, compared with its original: the accurate one, and the one that votes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.build import score_graph
from export.build.compare import check_same
from export.build.compose import Composed, Entrance, composed
from export.build.grid import Grid
from export.build.passes import BaseRun
from export.inspection.inspect import Found
from export.sources.running import GraphRun, open_graph
from export.sources.source import Source, SourceError


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedNetwork:
    """`made` is what would be served of what was `found` in the `source`, and `run` runs it."""

    source: Source
    found: Found
    made: Composed
    run: GraphRun

    @property
    def plainly(self) -> BaseRun:
        """Its probabilities, each row by itself."""
        return lambda batch: np.concatenate([self.run(row[None])["probabilities"] for row in batch])


def served(source: Source, found: Found, grid: Grid, entrance: Entrance) -> ServedNetwork:
    """The network behind its entrance, from grid integers on."""
    made = composed(found, grid, entrance)
    return ServedNetwork(
        source=source, found=found, made=made, run=open_graph(made.graph, f"{source.name}, as it would be served,")
    )


def compared(
    source: Source, found: Found, grid: Grid, entrance: Entrance, lattice: NDArray[np.int32], *, scored: bool
) -> ServedNetwork:
    """The same, once it gives the original's numbers at `lattice`; to be `scored`, in an opset that heads can be added to.

    Raises `SourceError`.
    """
    network = served(source, score_graph.current(found) if scored else found, grid, entrance)
    check_same(source, network.found, grid, entrance, lattice, network.run)
    return network


def check_alike(source: Source, found: Found, robust: Source, of_robust: Found) -> None:
    """Raise `SourceError` where the two networks of a mixture tell other labels apart."""
    if of_robust.output.labels != found.output.labels:
        raise SourceError(
            f"--robust: {robust.name} tells {of_robust.output.labels} labels apart, and {source.name} {found.output.labels};"
            " give a network of the same labels in the same order"
        )
