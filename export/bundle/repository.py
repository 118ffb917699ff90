"""A repository: the folder of all models, whose every `<name>/<version>/` has to be a bundle."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from export.bundle.files import Bundle, load, read_manifest
from export.bundle.manifest import MANIFEST, Manifest
from export.bundle.schema import BundleError

_EXPECTED = "expected <name>/<version>/manifest.json"
_TAKE_AWAY = "take the folder away, or begin its name with a dot"


def load_repository(folder: Path) -> list[Bundle]:
    """Every bundle at `folder/<name>/<version>/`, by name and version.

    Whatever folder stands in such a place has to be a bundle: one that is damaged or half copied is refused by name, and
    never passed over for an older version. Only names that begin with a dot, `lost+found`, and files beside the folders are
    passed over. A repository without any bundle is an error.
    """
    bundles = []
    for place in _places(folder):
        bundle = load(place)
        _check_name(place, bundle.manifest)
        bundles.append(bundle)
    return bundles


def manifests(folder: Path) -> list[Manifest]:
    """What the bundles of a repository declare, without reading their other files. Raises `BundleError` likewise."""
    found = []
    for place in _places(folder):
        manifest = read_manifest(place)
        _check_name(place, manifest)
        found.append(manifest)
    return found


def _check_name(place: Path, manifest: Manifest) -> None:
    if (place.parent.name, place.name) != (manifest.name, manifest.version):
        raise BundleError(f"{place}: the manifest says {manifest.name}/{manifest.version}; rename the folder")


def _places(repository: Path) -> list[Path]:
    """The folders of a repository that have to be bundles, each with a manifest. Raises `BundleError`."""
    try:
        names = _entries(repository)
    except OSError as error:
        raise BundleError(
            f"{repository} holds no bundle: it cannot be read ({error.strerror}); {_EXPECTED} below it"
        ) from error
    if any(entry.name == MANIFEST for entry in names):
        raise BundleError(f"{repository} is one bundle: {_mend(repository)}")
    found = [version for name in names if _is_folder(name) for version in _versions(name)]
    if not found:
        there = f", and found {', '.join(entry.name for entry in names[:5])}" if names else ""
        raise BundleError(f"{repository} holds no bundle: {_EXPECTED} below it{there}")
    return found


def _versions(name: Path) -> list[Path]:
    """The versions in the folder of one model, each of them a folder with a manifest."""
    entries = _readable(name)
    if any(entry.name == MANIFEST for entry in entries):
        raise BundleError(f"{name.parent} holds {name.name}/manifest.json, one folder too high: {_mend(name)}")
    versions = [entry for entry in entries if _is_folder(entry) or re.fullmatch("[0-9]+", entry.name)]
    if not versions:
        raise BundleError(f"{name} holds no version: {_EXPECTED}; {_TAKE_AWAY}")
    for version in versions:
        if not _is_folder(version):
            raise BundleError(f"{version} is no folder: {_EXPECTED}; restore the bundle, or take the file away")
        if not any(entry.name == MANIFEST for entry in _readable(version)):
            raise BundleError(f"{version} has no manifest.json; restore the bundle, or {_TAKE_AWAY}")
    return versions


def _mend(bundle: Path) -> str:
    """What to give instead of a folder that is too deep in a repository, or holds a bundle too high in it."""
    if re.fullmatch("[0-9]+", bundle.absolute().name):
        return f"give the folder of all models: {bundle.absolute().parent.parent}"
    return "move the bundle into a folder <name>/<version> of the repository"


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, in order, save what is hidden or the file system's own. Raises `OSError`."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name != "lost+found")


def _readable(folder: Path) -> list[Path]:
    try:
        return _entries(folder)
    except OSError as error:
        raise BundleError(
            f"{folder} cannot be read ({error.strerror}); mend its permissions, or {_TAKE_AWAY}"
        ) from error


def _is_folder(path: Path) -> bool:
    """Follows links, and refuses those that lead nowhere or in a circle: what was meant by them cannot be known."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); restore it, or take it away") from error
