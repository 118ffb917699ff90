"""What a bundle declares: the strict schema of `manifest.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from certify import strict_json
from certify.claims.certificate import AlphaSplit
from certify.claims.confidence import last_vote
from certify.claims.procedures import SLICE
from certify.smoothing.law import Guarantee
from certify.strict_json import kind, shown
from export.bundle.claims_spec import ArgmaxRule, ClaimsSpec, Defaults, DrawCount, MixtureSpec, OodSpec
from export.bundle.graph_spec import Graphs
from export.bundle.input_spec import InputSpec
from export.bundle.law_spec import LawSpec
from export.bundle.provenance import Provenance
from export.bundle.schema import LARGEST_BATCH, BundleError, Label, Name, Strict, Text

FORMAT: Literal["certserve-bundle/2"] = "certserve-bundle/2"
MANIFEST = "manifest.json"
_SHOWN_ERRORS = 5


class Manifest(Strict):
    """What a bundle declares. `files` maps each other file to its SHA-256 in hexadecimal.

    Noisy passes run `batch_rows` at a time, always: the last bits of a result may depend on the shape of its batch. Few
    rows answer sooner, many cost less each; a batch of 2 to 8 ms is a good compromise.
    """

    format: Literal["certserve-bundle/2"]
    name: Name
    version: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")]
    description: Text
    labels: Annotated[tuple[Label, ...], Field(min_length=2, strict=False)]
    input: InputSpec
    law: LawSpec
    graphs: Graphs
    decision: ArgmaxRule
    claims: ClaimsSpec
    fixed_draws: Annotated[tuple[DrawCount, ...], Field(strict=False)] = (1_000, 10_000, 100_000)
    ood: OodSpec | None = None
    mixture: MixtureSpec | None = None
    defaults: Defaults
    batch_rows: Annotated[int, Field(ge=SLICE, le=4_096, multiple_of=SLICE)] = 128
    golden_tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    provenance: Provenance = Provenance()
    files: dict[Name, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(default_factory=dict)

    @property
    def formulas(self) -> Guarantee:
        """What bounds of probabilities prove under the declared law, but for the charge of the noise as it is drawn."""
        return self.law.formulas(self.input.grid)

    @property
    def alpha_split(self) -> AlphaSplit:
        """How one alpha is shared by the claims."""
        return self.claims.split()

    @property
    def two_sided(self) -> bool:
        """Whether a class is compared with the best of the others instead of with one half."""
        return bool(self.claims.of_class.two_sided)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """What the confidence of a vote is compared with, rising; none where it is not claimed."""
        return self.claims.confidence.thresholds if self.claims.confidence else ()

    @property
    def last_vote(self) -> int:
        """The largest integer that the noisy graph may give as a vote, with its grade: see `certify.claims.confidence`."""
        return last_vote(len(self.labels), len(self.thresholds))

    @property
    def base_output(self) -> Literal["probabilities", "scores"]:
        """What the numbers of the base graph are."""
        return self.graphs.base.heads[0]

    @model_validator(mode="after")
    def _bound_together(self) -> Manifest:
        self.claims.split()
        self.law.check(self.input.grid)
        if len(set(self.fixed_draws)) != len(self.fixed_draws):
            raise ValueError("fixed_draws must differ from each other")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must differ from each other")
        if self.base_output == "scores" and self.mixture is not None:
            raise ValueError("a mixture needs probabilities, and graphs.base gives scores; leave the mixture out")
        if self.ood is not None and "score" not in self.graphs.noisy.heads:
            raise ValueError("ood needs a score, and graphs.noisy.heads names none; leave ood out")
        if self.base_output == "scores" and self.claims.confidence is not None:
            raise ValueError(
                "claims.confidence needs probabilities, and graphs.base gives scores; leave claims.confidence out"
            )
        if self.ood is None and self.claims.joint is not None:
            raise ValueError("claims.joint needs the threshold of a score, and there is no ood; leave claims.joint out")
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
        alarm = self.ood.alarm if self.ood else None
        radii = [self.defaults.target_radius, *(each.radius for each in (self.ood, alarm) if each)]
        if max(radii) > reach:
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
        raise BundleError(
            f"{path}: format is {shown(raw.get('format'))}; this server reads {FORMAT!r}: export the model again"
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        raise BundleError(f"{path}: {said(error)}; mend or export the bundle again") from error


def said(error: ValidationError) -> str:
    """What is wrong, by the place of each field."""
    found = error.errors(include_input=False, include_url=False)
    lines = [f"{'.'.join(map(_place, each['loc'])) or 'manifest'}: {each['msg']}" for each in found[:_SHOWN_ERRORS]]
    return "; ".join(lines) + (f"; and {len(found) - _SHOWN_ERRORS} more" if len(found) > _SHOWN_ERRORS else "")


def _place(part: int | str) -> str:
    return part if isinstance(part, str) and part.isidentifier() and len(part) < 60 else shown(part).strip("'")
