"""Every contradiction that a receipt cannot be built with, by its message; and the values at the edge, which it can."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from certify.receipts.receipt import Receipt, ReceiptError, read
from tests.certify.made_receipts import altered, made

DIGEST = "sha256: and 64 hexadecimal digits"
SHARES = "shares that sum to at most one; if fixed one part of the menu, on the class"
SIGMA = "a positive number, 8 times which is finite"
SUM = "counts that sum with the lost draws to at most 320"
SCORES = "counts that sum with the lost draws to 320"

LATER = "schema: expected 'certserve-receipt/4', 'certserve-receipt/3'"
MESSAGES = [
    (
        "schema",
        "certserve-receipt/0",
        f"{LATER} or 'certserve-receipt/1'",
    ),
    ("input.digest", "sha256:1", f"input.digest: expected {DIGEST}"),
    ("input.shape", (), "input.shape: expected one or more positive integers"),
    ("input.shape", (0, 4), "input.shape: expected one or more positive integers"),
    ("input.step", 0.0, "input: expected a grid"),
    ("input.high", 0.0, "input: expected a grid"),
    ("input.high", math.inf, "input: expected a grid"),
    ("input.low", -math.inf, "input: expected a grid"),
    ("model.digest", "1" * 64, f"model.digest: expected {DIGEST}"),
    ("noise.stream", "noise-v2", "noise.stream: expected 'noise-v1'"),
    ("noise.norm", "linf", "noise.norm: expected 'l2' or 'scaled_l2'"),
    ("noise.sigma", 0.0, f"noise.sigma: expected {SIGMA}"),
    ("noise.sigma", math.inf, f"noise.sigma: expected {SIGMA}"),
    ("noise.sigma", 1e308, f"noise.sigma: expected {SIGMA}"),
    ("noise.charge", 1.0, "noise.charge: expected 0 to 1"),
    ("noise.charge", -1e-9, "noise.charge: expected 0 to 1"),
    ("noise.key", "3" * 31, "noise.key: expected 32 hexadecimal digits"),
    ("alpha", 0.51, "alpha: expected 1e-12 to 0.5"),
    ("split.of_upper", 0.9, f"split: expected {SHARES}"),
    ("procedure.name", "lucky", "procedure.name: expected one of off, target, best, precision, fixed"),
    ("procedure.name", "best", "procedure.target_radius: expected a radius if target, else none"),
    ("procedure.target_radius", -1.0, "procedure.target_radius: expected 0 or more"),
    ("procedure.target_radius", math.inf, "procedure.target_radius: expected 0 or more"),
    ("robust_weight", 1.5, "robust_weight: expected 0 to 1"),
    ("noise.start", 32, "noise.start: expected 0: only a prefix of the stream may be counted"),
    ("noise.stop", -1, "noise.stop: expected 0 to max_draws, to 10000000"),
    ("procedure.max_draws", 10**7 + 1, "noise.stop: expected 0 to max_draws, to 10000000"),
    ("votes", (320,), "votes: expected two classes or more"),
    ("votes", (11, 310), f"votes: expected {SUM}"),
    ("scores.threshold", math.inf, "scores.threshold: expected a finite number"),
    ("scores.radius", 0.0, "scores.radius: expected a positive number"),
    ("scores.radius", math.inf, "scores.radius: expected a positive number"),
    ("scores.score_draws", 0, "scores.score_draws: expected 1 or more"),
    ("scores.score_draws", 321, "scores.score: expected none within 320 draws"),
    ("scores.calibration_at_least", 1_000, "scores.calibration_at_least: expected 0 to all of them"),
    ("scores.above", -1, "scores: expected counts"),
    ("scores.at_most", 319, f"scores: expected {SCORES}"),
    ("scores.rank", None, "scores: expected no bounds without a rank"),
    ("scores.rank", 321, "scores.rank: expected 1 to 320"),
    ("scores.lowest", 161.0, "scores.lowest: expected what the counts allow"),
    ("scores.highest", 161.0, "scores.highest: expected what the counts allow"),
]


@cache
def full():
    return made()


@pytest.mark.parametrize(("path", "value", "message"), MESSAGES)
def test_the_message_names_the_field_and_what_was_expected(path, value, message):
    with pytest.raises(ReceiptError) as refused:
        altered(full(), path, value)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("input.shape", (1,)),
        ("noise.sigma", 0.01),
        ("noise.charge", 0.0),
        ("alpha", 1e-12),
        ("alpha", 0.5),
        ("split.of_upper", 1e-100),
        ("procedure.target_radius", 0.0),
        ("procedure.max_draws", 10**7),
        ("robust_weight", 0.0),
        ("robust_weight", 1.0),
        ("votes", (10, 310)),
        ("scores.radius", 0.5),
        ("scores.score_draws", 1),
        ("scores.score_draws", 320),
        ("scores.calibration_at_least", 999),
        ("scores.calibration_at_least", 0),
        ("scores.highest", 160.0),
        ("scores.rank", 320),
        ("scores.rank", 1),
    ],
)
def test_the_edge_is_inside(path, value):
    assert isinstance(altered(full(), path, value), Receipt)


@pytest.mark.parametrize("lost", [0, 40])
@pytest.mark.parametrize("middle", [159.0, 160.0, 161.0])
def test_order_statistics_at_the_threshold_agree_with_their_counts(middle, lost):
    """Scores at, just below and just above the threshold 160, sorted so that the ranks fall among them."""
    scores = np.concatenate(
        [np.full(lost, np.nan), np.full(150, 100.0), np.full(20, middle), np.full(150 - lost, 170.0)]
    )
    receipt = made("best", draws=320, hits=270, lost=lost, scores=scores)
    assert receipt.scores.at_most == 150 + 20 * (middle <= 160)


@pytest.mark.parametrize("lost", [0, 30])
def test_every_side_of_every_rank_is_told_from_the_counts(lost):
    """For each number of scores at most the threshold, the sides of both order statistics are those of a sorted list."""
    at_rank = 321 - made().scores.rank - lost
    for below in (*range(0, 321 - lost, 10), at_rank - 1, at_rank):
        scores = np.concatenate([np.full(lost, np.nan), np.full(below, 160.0), np.full(320 - lost - below, 161.0)])
        receipt = made("best", draws=320, hits=270, lost=lost, scores=scores)
        for name in ("lowest", "highest"):
            with pytest.raises(ReceiptError, match=f"scores.{name}: expected what the counts allow"):
                altered(receipt, f"scores.{name}", 161.0 if getattr(receipt.scores, name) <= 160 else 160.0)


@pytest.mark.parametrize("schema", ["x" * 300, 7])
def test_an_unknown_version_is_named_up_to_a_length(schema):
    with pytest.raises(ReceiptError) as refused:
        read({"schema": schema})
    text = repr(str(schema)[:80])
    known = ", ".join(f"'certserve-receipt/{number}'" for number in range(1, 7))
    assert str(refused.value) == f"schema: {text} is not a version that is known here, which is {known}"


def test_the_message_about_a_tolerance_and_its_version():
    receipt = made("precision")
    for path, value, message in (
        (
            "schema",
            "certserve-receipt/1",
            f"{LATER} or 'certserve-receipt/2'",
        ),
        (
            "procedure.radius_tolerance",
            0.0,
            "procedure.radius_tolerance: expected more than 0 if precision, else none",
        ),
    ):
        with pytest.raises(ReceiptError) as refused:
            altered(receipt, path, value)
        assert str(refused.value) == message


def test_a_grid_without_a_finite_width_is_refused():
    wide = altered(full(), "input.low", -1e308)
    with pytest.raises(ReceiptError, match=r"^input: expected a grid$"):
        altered(wide, "input.high", 1e308)
