"""Whether the pixels of a JPEG are all there.

The decoder makes up what a file does not hold and says nothing, and a certificate of such a picture would be one of
another input. So two things are checked (ITU-T T.81, annexes B and G). The scans have to bring every coefficient of every
component to its last bit: a progressive file whose later scans are cut off is a blurred picture. And the entropy-coded
data of each scan must neither end early nor run on, which libjpeg-turbo finds, and which `simplejpeg` lets be an error.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import simplejpeg

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_FRAMES = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive"}
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_ALONE = {0x01, *range(0xD0, 0xD8)}
"""Markers without a length: TEM, and the restarts, which lie within a scan."""
_COEFFICIENTS = 64
_SCANS = 100
"""More scans than any encoder writes; each costs a pass over the picture."""
_UNSEEN = 99


@dataclass(slots=True)
class _Frame:
    """For each component by its number, how many low bits of each coefficient no scan has brought yet."""

    width: int
    height: int
    missing: dict[int, list[int]]
    scans: int = field(default=0)


def check(data: bytes, width: int, height: int, *, cmyk: bool = False) -> None:
    """Raise `ValueError`, which says what is wrong, unless the picture of this size in `data` is all there."""
    frame = _walk(data)
    if (frame.width, frame.height) != (width, height):
        raise ValueError("its frame has another size than its header")
    if any(max(bits) > 0 for bits in frame.missing.values()):
        raise ValueError("its pixels are not all there: scans are missing")
    # Grey is the fastest, and takes the scans of all components as any other form does.
    simplejpeg.decode_jpeg(data, "CMYK" if cmyk else "GRAY", strict=True)


def _walk(data: bytes) -> _Frame:
    """The frame with what its scans bring, as the markers tell; entropy-coded data are passed over."""
    if data[:2] != bytes((0xFF, _SOI)):
        raise ValueError("it does not begin as a JPEG")
    frame, place = None, 2
    while True:
        marker, place = _marker(data, place)
        if marker == _EOI:
            break
        if marker in _ALONE:
            continue
        body, place = _segment(data, place)
        if marker in _OTHER_FRAMES:
            raise ValueError("only baseline and progressive files with Huffman codes are read")
        if marker in _FRAMES:
            if frame is not None:
                raise ValueError("it has two frames")
            frame = _frame(body)
        elif marker == _SOS:
            if frame is None:
                raise ValueError("a scan comes before its frame")
            _scan(body, frame)
            place = _after_scan(data, place)
    if frame is None:
        raise ValueError("it has no frame")
    return frame


def _marker(data: bytes, place: int) -> tuple[int, int]:
    if data[place : place + 1] != b"\xff":
        raise ValueError(
            "its pixels are not all there: it ends without its last mark, or has bytes that belong nowhere"
        )
    while data[place : place + 1] == b"\xff":  # any number of fill bytes
        place += 1
    if place >= len(data):
        raise ValueError("its pixels are not all there: it ends without its last mark")
    return data[place], place + 1


def _segment(data: bytes, place: int) -> tuple[bytes, int]:
    try:
        (length,) = struct.unpack_from(">H", data, place)
    except struct.error:
        length = 0
    if length < 2 or place + length > len(data):
        raise ValueError("its pixels are not all there: a segment is cut")
    return data[place + 2 : place + length], place + length


def _frame(body: bytes) -> _Frame:
    if len(body) < 6 or len(body) != 6 + 3 * body[5] or not body[5]:
        raise ValueError("its frame is damaged")
    height, width = struct.unpack_from(">HH", body, 1)
    return _Frame(width, height, {body[6 + 3 * i]: [_UNSEEN] * _COEFFICIENTS for i in range(body[5])})


def _scan(body: bytes, frame: _Frame) -> None:
    """Note what a scan brings: its components, the first and last coefficient, and the bits that it leaves open."""
    frame.scans += 1
    if frame.scans > _SCANS:
        raise ValueError(f"it has more than {_SCANS} scans")
    if not body or len(body) != 4 + 2 * body[0]:
        raise ValueError("the header of a scan is damaged")
    first, last, open_bits = body[-3], body[-2], body[-1] & 15
    for component in body[1 : 1 + 2 * body[0] : 2]:
        if component not in frame.missing or not first <= last < _COEFFICIENTS:
            raise ValueError("the header of a scan is damaged")
        frame.missing[component][first : last + 1] = [open_bits] * (last + 1 - first)


def _after_scan(data: bytes, place: int) -> int:
    """Where the next marker begins: behind stuffed zeros and restarts."""
    while True:
        place = data.find(b"\xff", place)
        if place < 0 or place + 1 >= len(data):
            raise ValueError("its pixels are not all there: it ends within a scan")
        if data[place + 1] != 0 and data[place + 1] not in _ALONE:
            return place
        place += 2
