"""What a bundle declares: the strict schema of `manifest.json`."""

from __future__ import annotations

import functools
import math
import unicodedata
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from certify import strict_json
from certify.bounds.anytime import MAX_DRAWS
from certify.claims.certificate import AlphaSplit
from certify.claims.procedures import SLICE
from certify.ood.scores import SCORES
from certify.smoothing.ball import Euclidean
from certify.smoothing.gaussian import Gaussian
from certify.strict_json import kind, shown

FORMAT = "certserve-bundle/1"
MANIFEST = "manifest.json"

LARGEST_BATCH = 2**29
"""Coordinates in one batch of noisy inputs: 2 GiB of them."""
_SHOWN_ERRORS = 5


class BundleError(ValueError):
    """A bundle cannot be served; the message, of one line, names the file and how to mend it."""


def _readable(text: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        raise ValueError("control characters and line breaks are not allowed")
    return text


def _label(text: str) -> str:
    if text != text.strip() or not text:
        raise ValueError("a label must not be empty, nor begin or end with a space")
    return _readable(text)


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]
Label = Annotated[str, Field(max_length=256), AfterValidator(_label)]
Text = Annotated[str, Field(max_length=4_096), AfterValidator(_readable)]
Positive = Annotated[float, Field(gt=0)]
ShareOfAlpha = Annotated[float, Field(ge=0, le=1)]
DrawCount = Annotated[int, Field(gt=0, le=MAX_DRAWS)]
Length = Annotated[int, Field(ge=1, le=LARGEST_BATCH)]
Note = str | Annotated[int, Field(ge=-(2**63), lt=2**63)] | float


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False)


class InputSpec(_Strict):
    """The declared grid: `value = low + step * integer`, the integers being 0 to `top`. Radii are in these units."""

    name: Name
    shape: Annotated[tuple[Length, ...], Field(min_length=1, max_length=4, strict=False)]
    layout: Literal["CHW", "HWC", "features"]
    low: float
    step: Positive
    high: float
    units: Text

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
        if self.layout != "features" and len(self.shape) != 3:
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

    of_class: Annotated[ShareOfAlpha, Field(alias="class")]
    upper: ShareOfAlpha
    threshold: ShareOfAlpha = 0.0
    interval: ShareOfAlpha = 0.0

    def split(self) -> AlphaSplit:
        """The shares as the procedures take them; raises if they sum to more than one."""
        return AlphaSplit(
            of_class=self.of_class, of_upper=self.upper, of_threshold=self.threshold, of_interval=self.interval
        )


class OodSpec(_Strict):
    """The score's definition, its calibration and the radius at which it is certified. In-distribution is positive.

    `score` is a name of the registry `certify.ood.scores`; `normalised` says that it is the form on unit features (`++`).
    `threshold` is the score that the calibration gives at `target_tpr` and `eta`, to the last bit.
    """

    score: Text
    normalised: bool
    score_draws: Literal[32]
    target_tpr: Annotated[float, Field(gt=0, lt=1)]
    eta: Annotated[float, Field(gt=0, lt=1)]
    threshold: float
    radius: Positive

    @property
    def name(self) -> str:
        """The score's name in the registry."""
        return self.score + ("++" if self.normalised else "")

    @model_validator(mode="after")
    def _registered(self) -> OodSpec:
        if self.name not in SCORES:
            raise ValueError(f"score {self.name!r} is not known; expected one of {', '.join(SCORES)}")
        return self


class MixtureSpec(_Strict):
    """The weight of the robust network in the mixture."""

    robust_weight: Annotated[float, Field(ge=0.5, le=1)]


class Defaults(_Strict):
    """What a request gets that does not say otherwise."""

    target_radius: Annotated[float, Field(ge=0)]
    alpha: Annotated[float, Field(ge=1e-12, le=0.5)] = 0.001
    max_draws: DrawCount = 10_000
    deadline_ms: Annotated[int, Field(gt=0, le=86_400_000)] = 10_000


@functools.lru_cache(maxsize=256)
def _gaussian(declared: float, steps: float, step: float, units: str) -> Gaussian:
    """Every request asks for it, and fractions take their time."""
    exact = Fraction(steps) * Fraction(step)
    sigma = declared if Fraction(declared) <= exact else math.nextafter(float(exact), 0.0)
    return Gaussian(sigma, norm=Euclidean(units, (step,)))


class Manifest(_Strict):
    """What a bundle declares. `files` maps each other file to its SHA-256 in hexadecimal.

    Noisy passes run `batch_rows` at a time, always: the last bits of a result may depend on the shape of its batch. Few
    rows answer sooner, many cost less each; a batch of 2 to 8 ms is a good compromise.

    `base_output` says what the base graph gives: probabilities, of which those of a row sum to one, or a network's own
    scores of the labels (such as independent sigmoids), which are never called probabilities and cannot be mixed.
    """

    format: Literal["certserve-bundle/1"]
    name: Name
    version: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")]
    description: Text
    labels: Annotated[tuple[Label, ...], Field(min_length=2, strict=False)]
    input: InputSpec
    noise: NoiseSpec
    alpha_split: AlphaShares
    fixed_draws: Annotated[tuple[DrawCount, ...], Field(strict=False)] = (1_000, 10_000, 100_000)
    ood: OodSpec | None = None
    mixture: MixtureSpec | None = None
    defaults: Defaults
    batch_rows: Annotated[int, Field(ge=SLICE, le=4_096, multiple_of=SLICE)] = 128
    golden_tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    base_output: Literal["probabilities", "scores"] = "probabilities"
    training: dict[Text, Note] = {}
    files: dict[Name, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = {}

    @property
    def formulas(self) -> Gaussian:
        """What bounds of probabilities prove under the declared noise, but for the charge of the noise as it is drawn.

        Its sigma is never above the exact product of steps and step, which bounds every radius.
        """
        return _gaussian(self.noise.sigma, self.noise.sigma_steps, self.input.step, self.input.units)

    @model_validator(mode="after")
    def _bound_together(self) -> Manifest:
        self.alpha_split.split()
        if abs(self.noise.sigma - self.noise.sigma_steps * self.input.step) > 2.0**-50 * self.noise.sigma:
            raise ValueError("noise.sigma must be noise.sigma_steps * input.step, to double precision")
        if len(set(self.fixed_draws)) != len(self.fixed_draws):
            raise ValueError("fixed_draws must differ from each other")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must differ from each other")
        if self.base_output == "scores" and self.mixture is not None:
            raise ValueError("a mixture needs probabilities, and base_output is scores; leave the mixture out")
        if self.name == "stats":
            raise ValueError("a model cannot be named 'stats': its URL is taken")
        return self

    @model_validator(mode="after")
    def _within_reason(self) -> Manifest:
        if self.batch_rows * self.input.size > LARGEST_BATCH:
            raise ValueError(
                f"a batch of batch_rows * {self.input.size} coordinates does not fit into 2 GiB; declare fewer rows"
            )
        reach = self.formulas.reach.size
        if self.defaults.target_radius > reach or (self.ood is not None and self.ood.radius > reach):
            raise ValueError(f"radii must be at most {reach:g}, eight sigma: no number of draws proves more")
        return self


def parse(path: Path, text: bytes) -> Manifest:
    """The manifest in `text`, which was read from `path`; raises `BundleError`."""
    try:
        raw = strict_json.loads(text)
    except ValueError as error:
        raise BundleError(f"{path} is not JSON ({error}); restore the bundle") from error
    if not isinstance(raw, dict):
        raise BundleError(f"{path} is a JSON {kind(raw)}; expected the object of a manifest: restore the bundle")
    if raw.get("format") != FORMAT:
        raise BundleError(f"{path}: format is {shown(raw.get('format'))}; this server reads {FORMAT!r}")
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        raise BundleError(f"{path}: {_said(error)}; mend or export the bundle again") from error


def _said(error: ValidationError) -> str:
    found = error.errors(include_input=False, include_url=False)
    lines = [f"{'.'.join(map(_place, each['loc'])) or 'manifest'}: {each['msg']}" for each in found[:_SHOWN_ERRORS]]
    return "; ".join(lines) + (f"; and {len(found) - _SHOWN_ERRORS} more" if len(found) > _SHOWN_ERRORS else "")


def _place(part: int | str) -> str:
    return part if isinstance(part, str) and part.isidentifier() and len(part) < 60 else shown(part).strip("'")
