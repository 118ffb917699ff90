"""One picture a benchmark: the ratio of each row, with its gate and its aim."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from benchmarks.row import Row

matplotlib.use("Agg")
COLOURS = {"aim": "#2a7f4f", "gate": "#7fb069", "missed": "#c8553d", "-": "#8d99ae"}


def bars(rows: list[Row], place: Path) -> None:
    figure = Figure(figsize=(9, 1.2 + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots()
    heights = range(len(rows))
    axes.barh(heights, [row.ratio for row in rows], color=[COLOURS[row.verdict] for row in rows])
    for height, row in enumerate(rows):
        for bound, style in ((row.gate, ":"), (row.aim, "-")):
            if bound is not None:
                axes.vlines(bound, height - 0.45, height + 0.45, colors="black", linestyles=style)
        axes.annotate(f" {row.ratio:.3g}", (row.ratio, height), va="center", fontsize=8)
    axes.set_yticks(heights, [row.figure for row in rows], fontsize=8)
    axes.invert_yaxis()
    spread = [row.ratio for row in rows] + [bound for row in rows for bound in (row.gate, row.aim) if bound]
    if max(spread) > 50 * min(spread):
        axes.set_xscale("log")
    axes.set_xlabel("ratio (dotted: gate, line: aim; red: missed)")
    figure.savefig(place, dpi=120)
