"""Whether the pixels of a PNG are all there.

The decoder fills rows that the file does not hold with zeros and says nothing, and a certificate of such a picture would
be one of another input. So the checksums of the chunks are checked, and the compressed pixels have to inflate to exactly
their size (W3C PNG, 3rd edition, 7.2, 8.1 and 10.1).
"""

from __future__ import annotations

import struct
import zlib

_SIGNATURE = 8
_HEADER = 16
"""Where the fields of the first chunk begin."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Numbers of a pixel by the type of its colours."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Each pass of an interlaced picture: first column and row, distance of columns and rows."""


def complete(data: bytes) -> bool:
    """Whether the picture in `data` holds every pixel, undamaged."""
    try:
        width, height, depth, colour, interlaced = struct.unpack_from(">IIBB2xB", data, _HEADER)
        bits = depth * _CHANNELS[colour]
    except (struct.error, KeyError):
        return False
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    # Each row of each pass begins with the number of its filter.
    expected = sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0 and rows > 0)
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(_pixel_chunks(data), expected + 1)
    except (zlib.error, struct.error, ValueError):
        return False
    return inflater.eof and len(found) == expected


def _pixel_chunks(data: bytes) -> bytes:
    parts = []
    place = _SIGNATURE
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, place)
        body = data[place + 8 : place + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, place + 8 + length)
        if checksum != zlib.crc32(kind + body):
            raise ValueError("a checksum is wrong")
        if kind == b"IDAT":
            parts.append(body)
        place += 12 + length
    return b"".join(parts)
