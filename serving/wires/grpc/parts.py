"""What it costs to parse a message, before it is parsed: the parser lets no other thread in before it is done.

Long fields of bytes, or of numbers of a fixed size, are quick to parse. Not so a great many fields, each of which becomes an
object, or numbers of varying size, each of which is read byte by byte.
"""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from serving.errors import TooLarge

_SMALL = 64 * 1024
"""Bytes of a message that is parsed as it is."""
MOST = 10_000
"""Fields in all."""
_VARINT, _FIXED_64, _LENGTH, _FIXED_32 = 0, 1, 2, 5
_FIXED = {
    getattr(FieldDescriptor, f"TYPE_{name}")
    for name in ("BYTES", "STRING", "DOUBLE", "FLOAT", "FIXED32", "FIXED64", "SFIXED32", "SFIXED64")
}


def check(data: bytes, kind: Descriptor, most_numbers: int) -> None:
    """Raise `TooLarge` where a message of this kind has more than `MOST` fields, those of messages in it included, or its
    numbers of varying size take more than `most_numbers` bytes. What is no message is left to the parser.
    """
    if len(data) > _SMALL:
        try:
            _Seen(data, most_numbers).look(0, len(data), kind)
        except IndexError:  # it ends before it should
            return


class _Seen:
    """What was seen of one message so far."""

    def __init__(self, data: bytes, most_numbers: int) -> None:
        self._data = data
        self._fields_left, self._numbers_left = MOST, most_numbers

    def look(self, place: int, end: int, kind: Descriptor) -> None:
        """See the fields of a message of this kind that lie between these places."""
        while place < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise TooLarge(
                    f"the message has more than {MOST} fields; send numbers packed, or as raw bytes, and fewer rows"
                )
            tag, place = self._number(place)
            if tag & 7 == _VARINT:
                _, place = self._number(place)
            elif tag & 7 == _LENGTH:
                size, place = self._number(place)
                self._long(place, min(place + size, end), kind.fields_by_number.get(tag >> 3))
                place += size
            else:
                place += {_FIXED_64: 8, _FIXED_32: 4}.get(tag & 7, 0)

    def _long(self, place: int, end: int, field: FieldDescriptor | None) -> None:
        if field is None or field.type in _FIXED:
            return
        if field.message_type is not None:
            self.look(place, end, field.message_type)
            return
        self._numbers_left -= end - place
        if self._numbers_left < 0:
            raise TooLarge(f"{field.name} is too long for numbers one by one; send raw bytes, or fewer rows")

    def _number(self, place: int) -> tuple[int, int]:
        """A number of at most ten groups of seven bits, and where it ends."""
        found = 0
        for shift in range(0, 70, 7):
            byte = self._data[place]
            place += 1
            found |= (byte & 127) << shift
            if byte < 128:
                return found, place
        raise IndexError
