"""Changes to training pictures, a whole batch at a time. Each takes its generator: nothing here is drawn elsewhere."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional


def flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each picture of [n, 1, h, w] left to right with probability one half."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, images.flip(-1), images)


def shift(images: Tensor, generator: Generator, *, most: int) -> Tensor:
    """Move each picture by up to `most` pixels along both axes; what comes in is black."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (most, most, most, most))
    offsets = torch.randint(0, 2 * most + 1, (2, count, 1), generator=generator)
    rows = offsets[0] + torch.arange(height)
    columns = offsets[1] + torch.arange(width)
    moved = padded[torch.arange(count)[:, None, None], 0, rows[:, :, None], columns[:, None, :]]
    return moved[:, None]


def erase(images: Tensor, generator: Generator, *, least: int, most: int) -> Tensor:
    """In half of the pictures black out one rectangle with sides of `least` to `most` pixels."""
    count, _, height, width = images.shape
    inside = torch.rand(count, 1, 1, generator=generator) < 0.5
    sides = torch.randint(least, most + 1, (2, count, 1), generator=generator)
    corner = torch.rand(2, count, 1, generator=generator)
    band = []
    for axis, length in enumerate((height, width)):
        start = (corner[axis] * (length - sides[axis] + 1)).long()
        place = torch.arange(length)
        band.append((place >= start) & (place < start + sides[axis]))
    hidden = inside & band[0][:, :, None] & band[1][:, None, :]
    return images.masked_fill(hidden[:, None], 0)


def rounded_gaussian(shape: torch.Size, sigma_steps: float, generator: Generator) -> Tensor:
    """Gaussian noise rounded to grid steps, as floats, never clipped: the law under which the network will serve.

    A float generator is enough to train with; what is certified is drawn from the exact table of
    `certify.smoothing.lattice_gaussian`.
    """
    return torch.round(torch.randn(shape, generator=generator) * sigma_steps)
