"""What travels between the wires, the gateway and the engine. No wire format, no tensor library's types but numpy's.

PredictRequest   wire -> gateway     what a client asked, unresolved
Task             gateway -> engine   frozen and complete: defaults resolved, keys fixed; this crosses Ray
Reply            engine -> gateway   one Prediction a row (or one Share, of a range of draws), and what the work cost
Prediction       ... -> wire         one row's answer, with its claims
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from certify.claims.certificate import AlphaSplit, Certificate
from certify.claims.confidence import Confidence
from certify.claims.procedures import Asked, Off
from certify.mixture.mix import Mixture
from certify.ood.joint_label import JointLabel
from certify.ood.verdict import Ood
from export.bundle import Manifest
from serving.security.callers import ANONYMOUS, Caller

PARTS = ("probabilities", "certificate", "ood", "mixture", "joint", "confidence")
"""What `outputs` may name; the label always comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a client may ask for, each None (or False) unless it was said. Names and meanings are those of the wire.

    `certify` mode; `target_radius` caller's units; `radius_tolerance` (`precision` only, which needs it) likewise;
    `max_draws`; `draws` (`fixed` only, from the bundle's menu); `alpha`; `deadline_ms`; `norm`; `outputs` a subset of
    `PARTS`; `snap` allows off-grid values; `receipt` a signed receipt; `top_k` so many of the largest numbers.
    """

    certify: str | None = None
    target_radius: float | None = None
    radius_tolerance: float | None = None
    max_draws: int | None = None
    draws: int | None = None
    alpha: float | None = None
    deadline_ms: int | None = None
    norm: str | None = None
    outputs: tuple[str, ...] | None = None
    snap: bool = False
    receipt: bool = False
    top_k: int | None = None

    @property
    def off(self) -> bool:
        """Whether no certificate is wanted, in so many words."""
        return self.certify == Off.name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PredictRequest:
    """One decoded request. `inputs` is (rows, *shape): integers are grid integers, floats are in the caller's units."""

    model: str
    version: str | None
    inputs: NDArray[np.generic]
    options: Options
    digest: str = ""
    """Of the bundle for which the wire has read the inputs; with none, whatever bundle the version has."""
    caller: Caller = ANONYMOUS
    """Who asks, by the word of the wire's frame."""
    plain: bool = False
    """Whether the default procedure is `off` (the Open Inference Protocol) instead of `target`."""

    def of(self, caller: Caller) -> PredictRequest:
        """The same, of this caller."""
        return self if caller is self.caller else replace(self, caller=caller)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputNote:
    """How far the input was moved onto the grid, in the caller's units (Euclidean distance, to double precision).

    There is a note wherever it was moved at all; `snapped` says that some value lay off the grid by more than a
    thousandth of a step, so that only `snap` allowed it. `treated`: what was done to a file before, in words, each of which
    the bundle declares; the guarantee starts behind it.
    """

    snapped: bool
    snap_distance: float
    treated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """One request, complete. `rows` are its inputs, on the grid; `keys[i]` is the noise key of row i, and there are none
    where nothing is drawn.

    `digest` is that of the bundle by which the task was made complete and its keys derived, `runtime` the description of
    the runtime that has answered for it before, empty where none has: an engine with others refuses. `timeout_s` is what
    is left of the deadline when the task is sent; clocks are not compared between hosts.

    `score_keys` are given for `fixed` alone, whose draws are of a stream of their own, and only if the score is wanted: it
    is that of the first draws under these keys, which are those of every other procedure, so asking again buys no other
    score.
    """

    model: str
    version: str
    digest: str
    rows: tuple[NDArray[np.int32], ...]
    keys: tuple[bytes, ...]
    procedure: Asked
    max_draws: int
    alpha: float
    timeout_s: float
    parts: frozenset[str]
    receipt: bool = False
    key_id: str = ""
    """The public name of the secret that the keys come from."""
    runtime: str = ""
    score_keys: tuple[bytes, ...] = ()
    request_id: str = ""
    """By which the logs of gateway and engine speak of it."""
    trace_id: str = ""
    """Of the trace that it belongs to, for the same logs."""
    asker: str = ""
    """The name of who asks: under load callers share a device, each in proportion to its `weight`."""
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """What produced an answer, as the engine that counted says: the bundle, and the runtime that ran its graphs."""

    name: str
    version: str
    digest: str
    runtime: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A served model as clients see it: what its bundle declares."""

    manifest: Manifest
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """One row's answer. `class_index` and `probabilities` are the base network's on the input without noise.

    `certificate` and `mixture` are None where `certify` is off or they were not asked for; `ood` where it was not asked
    for, the model has no such head, or too few draws were made; `joint` as `certificate`, and where the bundle does not
    declare it or the procedure claims the class alone. `alpha_split` is the split in force. `receipt` is the JSON
    document of the signed receipt, where it was asked for. `granted_draws` is what overload left of `max_draws`, None
    where that did not end the draws.
    """

    class_index: int
    probabilities: NDArray[np.float32]
    certificate: Certificate | None
    ood: Ood | None
    mixture: Mixture | None
    alpha: float
    alpha_split: AlphaSplit
    draws: int
    lost_draws: int
    input: InputNote | None = None
    receipt: str | None = None
    granted_draws: int | None = None
    joint: JointLabel | None = None
    confidence: Confidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Share:
    """What one engine counted of a row's range of draws: from its start on, in the order of their places (see
    `serving.engine.job.Job`), as far as it came.

    `votes` (n,) unsigned integers and `scores` (n,) float32, one a draw; in the slices that begin at the places `lost`
    they mean nothing. `base` are the base probabilities, None unless the range begins at 0. `granted` is what overload left
    of the range, None where it took nothing.
    """

    votes: NDArray[np.unsignedinteger]
    scores: NDArray[np.float32]
    lost: frozenset[int]
    base: NDArray[np.float32] | None
    granted: int | None


Row = TypeVar("Row", Prediction, Share)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reply(Generic[Row]):
    """The rows of one task, in order, the seconds they waited and ran, and what counted them: the digest of the engine's
    bundle and the description of its runtime. Draws of two are never counted together.
    """

    rows: tuple[Row, ...]
    queue_s: float
    compute_s: float
    digest: str
    runtime: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What the gateway gives a wire: the predictions, who made them, and the seconds of the engine."""

    model: ModelIdentity
    labels: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    queue_s: float
    compute_s: float
    step: float = 0.0
    """The distance of the nearest two inputs of the grid, in the caller's units."""
    base_output: Literal["probabilities", "scores"] = "probabilities"
    """What the base network's numbers are, as the bundle declares."""
    top: int = 0
    """How many of the largest numbers of a row are said, with their labels; 0 says all, in the order of the labels."""

    def reaches_others(self, radius: float) -> bool:
        """Whether any other grid input lies within `radius`; one below a step says nothing but of the input itself."""
        return 0 < radius >= self.step
