"""sigma for an export that says none: of some shares of the samples' spread, that of the largest mean certified radius.

Measured by the sweep of `sigma` on labelled rows that neither fit nor threshold sees, the network being what it is.
"""

from __future__ import annotations

from dataclasses import replace
from math import floor, log10

import numpy as np

from export.build.assemble import provisional
from export.build.plan import Plan
from export.evaluation import sigma
from export.inspection.inspect import Found
from export.sources.source import Source, SourceError

SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of the spread of the samples; of each column's range where columns have steps of their own, half as much."""
ROWS, DRAWS = 100, 100


def sigma_for(source: Source, found: Found, plan: Plan) -> float:
    """The sigma, told with its table. Raises `SourceError` where there are no labels to measure by."""
    if plan.labelled is None:
        raise SourceError("--sigma: give it, in the units of the samples; only labelled --data can suggest one")
    tried = _candidates(plan)
    manifest, noisy = provisional(source, found, replace(plan, sigma=tried[0]))
    rows = plan.labelled.choice
    some = rows.every(max(1, len(rows) // ROWS)).first(ROWS)
    swept = sigma.sweep(manifest, some, noisy, tried, draws=DRAWS)
    chosen = max(swept.rows, key=lambda each: (each.mean_radius, -each.sigma))
    if not chosen.mean_radius:
        raise SourceError(
            f"--sigma: give it; at none of {', '.join(f'{each:g}' for each in tried)} a row was certified"
        )
    plan.tell(f"{sigma.markdown(swept)}\nsigma: {chosen.sigma:g}, of the largest mean radius; --sigma says another")
    return chosen.sigma


def _candidates(plan: Plan) -> list[float]:
    if isinstance(plan.step, tuple):
        raise SourceError("--sigma: give it, in steps; with a step for each column none is suggested")
    spread = 0.5 if plan.options.columns else float(np.std(plan.samples.astype(np.float64)))
    if not spread > 0:
        raise SourceError("all samples are the same; give some that differ")
    return [_plain(share * spread) for share in SHARES]


def _plain(number: float) -> float:
    """With two digits: nobody chose the others."""
    return round(number, 1 - floor(log10(number)))
