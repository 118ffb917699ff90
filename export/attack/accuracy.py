"""How accurate a network without noise remains under attack: a search for other labels, whose finds are facts.

The search sees labels and probabilities alone. What it does not find another one may, so the accuracy that is left is an
upper bound of what stands any attack, never a guarantee.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.attack.ball import GridBall, Point
from export.build.lattice import label_places, lattices, with_places
from export.build.passes import BATCH, BaseRun
from export.bundle import Bundle
from export.data import Dataset
from export.evaluation import band
from export.evaluation.figures import Attacked
from export.progress import ProgressBar, progress

_GENERATIONS, _MOVES, _TOWARDS = 24, 16, 8


def attacked(
    bundle: Bundle,
    base: BaseRun,
    dataset: Dataset,
    rows: int,
    radius: float,
    seed: int = 0,
    *,
    confidence: float = 0.95,
    quiet: bool = False,
) -> Attacked:
    """Attack the base network on about `rows` rows, evenly spaced, within `radius` (L2, the caller's units).

    First towards ordinary inputs of other labels, then by patches that are kept where they lower the margin: some 400
    queries a row. Every point lies on the grid inside the ball, by exact arithmetic.
    """
    spec = bundle.manifest.input
    some = dataset.every(max(1, len(dataset) // rows)).first(rows)
    places = label_places(some, bundle.manifest.labels)
    parts = [(lattice, with_places(labels, places)) for lattice, labels in lattices(some, spec, BATCH)]
    inputs, truth = (np.concatenate(each) for each in zip(*parts, strict=True))
    right = np.concatenate([base(lattice).argmax(axis=1) == labels for lattice, labels in parts])
    left = 0
    bar: ProgressBar[object] = progress(what="attack", total=int(right.sum()), unit="row", quiet=quiet)
    with bar:
        for row in np.flatnonzero(right):
            ball = GridBall.of(inputs[row], radius, spec.length, spec.tops)
            others = inputs[truth != truth[row]]
            left += found(ball, int(truth[row]), base, others, np.random.default_rng([seed, int(row)])) is None
            bar.update()
    return Attacked(
        radius=radius,
        rows=len(inputs),
        clean=float(right.mean()),
        accuracy=band.share(left, len(inputs), confidence),
    )


def found(
    ball: GridBall, label: int, base: BaseRun, others: NDArray[np.int32], generator: np.random.Generator
) -> Point | None:
    """A point of the ball to which the network gives another label; None where the search finds none."""
    candidates, best, margin = _first(ball, others, generator), ball.centre, np.inf
    for _ in range(_GENERATIONS):
        margins = _margins(base(candidates.astype(np.int32)), label)
        place = int(np.argmin(margins))
        if margins[place] < margin:
            best, margin = candidates[place], float(margins[place])
        if margin < 0:
            return best
        candidates = np.stack([_moved(ball, best, generator) for _ in range(_MOVES)])
    return None


def _first(ball: GridBall, others: NDArray[np.int32], generator: np.random.Generator) -> NDArray[np.int64]:
    """The centre, the ends of walks towards the nearest inputs of other labels, and that of a random one."""
    distances = np.sum((others.astype(np.float64) - ball.centre) ** 2, axis=tuple(range(1, others.ndim)))
    near = others[np.argsort(distances, kind="stable")[:_TOWARDS]]
    towards = [ball.farthest((each - ball.centre).astype(np.float64)) for each in near]
    return np.stack([ball.centre, *towards, ball.farthest(generator.standard_normal(ball.centre.shape))])


def _moved(ball: GridBall, point: Point, generator: np.random.Generator) -> Point:
    """The point with a random patch of the last two axes pushed up or down, drawn into the ball again."""
    shape = ball.centre.shape
    sides = [
        slice(None) if length == 1 or generator.random() < 0.5 else _one(length, generator) for length in shape[:-2]
    ]
    for length in shape[-2:]:
        size = int(generator.integers(1, max(2, length // 3 + 1)))
        first = int(generator.integers(0, length - size + 1))
        sides.append(slice(first, first + size))
    moved = point.astype(np.float64)
    patch = moved[tuple(sides)]
    moved[tuple(sides)] = patch + generator.choice((-1, 1)) * ball.reach / max(1.0, patch.size**0.5)
    return ball.inward(moved)


def _one(length: int, generator: np.random.Generator) -> slice:
    place = int(generator.integers(0, length))
    return slice(place, place + 1)


def _margins(probabilities: NDArray[np.float32], label: int) -> NDArray[np.float64]:
    """The logarithm of the label's probability over that of the next; below 0 where another label is given."""
    logs = np.log(np.maximum(probabilities.astype(np.float64), 1e-300))
    rest = np.delete(logs, label, axis=1).max(axis=1)
    margins: NDArray[np.float64] = logs[:, label] - rest
    # The label itself decides, as it is given: of equal probabilities the first.
    other = probabilities.argmax(axis=1) != label
    return np.where(other, np.minimum(margins, -1e-300), np.maximum(margins, 0.0))
