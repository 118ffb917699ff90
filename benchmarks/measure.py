"""Rows of ratios, how they are taken, and how they are shown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import psutil

from benchmarks.row import Row

OUT = Path(__file__).resolve().parent / "out"


def in_turns(rounds: int, sides: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Measure every side once a round, so that a slow minute of the machine strikes all of them."""
    values: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            values[name].append(side())
    return values


def ratio(ours: list[float], beside: list[float]) -> float:
    """The median of the rounds' ratios."""
    return median(mine / other for mine, other in zip(ours, beside, strict=True))


def percentile(values: list[float], share: float) -> float:
    return float(np.quantile(np.array(values), share))


def table(rows: list[Row]) -> str:
    lines = ["| figure | ours | beside | ratio | gate | aim | reached |", "|-|-|-|-|-|-|-|"]
    for row in rows:
        bounds = " | ".join("-" if bound is None else f"{bound:.4g}" for bound in (row.gate, row.aim))
        lines.append(f"| {row.figure} | {row.ours} | {row.beside} | {row.ratio:.3g} | {bounds} | {row.verdict} |")
    return "\n".join(lines)


def machine() -> str:
    """Where this was measured, and how busy it was with other things just now."""
    names = ("certserve", "numpy", "numba", "onnxruntime", "ray", "torch")
    found = ", ".join(f"{name} {_version(name)}" for name in names)
    return (
        f"{os.cpu_count()} cores {platform.machine()}, Python {platform.python_version()}, {found};"
        f" {psutil.cpu_percent(interval=1.0):.0f} % busy with other things at the start"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except ModuleNotFoundError:
        return "absent"


def main(name: str, rows: Callable[[], list[Row]]) -> None:
    """Run one benchmark alone: print its table; leave it, its numbers and its plot in `benchmarks/out`."""
    print(machine(), flush=True)
    found = rows()
    print(table(found), flush=True)
    save(name, found)


def save(name: str, rows: list[Row]) -> None:
    from benchmarks.plots import bars  # matplotlib is wanted only here

    OUT.mkdir(exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    bars(rows, OUT / f"{name}.png")
