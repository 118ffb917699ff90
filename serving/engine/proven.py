"""What an engine knows of a bundle that it serves: the bundle itself, what runs it, and who signs for it."""

from __future__ import annotations

from dataclasses import dataclass

from export.bundle import Bundle, Golden, Manifest
from serving.security.signing import Notary


@dataclass(frozen=True, slots=True, eq=False)
class Proven:
    """A bundle that a device serves, the description of what runs it, and who signs its receipts; without, they are
    refused.
    """

    bundle: Bundle
    runtime: str
    notary: Notary | None = None

    @property
    def manifest(self) -> Manifest:
        """Of the bundle."""
        return self.bundle.manifest

    @property
    def digest(self) -> str:
        """Of the bundle."""
        return self.bundle.digest

    @property
    def golden(self) -> Golden:
        """Of the bundle."""
        return self.bundle.golden
