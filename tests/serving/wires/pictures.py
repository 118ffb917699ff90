"""Small picture files, right and wrong."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(pixels, form="PNG", **settings):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **settings)
    return file.getvalue()


def blank(mode="L", size=(28, 28), form="PNG"):
    file = io.BytesIO()
    Image.new(mode, size).save(file, form)
    return file.getvalue()


def grey(seed=0, size=28):
    return np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)


def png_of(width, height, depth=8, colour=0, data=b"", interlace=0):
    """A PNG with any header, whatever its data."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def animated(frames=2):
    file = io.BytesIO()
    pictures = [Image.fromarray(grey(i)) for i in range(frames)]
    pictures[0].save(file, "PNG", save_all=True, append_images=pictures[1:])
    return file.getvalue()


def interlaced_png(pixels, cut=0):
    """An Adam7 picture without filters, the last `cut` bytes of its pixels missing."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = [b"\0" + row.tobytes() for x, y, dx, dy in passes for row in pixels[y::dy, x::dx]]
    data = b"".join(rows)
    return png_of(*pixels.shape[::-1], data=data[: len(data) - cut], interlace=1)
