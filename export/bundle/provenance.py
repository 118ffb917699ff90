"""Where a bundle comes from: enough to make it again, or to see that it cannot be made again. Nothing is served by it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from export.bundle.schema import Digest, Strict, Text

Note = str | Annotated[int, Field(ge=-(2**63), lt=2**63)] | float


class SourceFile(Strict):
    """The model as it came: its name and the SHA-256 of its bytes."""

    name: Text
    digest: Digest


class UsedData(Strict):
    """Rows that the bundle was made from: for what, from where, how many, and their digest as `export.data` takes it."""

    purpose: Text
    source: Text
    rows: Annotated[int, Field(ge=0)]
    digest: Digest | None = None


class Provenance(Strict):
    """Source, data, the versions of what made the bundle, the commands that did, and notes for a reader."""

    source: SourceFile | None = None
    data: Annotated[tuple[UsedData, ...], Field(strict=False)] = ()
    versions: dict[Text, Text] = Field(default_factory=dict)
    commands: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    notes: dict[Text, Note] = Field(default_factory=dict)
