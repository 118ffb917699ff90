"""Pictures of an evaluation: certified accuracy against radius with its band, sigma, or accuracy. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.evaluation import band
from export.evaluation.records import EvaluationError

ENDINGS = (".svg", ".png", ".pdf")


def check(path: Path) -> None:
    """Before anything is measured: whether there will be a picture. Raises `EvaluationError`."""
    if path.suffix.lower() not in ENDINGS:
        raise EvaluationError(f"{path} names no picture that can be drawn; expected one of {', '.join(ENDINGS)}")
    _figure()


def certified_curve(path: Path, worth: Mapping[str, NDArray[np.float64]], units: str, confidence: float) -> None:
    """Certified accuracy against radius, a line for each name with its simultaneous band.

    `worth` is, of each row, the radius within which it is right and certified, -1 where it is not.
    """
    figure, axes = _figure()
    for name, values in worth.items():
        radii = np.unique(np.concatenate([[0.0, 1.03 * values.max()], values[values > 0]]).clip(0.0))
        shares = band.curve(values, radii.tolist(), confidence)
        (line,) = axes.step(radii, [each.share for each in shares], where="pre", label=name)
        lower, upper = [each.lower for each in shares], [each.upper for each in shares]
        axes.fill_between(radii, lower, upper, step="pre", alpha=0.2, color=line.get_color(), linewidth=0)
    axes.set(xlabel=f"radius ({units})", ylabel="right and certified", ylim=(0, 1), xlim=(0, None))
    axes.set_title(f"band of {confidence:.0%} for all radii at once", fontsize="small")
    _save(figure, axes, path)


def against_sigma(path: Path, sigmas: Sequence[float], lines: Mapping[str, Sequence[float]], units: str) -> None:
    """A line for each radius: certified accuracy at each sigma."""
    figure, axes = _figure()
    for name, values in lines.items():
        axes.plot(sigmas, values, marker="o", label=name)
    axes.set(xlabel=f"sigma ({units})", ylabel="right and certified", ylim=(0, 1))
    _save(figure, axes, path)


def clean_against_certified(path: Path, lines: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """A line for each name, every other one dashed, of points (accuracy, certified accuracy)."""
    figure, axes = _figure()
    for place, (name, points) in enumerate(lines.items()):
        axes.plot(*zip(*sorted(points), strict=True), marker="o", linestyle="-" if place % 2 else "--", label=name)
    axes.set(xlabel="accuracy without an attack", ylabel="right and certified")
    _save(figure, axes, path)


def _figure() -> tuple[Any, Any]:
    """A figure that needs no screen, with axes."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise EvaluationError("drawing needs matplotlib; pip install 'certserve[plot]', or leave --plot out") from error
    figure = Figure(figsize=(6, 4), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Any, axes: Any, path: Path) -> None:
    axes.grid(alpha=0.3)
    axes.legend()
    try:
        # No date in it: the same records give the same file.
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    except OSError as error:
        raise EvaluationError(f"{path} cannot be written ({error.strerror})") from error
