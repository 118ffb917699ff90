"""Which kinds of file are an input: one registry from content type to a row of integers on the bundle's grid.

Every wire and command that is handed a file asks here, and knows no kind by itself. Another kind is a module with the three
members of `FileReader`, and one line below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from export.bundle import InputSpec
from serving.errors import InvalidInput, UnsupportedMedia
from serving.inputs import image, sound
from serving.inputs.file_rows import FileRows, together


class FileReader(Protocol):
    """One kind of file; a module or an object."""

    @property
    def FORMATS(self) -> Mapping[str, str]:  # noqa: N802  # a constant of a module
        """Its content types, each with the name by which messages call such a file."""
        ...

    def sniffed(self, data: bytes) -> str | None:
        """The content type that the first bytes tell, if they are of this kind."""
        ...

    def decode(self, data: bytes, content_type: str, spec: InputSpec) -> NDArray[np.int32]:
        """The integers in a file, of the shape that `spec` declares, each from 0 to its `top`.

        Nothing is done to it that the bundle does not declare, and that `file_rows.treated` does not say: what does not fit,
        or is not whole, is `InvalidInput`.
        """
        ...


READERS: dict[str, FileReader] = {}
"""By content type; `register` adds to it."""


def register(reader: FileReader) -> None:
    """From now on, files of this kind are read."""
    READERS.update(dict.fromkeys(reader.FORMATS, reader))


register(image)
register(sound)


def types() -> tuple[str, ...]:
    """The content types of files that are read."""
    return tuple(READERS)


def names() -> list[str]:
    """What messages call these files."""
    return [reader.FORMATS[content_type] for content_type, reader in READERS.items()]


def sniffed(data: bytes) -> str:
    """The content type that the first bytes tell; `InvalidInput` if they are of no kind that is read."""
    for reader in dict.fromkeys(READERS.values()):
        if found := reader.sniffed(data):
            return found
    raise InvalidInput(f"the bytes are no {' and no '.join(names())} file; expected one of these")


def row(data: bytes, content_type: str | None, spec: InputSpec) -> NDArray[np.int32]:
    """The row in a file; without a content type, of that which its first bytes tell."""
    content_type = sniffed(data) if content_type is None else content_type
    if content_type not in READERS:
        raise UnsupportedMedia(f"{content_type!r:.80} is not read; expected {' or '.join(types())}")
    return READERS[content_type].decode(data, content_type, spec)


def one(data: bytes, content_type: str | None, spec: InputSpec) -> FileRows:
    """The one row of a file, (1, *shape), and what was done to it."""
    return together([row(data, content_type, spec)])


def rows(files: Iterable[tuple[str, bytes]], spec: InputSpec) -> FileRows:
    """The rows (n, *shape) in files, each with the place by which messages call it, and what was done to each."""
    return together([_placed(place, data, spec) for place, data in files])


def _placed(place: str, data: bytes, spec: InputSpec) -> NDArray[np.int32]:
    try:
        return row(data, None, spec)
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error.message}") from None
