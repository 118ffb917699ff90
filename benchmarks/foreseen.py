"""Draws that a decision takes with the prior that is fitted on held-out rows, over those without, on the bundled model.

    python -m benchmarks.foreseen

Every other picture of the test set is for the fit, the others are decided: at a radius of sigma, as the server does, in
slices, with refutation, to 10,000 draws. Both see the same draws.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.clients import demo_pictures
from benchmarks.measure import main
from benchmarks.networks import DEMO, bundle
from benchmarks.row import Row
from certify.bounds.prior import margin
from certify.claims.certificate import Terms
from certify.claims.counts import Counts
from certify.claims.procedures import SLICE, RunningProcedure, Target
from certify.smoothing.ball import Ball
from export.build.foresee import foreseen
from export.build.passes import row_key
from serving.runtimes.onnx_runtime import OnnxRuntime
from serving.runtimes.runtime import DrawRange

PICTURES, FIT_DRAWS, MAX_DRAWS, ALPHA = 1_000, 32, 10_000, 0.001


def rows() -> list[Row]:
    model = bundle(DEMO)
    runtime, pictures = OnnxRuntime(model), demo_pictures(PICTURES)
    margins = np.array([margin(base) for base in runtime.base(pictures)])
    terms = Terms(
        law=model.law.at(pictures[0]).guarantee,
        alpha=ALPHA,
        split=model.manifest.alpha_split,
        classes=len(model.manifest.labels),
    )
    aim = Target(Ball(terms.law.parts, (model.law.sigma,)))
    fit = [_votes(runtime, model, pictures[row], row, 0, FIT_DRAWS) for row in range(0, PICTURES, 2)]
    misses = np.array([FIT_DRAWS - np.bincount(each).max() for each in fit])
    table = foreseen(margins[::2], misses, FIT_DRAWS, 1 - terms.needed(aim.ball))
    found = []
    for row in range(1, PICTURES, 2):
        guess = replace(terms, prior=table.of(float(margins[row]), 0.0))
        runs = [RunningProcedure(aim, each, MAX_DRAWS) for each in (terms, guess)]
        found.append(
            _decided(runs, lambda a, b, row=row: _votes(runtime, model, pictures[row], row, a, b), terms.classes)
        )
    draws = np.array([[each.draws for each in pair] for pair in found])
    certified = [[each.status == "certified" for each in pair] for pair in found]
    without, with_prior = draws.mean(axis=0)
    print(f"certified without and with: {np.mean(certified, axis=0)}; medians {np.median(draws, axis=0)}", flush=True)
    sure = np.array(certified).all(axis=1)
    print(f"of those certified: {draws[sure].mean(axis=0)}", flush=True)
    return [
        Row(
            "draws a decision at radius sigma, with the prior",
            f"{with_prior:.1f}",
            f"without {without:.1f}",
            with_prior / without,
        )
    ]


def _votes(runtime, model, picture, row, start, stop) -> np.ndarray:
    return runtime.noisy([DrawRange(model.law.at(picture), row_key("foreseen", row), start, stop)])[0]


def _decided(runs, votes_of, classes):
    """The certificates of several procedures on one stream."""
    seen, draws = np.zeros(classes + 1, dtype=np.int64), 0
    done = [None] * len(runs)
    ready = np.empty(0, dtype=np.int64)
    while None in done:
        if not len(ready):
            ready = votes_of(draws, min(MAX_DRAWS, draws + max(128, draws // 2 // SLICE * SLICE)))
        part, ready = ready[:SLICE], ready[SLICE:]
        seen += np.bincount(part, minlength=classes + 1)
        draws += len(part)
        counts = Counts(draws=draws, votes=tuple(seen[:-1].tolist()))
        done = [one or run.receive(counts) for one, run in zip(done, runs, strict=True)]
    return done


if __name__ == "__main__":
    main("foreseen", rows)
