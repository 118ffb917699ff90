"""Inputs that a detector should flag, made from ordinary ones, and how well scores tell the two apart.

Each function is a pure function of its arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.ndimage import gaussian_filter

from export.bundle import InputSpec

Pictures = NDArray[Any]
"""Of integers, in the type of the ordinary ones."""

_TOP = 255
_SPREAD = 3


def foreign_sets(rows: NDArray[np.int32], spec: InputSpec, seed: int) -> dict[str, NDArray[np.int32]]:
    """Sets of foreign inputs made of ordinary ones [n, *spec.shape], by name: of pictures, or of feature vectors."""
    if spec.layout == "features":
        return _foreign_vectors(rows, spec.tops, seed)
    to_channels, back = ((0, 3, 1, 2), (0, 2, 3, 1)) if spec.layout == "HWC" else ((0, 1, 2, 3),) * 2
    made = outside_sets(rows.transpose(to_channels), seed, spec.top)
    return {name: np.ascontiguousarray(each.transpose(back)).astype(np.int32) for name, each in made.items()}


def _foreign_vectors(rows: NDArray[np.int32], tops: NDArray[np.int64], seed: int) -> dict[str, NDArray[np.int32]]:
    """Each keeps something of the ordinary rows and loses the rest: how columns go together, their place, their spread."""
    generator = np.random.default_rng(seed)
    flat = rows.reshape(len(rows), -1)
    top = np.broadcast_to(tops, flat.shape[1:])
    middle = np.median(flat, axis=0)
    made = {
        "columns shuffled": generator.permuted(flat, axis=0),
        "inverted": top - flat,
        "spread threefold": np.clip(np.rint(middle + _SPREAD * (flat - middle)), 0, top),
        "uniform": generator.integers(0, top + 1, flat.shape),
    }
    return {name: each.astype(np.int32).reshape(rows.shape) for name, each in made.items()}


def outside_sets(images: Pictures, seed: int, top: int = _TOP) -> dict[str, Pictures]:
    """Seven sets as large as `images` [n, channels, h, w] of values 0 to `top`, by name; no turned one where h is not w.

    The first four keep the ordinary pixels and lose their sense; the last three are no pictures of anything.
    """
    generator = np.random.default_rng(seed)
    made = {
        "upside down": images[..., ::-1, :].copy(),
        "rotated 90 degrees": np.rot90(images, axes=(2, 3)).copy(),
        "inverted": (top - images).astype(images.dtype),
        "pixels shuffled": shuffled(images, generator),
        "uniform noise": generator.integers(0, top + 1, images.shape, dtype=images.dtype),
        "smooth noise": smooth_noise(images.shape, generator, top).astype(images.dtype),
        "constant": constant(images.shape, generator, top, images.dtype),
    }
    return {name: each for name, each in made.items() if each.shape == images.shape}


def shuffled(images: Pictures, generator: np.random.Generator) -> Pictures:
    """The pixels of each picture in an order of its own."""
    return generator.permuted(images.reshape(len(images), -1), axis=1).reshape(images.shape)


def smooth_noise(shape: tuple[int, ...], generator: np.random.Generator, top: int = _TOP) -> Pictures:
    """Gaussian noise blurred over two pixels and stretched to the whole range of values."""
    blurred = gaussian_filter(generator.standard_normal(shape), sigma=(0,) * (len(shape) - 2) + (2, 2))
    low, high = blurred.min(axis=(-2, -1), keepdims=True), blurred.max(axis=(-2, -1), keepdims=True)
    stretched: NDArray[np.float64] = np.rint((blurred - low) / (high - low) * top)
    return stretched.astype(np.int32)


def constant(
    shape: tuple[int, ...], generator: np.random.Generator, top: int = _TOP, kind: DTypeLike = np.uint8
) -> Pictures:
    """Pictures of one grey each."""
    grey = generator.integers(0, top + 1, (shape[0],) + (1,) * (len(shape) - 1), dtype=kind)
    return np.broadcast_to(grey, shape).copy()


def auroc(inside: NDArray[np.floating], outside: NDArray[np.floating]) -> float:
    """The chance that an outside score exceeds an inside one, ties counting half (Mann-Whitney)."""
    ordered = np.sort(inside)
    below = np.searchsorted(ordered, outside, side="left")
    up_to = np.searchsorted(ordered, outside, side="right")
    return float(np.mean(below + up_to) / (2 * len(inside)))


def far_at_tpr_ood95(inside: NDArray[np.floating], outside: NDArray[np.floating]) -> float:
    """The share of inside scores flagged where the threshold flags 95 % of the outside ones (OpenOOD's FPR95)."""
    threshold = np.sort(outside)[len(outside) // 20]
    return float(np.mean(inside >= threshold))


def miss_at_tpr_id95(inside: NDArray[np.floating], outside: NDArray[np.floating]) -> float:
    """The share of outside scores missed where the threshold keeps 95 % of the inside ones (FPR95 of Lee et al. 2018)."""
    threshold = np.sort(inside)[len(inside) - 1 - len(inside) // 20]
    return float(np.mean(outside <= threshold))


def aupr(inside: NDArray[np.floating], outside: NDArray[np.floating]) -> float:
    """The area under precision against recall, outside scores being positive and larger ones flagged first.

    Average precision: the precision at each threshold, weighted by the recall that it adds; equal scores fall together.
    """
    scores = np.concatenate([outside, inside])
    positive = np.concatenate([np.ones(len(outside)), np.zeros(len(inside))])
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    caught = np.cumsum(positive[order])[ends]
    return float(np.sum(np.diff(caught, prepend=0.0) * caught / (ends + 1)) / len(outside))
