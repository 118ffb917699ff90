"""Another version of a bundle: written beside it, proven before it is put in its place, and over nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle, BundleError, Golden, Manifest, write
from export.bundle.files import BASE, CALIBRATION, GOLDEN, NOISE, NOISY, checked
from export.sources.source import SourceError

Faults = Callable[[Path], Sequence[str]]
"""Every proof that serving would run on the bundle in a folder: one line for each fault, none if all hold."""


def free(source: Path, version: int | None) -> str:
    """The version that a bundle beside `source` gets: the one that is asked for, else one above the highest."""
    models = source.resolve().parent
    number = next_version(models) if version is None else str(version)
    if (models / number).exists():
        raise BundleError(f"{models / number} exists, and nothing is written over; give another --version")
    return number


def next_version(folder: Path) -> str:
    """One above the highest version in the folder of a model: nothing is written over."""
    taken = [int(each.name) for each in folder.iterdir() if each.name.isdecimal()]
    return str(max(taken, default=0) + 1)


def put(
    source: Path,
    old: Bundle,
    manifest: Manifest,
    *,
    base: bytes,
    noisy: bytes,
    golden: Golden,
    calibration: NDArray[np.float64] | None,
    faults: Faults | None,
) -> Path:
    """The folder of the new bundle, with all else that was in the old one. Raises `SourceError`, and writes nothing then."""
    models = source.resolve().parent
    kept = {BASE, NOISY, NOISE, GOLDEN, CALIBRATION}
    files = old.manifest.files.items()
    others = {name: checked(source, name, digest) for name, digest in files if name not in kept}
    with tempfile.TemporaryDirectory(prefix=".version-", dir=models) as folder:
        place = Path(folder) / manifest.version
        write(
            place,
            manifest,
            base=base,
            noisy=noisy,
            noise=old.law.tensors,
            golden=golden,
            calibration=calibration,
            others=others,
        )
        wrong = faults(place) if faults else []
        if wrong:
            raise SourceError(
                f"{manifest.name}/{manifest.version} is not written, since it could not be served: {'; '.join(wrong)}"
            )
        shutil.move(place, models / manifest.version)
    return models / manifest.version
