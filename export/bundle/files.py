"""Reading and writing the folder of a bundle: every digest checked, every file inside the folder and a plain file."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as save_tensors

from certify.bounds.prior import PriorTable
from certify.ood.verdict import Detector
from certify.smoothing.law import Law
from export import regular_file
from export.bundle import tensors
from export.bundle.manifest import MANIFEST, Manifest, parse
from export.bundle.schema import BundleError
from export.bundle.tensors import Golden

BASE, NOISY, NOISE, GOLDEN, CALIBRATION = (
    "base.onnx",
    "noisy.onnx",
    "noise.safetensors",
    "golden.safetensors",
    "calibration.safetensors",
)
_LARGEST_MANIFEST = 4 * 2**20


@dataclass(frozen=True, eq=False, kw_only=True)
class Bundle:
    """A loaded bundle: every digest checked, the noise table proven, nothing left to read."""

    manifest: Manifest
    digest: str
    base: bytes
    noisy: bytes
    law: Law
    golden: Golden
    detector: Detector | None
    prior: PriorTable | None = None

    @property
    def key(self) -> str:
        """The bundle's place in a repository: "name/version"."""
        return f"{self.manifest.name}/{self.manifest.version}"


def load(folder: Path) -> Bundle:
    """Read and check the bundle in `folder`; raises `BundleError` for whatever is missing, unknown or altered."""
    text = _read(folder, MANIFEST, _LARGEST_MANIFEST)
    manifest = parse(folder / MANIFEST, text)
    files = {name: checked(folder, name, digest) for name, digest in manifest.files.items()}
    for name in [BASE, NOISY, NOISE, GOLDEN, *([CALIBRATION] if manifest.ood else [])]:
        if name not in files:
            raise BundleError(f"{folder / MANIFEST}: files does not name {name}; export the bundle again")
    law = tensors.law(folder / NOISE, files[NOISE], manifest)
    return Bundle(
        manifest=manifest,
        digest="sha256:" + hashlib.sha256(text).hexdigest(),
        base=files[BASE],
        noisy=files[NOISY],
        law=law,
        golden=tensors.golden(folder / GOLDEN, files[GOLDEN], manifest, law),
        detector=_detector(folder, files.get(CALIBRATION, b""), manifest, law),
        prior=prior.table() if (prior := manifest.claims.of_class.prior) else None,
    )


def _detector(folder: Path, data: bytes, manifest: Manifest, law: Law) -> Detector | None:
    here = law.at(np.zeros(manifest.input.shape, dtype=np.int32)).guarantee  # an input matters by its shape alone
    return tensors.detector(folder / CALIBRATION, data, manifest.ood, here) if manifest.ood else None


def read_manifest(folder: Path) -> Manifest:
    """What the bundle in `folder` declares, no other file read. Raises `BundleError`."""
    return parse(folder / MANIFEST, _read(folder, MANIFEST, _LARGEST_MANIFEST))


def write(
    folder: Path,
    manifest: Manifest,
    *,
    base: bytes,
    noisy: bytes,
    noise: Mapping[str, NDArray[Any]],
    golden: Golden,
    calibration: NDArray[np.float64] | None = None,
    others: Mapping[str, bytes] | None = None,
) -> Bundle:
    """Write a bundle to `folder`, filling in `files`, and load it back.

    `noise` are the tensors of its law, which proves them: see `Law.tensors`. `others` are files that are kept with it, by
    name, and read by nobody who serves: the model as it came.
    """
    files = {
        BASE: base,
        NOISY: noisy,
        NOISE: save_tensors(dict(noise)),
        GOLDEN: save_tensors(tensors.stored(golden)),
    }
    files |= others or {}
    if calibration is not None:
        files[CALIBRATION] = save_tensors({"scores": np.sort(calibration)})
    named = manifest.model_copy(
        update={"files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}}
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / MANIFEST).write_text(named.model_dump_json(indent=1, by_alias=True, exclude_none=True) + "\n")
    return load(folder)


def checked(folder: Path, name: str, digest: str) -> bytes:
    """One file of the bundle, whose SHA-256 is as declared. Raises `BundleError`."""
    data = _read(folder, name)
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise BundleError(
            f"{folder / name} was altered: its SHA-256 is {found}, the manifest says {digest}; restore the bundle"
        )
    return data


def _read(folder: Path, name: str, largest: float = math.inf) -> bytes:
    path = folder / name
    try:
        inside = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) and path.resolve().is_relative_to(folder.resolve())
        if not inside:
            raise BundleError(f"{path} lies outside the bundle; put the file itself into {folder}")
        if path.stat().st_size > largest:
            raise BundleError(f"{path} has more than the {largest} bytes that are read; restore the bundle")
        return regular_file.read(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); restore the bundle") from error
    except RuntimeError as error:  # before Python 3.13
        raise BundleError(f"{path} cannot be read (its links go in a circle); restore the bundle") from error
