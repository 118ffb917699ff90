"""Pictures that a detector should flag, made from ordinary ones; each function is a pure function of its arguments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Pictures = NDArray[np.uint8]

_TOP = 255


def outside_sets(images: Pictures, seed: int) -> dict[str, Pictures]:
    """Seven sets as large as `images` [n, 1, h, w], by name.

    The first four keep the ordinary pixels and lose their sense; the last three are no pictures of anything.
    """
    generator = np.random.default_rng(seed)
    return {
        "upside down": images[..., ::-1, :].copy(),
        "rotated 90 degrees": np.rot90(images, axes=(2, 3)).copy(),
        "inverted": _TOP - images,
        "pixels shuffled": shuffled(images, generator),
        "uniform noise": uniform_noise(images.shape, generator),
        "smooth noise": smooth_noise(images.shape, generator),
        "constant": constant(images.shape, generator),
    }


def shuffled(images: Pictures, generator: np.random.Generator) -> Pictures:
    """The pixels of each picture in an order of its own."""
    return generator.permuted(images.reshape(len(images), -1), axis=1).reshape(images.shape)


def uniform_noise(shape: tuple[int, ...], generator: np.random.Generator) -> Pictures:
    """Independent pixels, each value equally likely."""
    return generator.integers(0, _TOP + 1, shape, dtype=np.uint8)


def smooth_noise(shape: tuple[int, ...], generator: np.random.Generator) -> Pictures:
    """Gaussian noise blurred over two pixels and stretched to the whole range of values."""
    blurred = gaussian_filter(generator.standard_normal(shape), sigma=(0,) * (len(shape) - 2) + (2, 2))
    low, high = blurred.min(axis=(-2, -1), keepdims=True), blurred.max(axis=(-2, -1), keepdims=True)
    stretched: NDArray[np.float64] = np.rint((blurred - low) / (high - low) * _TOP)
    return stretched.astype(np.uint8)


def constant(shape: tuple[int, ...], generator: np.random.Generator) -> Pictures:
    """Pictures of one grey each."""
    grey = generator.integers(0, _TOP + 1, (shape[0],) + (1,) * (len(shape) - 1), dtype=np.uint8)
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
