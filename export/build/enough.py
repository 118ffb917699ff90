"""Whether data are enough for what is claimed from them, and how many would be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from certify.bounds.binomial import least_hits
from certify.ood.conformal import least_size, pac_rank

_WORTH = 0.6
"""A threshold whose expected false alarms are below this share of what is allowed misses foreign inputs for want of data."""
_ROWS_OF_A_LABEL = 20


def calibration(rows: int, target_tpr: float, eta: float) -> list[str]:
    """What `rows` held-out rows fall short of, one line each; raises `ValueError` where there is no threshold at all."""
    far = 1 - target_tpr
    expected = expected_alarms(rows, far, eta)
    said = []
    if expected < _WORTH * far:
        wanted = _least(lambda size: _has_rank(size, far, eta) and expected_alarms(size, far, eta) >= _WORTH * far)
        said.append(
            f"{rows:,} calibration rows put the threshold where {expected:.1%} of ordinary inputs are expected beyond it,"
            f" though {far:.1%} are allowed: more foreign inputs are missed than need be; {wanted:,} rows give"
            f" {_WORTH * far:.1%}"
        )
    if (wanted := least_size(far / 10)) > rows:
        said.append(
            f"{rows:,} calibration rows give no p-value below {1 / (rows + 1):.2g}; {wanted:,} give {far / 10:.2g}, a"
            " tenth of the level of the threshold"
        )
    return said


def expected_alarms(rows: int, far: float, eta: float) -> float:
    """The mean rate beyond the PAC threshold over calibration sets, for scores without ties: `(m + 1 - k) / (m + 1)`."""
    return (rows + 1 - pac_rank(rows, far, eta)) / (rows + 1)


def fit(counts: Sequence[int], labels: Sequence[str], features: int) -> list[str]:
    """What a fit of `features` features from so many rows of each label falls short of, one line each."""
    few = [(count, label) for count, label in zip(counts, labels, strict=True) if count < _ROWS_OF_A_LABEL]
    said = []
    if few:
        count, label = min(few)
        others = f" and {len(few) - 1} more labels have fewer than {_ROWS_OF_A_LABEL}" if len(few) > 1 else ""
        said.append(
            f"the label {label!r} has {count} rows{others}: their means are uncertain; {_ROWS_OF_A_LABEL} are enough"
        )
    if (rows := sum(counts)) < 2 * features:
        said.append(
            f"{rows:,} rows for {features:,} features: the covariance is mostly what shrinkage makes of it; {2 * features:,}"
            " rows or more let the data speak"
        )
    return said


def right(accuracy: float, rows: int, labels: int) -> list[str]:
    """Whether the share of draws that are right on so many rows is more than a guess makes, at confidence .99."""
    if accuracy - math.sqrt(math.log(100) / (2 * rows)) > 1 / labels:
        return []
    return [
        f"the network is right on {accuracy:.1%} of {rows:,} held-out rows under noise, guessing on {1 / labels:.1%}: the"
        " labels may be wrong, the preprocessing missing, or sigma too large for it"
    ]


def certified_accuracy(rows: int, confidence: float, wanted: float = 0.05) -> list[str]:
    """Whether a band about the certified accuracy of so many rows is narrower than `wanted` to either side."""
    half = math.sqrt(math.log(2 / (1 - confidence)) / (2 * rows))
    if half <= wanted:
        return []
    need = math.ceil(math.log(2 / (1 - confidence)) / (2 * wanted**2))
    return [f"{rows:,} rows bound certified accuracy to within {half:.3f} only; {need:,} do to within {wanted:g}"]


def _has_rank(size: int, far: float, eta: float) -> bool:
    return least_hits(size, far, eta) is not None


def _least(enough: Callable[[int], bool]) -> int:
    """The least size that is enough, among round numbers."""
    for power in range(2, 9):
        for lead in (1, 2, 5):
            if enough(lead * 10**power):
                return int(lead * 10**power)
    raise AssertionError("no size is enough")
