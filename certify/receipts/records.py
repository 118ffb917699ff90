"""The parts of a receipt that say what was counted and how; what has to hold of them, `certify.receipts.receipt` says."""

from __future__ import annotations

from dataclasses import dataclass

from certify.receipts.alarm_record import AlarmRecord
from certify.receipts.whole_ball import WholeBall


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRecord:
    """The input X: `digest` is `certify.smoothing.keys.lattice_digest`; its integers k mean `low + k *
    step`, up to `high`.
    """

    digest: str
    shape: tuple[int, ...]
    low: float
    step: float
    high: float
    units: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """What answered: the bundle by its digest, which covers every file of it, and the runtime that ran its graph."""

    name: str
    version: str
    digest: str
    runtime: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One more number that the formulas of a law depend on."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseRecord:
    """Which draws: `[start, stop)` of `stream` under the derived `key` (hexadecimal); `key_id` names the secret.

    `law` is the law's name and `sigma`, `norm` and `parameters`, as far as it has them, are its parameters: see
    `certify.smoothing.law`. `sigma` is in the caller's units, rounded down; `charge` the total variation that every bound
    bears.
    """

    stream: str
    charge: float
    key: str
    key_id: str
    start: int
    stop: int
    sigma: float | None = None
    norm: str | None = None
    law: str | None = None
    parameters: tuple[Parameter, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRecord:
    """The shares of alpha in force; see `certify.claims.certificate.AlphaSplit`. A further claim without one is left out."""

    of_class: float
    of_upper: float
    of_threshold: float
    of_interval: float
    of_joint: float | None = None
    of_confidence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcedureRecord:
    """The procedure, its parameters, and what ended it: "decided", "max_draws" or "cut" (deadline or overload).

    `menu_size` is, of `fixed`, how many numbers of draws the bundle declares, each with a stream of its own. `target` is
    the whole ball of which `target_radius` is the first size.
    """

    name: str
    target_radius: float | None
    max_draws: int
    stop_reason: str
    radius_tolerance: float | None = None
    menu_size: int | None = None
    target: WholeBall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreDraws:
    """Which draws the scores are of: `[start, stop)` under `key` (hexadecimal), `lost` of them without a result.

    Those of the votes, but for `fixed`, whose score is that of the anytime procedures.
    """

    key: str
    start: int
    stop: int
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord:
    """What was counted of the scores, and what the bundle fixes about them; see `ScoreTerms` and `ScoreCounts`."""

    threshold: float
    radius: float
    score_draws: int
    calibration_size: int
    score: float | None
    calibration_at_least: int
    above: int
    at_most: int
    rank: int | None
    lowest: float
    highest: float
    drawn: ScoreDraws | None = None
    alarm: AlarmRecord | None = None
