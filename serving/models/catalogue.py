"""What one process serves: the one object that gateway, dealer and engine of the process read.

It may change while they serve. So whoever works on a request takes a snapshot, once, and asks nothing else: what one
snapshot says fits together. A request that began with one bundle names its digest, and never ends with another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from certify.strict_json import shown
from export.bundle import Manifest
from serving.errors import NotFound
from serving.messages import Model


class Declared(Protocol):
    """Whatever has a manifest and a digest: a bundle."""

    @property
    def manifest(self) -> Manifest:
        """What it declares."""
        ...

    @property
    def digest(self) -> str:
        """What it is."""
        ...


Kept = TypeVar("Kept", bound=Declared)


class Snapshot(Generic[Kept]):
    """What is served at one moment: never two bundles of one name and version. It does not change."""

    def __init__(self, served: Iterable[Kept] = ()) -> None:
        self._kept: dict[str, Kept] = {}
        self._versions: dict[str, dict[str, Model]] = {}
        for each in served:
            self._take(each)

    def _take(self, each: Kept) -> None:
        versions = self._versions.setdefault(each.manifest.name, {})
        if each.manifest.version in versions:
            raise ValueError(f"{each.manifest.name}/{each.manifest.version} is there twice; serve one of the two")
        versions[each.manifest.version] = Model(manifest=each.manifest, digest=each.digest)
        self._kept[each.digest] = each

    def models(self) -> list[Model]:
        """Every version of every model."""
        return [model for versions in self._versions.values() for model in versions.values()]

    def model(self, name: str, version: str | None = None) -> Model:
        """One model; without a version the one with the highest number. Raises `NotFound`."""
        versions = self._versions.get(name)
        if versions is None:
            raise NotFound(f"Request for unknown model: {shown(name)} is not found")
        if not version:
            return versions[max(versions, key=int)]
        if version not in versions:
            # Triton's words, which its own clients look for.
            said = shown(version)[1:-1]
            wrong = f" (failed to get model version from specified version string '{said}')"
            raise NotFound(
                f"Request for unknown model: {shown(name)} version {said} is not found"
                f"{'' if version.isdecimal() else wrong}; there is {', '.join(versions)}"
            )
        return versions[version]

    def kept(self, digest: str) -> Kept | None:
        """The bundle of this digest, if it is served."""
        return self._kept.get(digest)

    def digests(self) -> Mapping[str, str]:
        """From "model/version" to the digest of its bundle."""
        return {f"{each.manifest.name}/{each.manifest.version}": each.digest for each in self.models()}


class Catalogue(Generic[Kept]):
    """The snapshot of this moment. Any thread may read it while one changes it."""

    def __init__(self, served: Iterable[Kept] = ()) -> None:
        self._now = Snapshot(served)

    @property
    def now(self) -> Snapshot[Kept]:
        """What is served now."""
        return self._now

    @property
    def digests(self) -> Mapping[str, str]:
        """Those of `Snapshot.digests`, at whatever moment one looks."""
        return _Digests(self)

    def change(self, served: Iterable[Kept]) -> None:
        """From now on these are served, and no others. Whoever holds an older snapshot ends with that."""
        self._now = Snapshot(served)


class _Digests(Mapping[str, str]):
    """What a catalogue says now, as a mapping."""

    def __init__(self, catalogue: Catalogue[Any]) -> None:
        self._catalogue = catalogue

    def __getitem__(self, key: str) -> str:
        return self._catalogue.now.digests()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._catalogue.now.digests())

    def __len__(self) -> int:
        return len(self._catalogue.now.digests())
