"""The bundle: a folder that holds one model with all that its guarantees rest on. This module alone knows the format.

    manifest.json          strict: an unknown key or version refuses to load; it names the SHA-256 of every other file
    base.onnx              lattice int32 [n, *shape] -> probabilities float32 [n, C]
    noisy.onnx             lattice int32 [n, *shape] -> vote int64 [n] (C stands for "none"), score float32 [n]
    noise.safetensors      tails uint64, the exact law of the noise
    golden.safetensors     inputs and the outputs that a runtime has to reproduce before it serves
    calibration.safetensors  scores float64, sorted (only with an OOD head)

The digest of a bundle is the SHA-256 of `manifest.json`, and so covers every file. There is no pickle.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from certify.anytime import MAX_DRAWS
from certify.certificate import AlphaSplit
from certify.noise import NoiseTableError, RoundedGaussian
from certify.ood import Detector
from certify.procedures import SLICE
from export import regular_file

FORMAT = "certserve-bundle/1"
BASE, NOISY, NOISE, GOLDEN, CALIBRATION = (
    "base.onnx",
    "noisy.onnx",
    "noise.safetensors",
    "golden.safetensors",
    "calibration.safetensors",
)

_EXPECTED = "expected <name>/<version>/manifest.json"
_TAKE_AWAY = "take the folder away, or begin its name with a dot"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Draws = Annotated[int, Field(gt=0, le=MAX_DRAWS)]


class BundleError(ValueError):
    """A bundle cannot be served; the message names the file and how to mend it."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class InputSpec(_Strict):
    """The declared grid: `value = low + step * integer`, the integers being 0 to `top`. Radii are in these units."""

    name: Name
    shape: Annotated[tuple[int, ...], Field(min_length=1, max_length=4, strict=False)]
    layout: Literal["CHW", "HWC", "features"]
    low: float
    step: Positive
    high: float
    units: str

    @property
    def top(self) -> int:
        """The largest grid integer."""
        return round((self.high - self.low) / self.step)

    @property
    def size(self) -> int:
        """The number of coordinates."""
        return math.prod(self.shape)

    @model_validator(mode="after")
    def _on_grid(self) -> InputSpec:
        if min(self.shape) < 1 or (self.layout != "features" and len(self.shape) != 3):
            raise ValueError(f"shape {self.shape} does not fit layout {self.layout}")
        steps = (self.high - self.low) / self.step
        if not 1 <= steps < 2**24 or abs(steps - round(steps)) > 1e-6 * steps:
            raise ValueError("high - low must be a whole number of steps, at least one")
        return self


class NoiseSpec(_Strict):
    """The noise of the smoothed network: `sigma` in the caller's units is `sigma_steps` grid steps."""

    stream: Literal["noise-v1"]
    sigma: Positive
    sigma_steps: Positive


class AlphaShares(_Strict):
    """The split of one alpha over the statements of one answer."""

    of_class: Annotated[Share, Field(alias="class")]
    upper: Share
    threshold: Share = 0.0
    interval: Share = 0.0

    def split(self) -> AlphaSplit:
        """The shares as the procedures take them; raises if they sum to more than one."""
        return AlphaSplit(
            of_class=self.of_class, of_upper=self.upper, of_threshold=self.threshold, of_interval=self.interval
        )


class OodSpec(_Strict):
    """The score's definition, its calibration and the radius at which it is certified. In-distribution is positive."""

    score: Literal["md", "rmd"]
    normalised: bool
    score_draws: Literal[32]
    target_tpr: Annotated[float, Field(gt=0, lt=1)]
    eta: Annotated[float, Field(gt=0, lt=1)]
    threshold: Annotated[float, Field(allow_inf_nan=False)]
    radius: Positive


class MixtureSpec(_Strict):
    """The weight of the robust network in the mixture."""

    robust_weight: Annotated[float, Field(ge=0.5, le=1)]


class Defaults(_Strict):
    """What a request gets that does not say otherwise."""

    target_radius: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    alpha: Annotated[float, Field(ge=1e-12, le=0.5)] = 0.001
    max_draws: Draws = 10_000
    deadline_ms: Annotated[int, Field(gt=0)] = 10_000


class Manifest(_Strict):
    """What a bundle declares. `files` maps each other file to its SHA-256 in hexadecimal.

    Noisy passes run `batch_rows` at a time, always: the last bits of a result may depend on the shape of its batch. Few
    rows answer sooner, many cost less each; a batch of 2 to 8 ms is a good compromise.
    """

    format: Literal["certserve-bundle/1"]
    name: Name
    version: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")]
    description: str
    labels: Annotated[tuple[str, ...], Field(min_length=2, strict=False)]
    input: InputSpec
    noise: NoiseSpec
    alpha_split: AlphaShares
    fixed_draws: Annotated[tuple[Draws, ...], Field(strict=False)] = (1_000, 10_000, 100_000)
    ood: OodSpec | None = None
    mixture: MixtureSpec | None = None
    defaults: Defaults
    batch_rows: Annotated[int, Field(ge=SLICE, le=4_096, multiple_of=SLICE)] = 128
    golden_tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    training: dict[str, str | int | float] = {}
    files: dict[Name, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = {}

    @model_validator(mode="after")
    def _bound_together(self) -> Manifest:
        self.alpha_split.split()
        if abs(self.noise.sigma - self.noise.sigma_steps * self.input.step) > 2.0**-50 * self.noise.sigma:
            raise ValueError("noise.sigma must be noise.sigma_steps * input.step, to double precision")
        if len(set(self.fixed_draws)) != len(self.fixed_draws):
            raise ValueError("fixed_draws must differ from each other")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must differ from each other")
        if self.name == "stats":
            raise ValueError("a model cannot be named 'stats': its URL is taken")
        return self


@dataclass(frozen=True, eq=False, kw_only=True)
class Golden:
    """Inputs and outputs that every runtime reproduces before it serves: labels exactly, numbers to a tolerance."""

    base_input: NDArray[np.int32]
    base_probabilities: NDArray[np.float32]
    noisy_input: NDArray[np.int32]
    votes: NDArray[np.int64]
    scores: NDArray[np.float32]

    def check(self, manifest: Manifest) -> None:
        """Raise `BundleError` unless these are inputs and outputs of such a model."""
        labels, rows = len(manifest.labels), len(self.base_input)
        shapes = {
            "base_input": (rows, *manifest.input.shape),
            "base_probabilities": (rows, labels),
            "noisy_input": (len(self.votes), *manifest.input.shape),
            "votes": (len(self.votes),),
            "scores": (len(self.votes),),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape or 0 in shape:
                raise BundleError(f"{GOLDEN}: {name} has shape {getattr(self, name).shape}, expected {shape}")
        probabilities = self.base_probabilities
        if (
            not np.all((probabilities >= 0) & (probabilities <= 1 + 1e-6))
            or not np.isin(self.votes, range(labels + 1)).all()
        ):
            raise BundleError(f"{GOLDEN}: expected probabilities from 0 to 1 and votes from 0 to {labels}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Bundle:
    """A loaded bundle: every digest checked, the noise table proven, nothing left to read."""

    manifest: Manifest
    digest: str
    base: bytes
    noisy: bytes
    noise: RoundedGaussian
    golden: Golden
    detector: Detector | None

    @property
    def key(self) -> str:
        """The bundle's place in a repository: "name/version"."""
        return f"{self.manifest.name}/{self.manifest.version}"

    @cached_property
    def sigma(self) -> float:
        """The noise in the caller's units, never above the exact product of steps and step, which bounds every radius."""
        exact = Fraction(self.manifest.noise.sigma_steps) * Fraction(self.manifest.input.step)
        declared = self.manifest.noise.sigma
        return declared if Fraction(declared) <= exact else math.nextafter(float(exact), 0.0)


def load(folder: Path) -> Bundle:
    """Read and check the bundle in `folder`; raises `BundleError` for whatever is missing, unknown or altered."""
    text = _read(folder, "manifest.json")
    manifest = _manifest(folder, text)
    files = {name: _checked(folder, name, digest) for name, digest in manifest.files.items()}
    wanted = [BASE, NOISY, NOISE, GOLDEN, *([CALIBRATION] if manifest.ood else [])]
    for name in wanted:
        if name not in files:
            raise BundleError(f"{folder / 'manifest.json'}: files does not name {name}; export the bundle again")
    try:
        golden = Golden(**load_tensors(files[GOLDEN]))
        golden.check(manifest)
        return Bundle(
            manifest=manifest,
            digest="sha256:" + hashlib.sha256(text).hexdigest(),
            base=files[BASE],
            noisy=files[NOISY],
            noise=RoundedGaussian(manifest.noise.sigma_steps, load_tensors(files[NOISE])["tails"]),
            golden=golden,
            detector=_detector(manifest.ood, files.get(CALIBRATION)),
        )
    except (SafetensorError, NoiseTableError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{folder}: a tensor file does not hold what it should: {error}") from error


def write(
    folder: Path,
    manifest: Manifest,
    *,
    base: bytes,
    noisy: bytes,
    tails: NDArray[np.uint64],
    golden: Golden,
    calibration: NDArray[np.float64] | None = None,
) -> Bundle:
    """Write a bundle to `folder`, filling in `files`, and load it back."""
    files = {
        BASE: base,
        NOISY: noisy,
        NOISE: save_tensors({"tails": tails}),
        GOLDEN: save_tensors({name: np.ascontiguousarray(value) for name, value in vars(golden).items()}),
    }
    if calibration is not None:
        files[CALIBRATION] = save_tensors({"scores": np.sort(calibration)})
    named = manifest.model_copy(
        update={"files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}}
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "manifest.json").write_text(named.model_dump_json(indent=1, by_alias=True) + "\n")
    return load(folder)


def load_repository(folder: Path) -> list[Bundle]:
    """Every bundle at `folder/<name>/<version>/`, by name and version.

    Whatever folder stands in such a place has to be a bundle: one that is damaged or half copied is refused by name, and
    never passed over for an older version. Only names that begin with a dot, `lost+found`, and files beside the folders are
    passed over. A repository without any bundle is an error.
    """
    bundles = []
    for place in _places(folder):
        bundle = load(place)
        if (place.parent.name, place.name) != (bundle.manifest.name, bundle.manifest.version):
            raise BundleError(
                f"{place}: the manifest says {bundle.manifest.name}/{bundle.manifest.version}; rename the folder"
            )
        bundles.append(bundle)
    return bundles


def _places(repository: Path) -> list[Path]:
    """The folders of a repository that have to be bundles, each with a manifest. Raises `BundleError`."""
    try:
        names = _entries(repository)
    except OSError as error:
        raise BundleError(
            f"{repository} holds no bundle: it cannot be read ({error.strerror}); {_EXPECTED} below it"
        ) from error
    if any(entry.name == "manifest.json" for entry in names):
        raise BundleError(f"{repository} is one bundle: {_mend(repository)}")
    found = [version for name in names if _is_folder(name) for version in _versions(name)]
    if not found:
        there = f", and found {', '.join(entry.name for entry in names[:5])}" if names else ""
        raise BundleError(f"{repository} holds no bundle: {_EXPECTED} below it{there}")
    return found


def _versions(name: Path) -> list[Path]:
    """The versions in the folder of one model, each of them a folder with a manifest."""
    entries = _readable(name)
    if any(entry.name == "manifest.json" for entry in entries):
        raise BundleError(f"{name.parent} holds {name.name}/manifest.json, one folder too high: {_mend(name)}")
    versions = [entry for entry in entries if _is_folder(entry) or re.fullmatch("[0-9]+", entry.name)]
    if not versions:
        raise BundleError(f"{name} holds no version: {_EXPECTED}; {_TAKE_AWAY}")
    for version in versions:
        if not _is_folder(version):
            raise BundleError(f"{version} is no folder: {_EXPECTED}; restore the bundle, or take the file away")
        if not any(entry.name == "manifest.json" for entry in _readable(version)):
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


def _manifest(folder: Path, text: bytes) -> Manifest:
    try:
        raw: Any = json.loads(text)
    except ValueError as error:
        raise BundleError(f"{folder / 'manifest.json'} is not JSON: {error}") from error
    found = raw.get("format") if isinstance(raw, dict) else None
    if found != FORMAT:
        raise BundleError(f"{folder / 'manifest.json'}: format is {found!r}; this server reads {FORMAT!r}")
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        lines = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors())
        raise BundleError(f"{folder / 'manifest.json'}: {lines}") from error


def _checked(folder: Path, name: str, digest: str) -> bytes:
    data = _read(folder, name)
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise BundleError(
            f"{folder / name} was altered: its SHA-256 is {found}, the manifest says {digest}; restore the bundle"
        )
    return data


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{path} lies outside the bundle")
    try:
        return regular_file.read(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); restore the bundle") from error


def _detector(spec: OodSpec | None, data: bytes | None) -> Detector | None:
    if spec is None or data is None:
        return None
    tensors: Mapping[str, NDArray[np.float64]] = load_tensors(data)
    scores = tensors["scores"]
    if scores.dtype != np.float64 or scores.ndim != 1 or np.any(scores[1:] < scores[:-1]):
        raise BundleError(f"{CALIBRATION}: expected one float64 vector of sorted scores")
    return Detector(threshold=spec.threshold, radius=spec.radius, score_draws=spec.score_draws, calibration=scores)
