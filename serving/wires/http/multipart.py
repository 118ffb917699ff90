"""A form with one file in it (`curl -F file=@picture.png`); its other fields are options, by name."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from serving.errors import InvalidInput
from serving.inputs import registry, work

TYPE = "multipart/form-data"
_PARTS = 32
_FIELD_BYTES = 1024
# What is wrong with a stranger's form is told to the stranger: it writes no lines into the log.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


@dataclass(slots=True)
class _Part:
    headers: dict[str, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)

    def disposition(self) -> dict[bytes, bytes]:
        """The parameters of its Content-Disposition: name, and filename where it is a file."""
        return dict(parse_options_header(self.headers.get("content-disposition", b""))[1])


def decode(body: bytes | bytearray, content_type: str) -> tuple[bytes, str, list[tuple[str, str]]]:
    """The file, its media type, and the other fields as they come, of a body with this Content-Type."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidInput(f"the Content-Type names no boundary; expected {TYPE}; boundary=...")
    files: list[_Part] = []
    fields: list[tuple[str, str]] = []
    for part in _parts(body, boundary):
        disposition = part.disposition()
        if b"filename" in disposition:
            files.append(part)
        else:
            fields.append((_text(disposition.get(b"name", b"")), _text(bytes(part.data))))
    if len(files) != 1:
        raise InvalidInput(f"the form holds {len(files)} files; expected one (curl: -F file=@picture.png)")
    data = bytes(files[0].data)
    said = _text(files[0].headers.get("content-type", b"")).split(";")[0].strip().lower()
    return data, said if said in registry.types() else registry.sniffed(data), fields


def _parts(body: bytes | bytearray, boundary: bytes) -> list[_Part]:
    try:
        return _Reader(boundary).parts(body)
    except FormParserError as error:
        raise InvalidInput(f"the body is no {TYPE} ({error})") from None


def _text(data: bytes) -> str:
    if len(data) > _FIELD_BYTES:
        raise InvalidInput(f"a field of the form has {len(data)} bytes, over the limit of {_FIELD_BYTES}")
    return data.decode("utf-8", errors="replace")


class _Reader:
    """Collects what the parser finds, and bounds it in number."""

    def __init__(self, boundary: bytes) -> None:
        self._parts: list[_Part] = []
        self._name, self._value = bytearray(), bytearray()
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": lambda data, start, end: self._add(self._parts[-1].data, data, start, end),
                "on_header_field": lambda data, start, end: self._add(self._name, data, start, end),
                "on_header_value": lambda data, start, end: self._add(self._value, data, start, end),
                "on_header_end": self._header,
                "on_end": self._end,
            },
        )

    def parts(self, body: bytes | bytearray) -> list[_Part]:
        """All parts of a body."""
        self._parser.write(bytes(body))
        self._parser.finalize()
        if not self._ended:
            raise InvalidInput(f"the {TYPE} body is cut off; send it again")
        return self._parts

    def _begin(self) -> None:
        if len(self._parts) == _PARTS:
            raise InvalidInput(f"the form has more than {_PARTS} parts; expected one file and options")
        self._parts.append(_Part())

    def _header(self) -> None:
        self._parts[-1].headers[self._name.decode("latin-1").lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _end(self) -> None:
        self._ended = True

    @staticmethod
    def _add(to: bytearray, data: bytes, start: int, end: int) -> None:
        work.checkpoint()
        to += data[start:end]
