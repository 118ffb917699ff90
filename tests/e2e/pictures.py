"""Real pictures of the committed test data, as a client would send them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from export.data.idx import read_split

DATA = Path(__file__).resolve().parent.parent / "data"


def clothes(count: int) -> np.ndarray:
    """Pictures of the real test set, uint8 (count, 28, 28)."""
    return read_split(DATA, "fashion_mnist_test_1000").images[:count]


def digits() -> np.ndarray:
    """200 handwritten digits, uint8 (200, 28, 28)."""
    return read_split(DATA, "digits_200").images


def uniform_noise(count: int) -> np.ndarray:
    """Pictures of independent uniform pixels, seeded."""
    return np.random.default_rng(2).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def png(picture: np.ndarray, form: str = "PNG") -> bytes:
    """A picture as a file."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, form)
    return stream.getvalue()
