"""What the page says of an answer in plain words: each claim that is there, and nothing of one that is not."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.serving.page.node import NODE
from tests.serving.page.verifiers import PAGE

CERTIFICATE = {"status": "certified", "label": "Bag", "radius": 0.5, "norm": "l2", "reaches_others": True}
JOINT = {"verdict": "in_distribution", "label": "Bag", "radius": 0.25, "norm": "l2", "threshold": 2.0, "p_lower": 0.7}
JOINT = {**JOINT, "reaches_others": True}
CONFIDENCE = {"label": "Bag", "lower": 0.4, "lower_at_input": 0.9, "radius": 0.5, "norm": "l2", "reaches_others": True}
NONE = {"radius": 0.0, "label": None, "reaches_others": False}
ROWS = {
    "certified": {"certificate": CERTIFICATE},
    "abstains": {"certificate": {**CERTIFICATE, **NONE, "status": "undecided"}},
    "refuted": {"certificate": {**CERTIFICATE, "status": "refuted", "target_radius": 0.75}},
    "two-sided": {"certificate": {**CERTIFICATE, "two_sided": True}},
    "two-sided refuted": {
        "certificate": {**CERTIFICATE, "status": "refuted", "target_radius": 0.75, "two_sided": True}
    },
    "two-sided abstains": {"certificate": {**CERTIFICATE, **NONE, "status": "undecided", "two_sided": True}},
    "joint class": {"certificate": CERTIFICATE, "joint": JOINT},
    "joint out": {"certificate": CERTIFICATE, "joint": {**JOINT, "verdict": "out_of_distribution", "label": None}},
    "joint undetermined": {"certificate": CERTIFICATE, "joint": {**JOINT, **NONE, "verdict": "undetermined"}},
    "confidence": {"certificate": CERTIFICATE, "confidence": CONFIDENCE},
    "no confidence": {
        "certificate": {**CERTIFICATE, **NONE, "status": "undecided"},
        "confidence": {**CONFIDENCE, **NONE, "lower": None, "lower_at_input": None},
    },
    "numbers": {
        "confidence": {**CONFIDENCE, "lower": 0.449999, "lower_at_input": 0.899999},
        "alpha": 0.0000123449,
        "certificate": {**CERTIFICATE, "status": "refuted", "radius": 0.499996, "target_radius": 0.750004},
        "ood": {
            "score": -1.5,
            "threshold": 2.0,
            "in_distribution": True,
            "p_value": 0.333333,
            "robust_alarm": {"raised": False, "radius": 0.1, "false_alarms": 0.061003},
            "certified": {
                "verdict": "in_distribution",
                "score_lower": -3.000049,
                "score_upper": 2.499951,
                "radius": 0.1,
            },
        },
        "mixture": {"label": "Bag", "radius": 0.2, "robust_weight": 0.899996},
        "joint": {**JOINT, "threshold": 2.000049},
    },
    "joint near": {"certificate": CERTIFICATE, "joint": {**JOINT, "reaches_others": False}},
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    page = tmp_path_factory.mktemp("page") / "page"
    shutil.copytree(PAGE, page)
    (page / "package.json").write_text('{"type": "module"}')
    lines = "\n".join(json.dumps({"alpha": 0.001, "draws": 320, **row}) for row in ROWS.values())
    command = [NODE, str(Path(__file__).with_name("words.mjs")), str(page)]
    ran = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return dict(zip(ROWS, map(json.loads, ran.stdout.splitlines()), strict=True))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (
            "certified",
            "smoothed classifier gives “Bag” for every input within 0.5 of this one (Euclidean distance, grey levels)",
        ),
        ("abstains", "No class is proven to be above one half: the certificate abstains."),
        (
            "refuted",
            "0.75 is refuted: the most probable smoothed class has a probability below what it needs. That does not mean",
        ),
        (
            "two-sided",
            "compared with the best of the others, as this model declares: its own probability may be below one half.",
        ),
        (
            "two-sided refuted",
            "0.75 is refuted: the most probable smoothed class leads the second by less than it needs.",
        ),
        ("two-sided abstains", "No class is proven to lead all others: the certificate abstains."),
        (
            "joint class",
            "of this one (Euclidean distance, grey levels) have the class “Bag” and a score not above the threshold 2",
        ),
        (
            "joint out",
            "every input within 0.25 of this one (Euclidean distance, grey levels) have a score above the threshold 2",
        ),
        ("joint undetermined", "“in distribution” together, as one label, are undetermined: nothing is claimed"),
        (
            "confidence",
            "gives “Bag” at least 0.4 on average under noise, at every input within 0.5 of this one (Euclidean distance,"
            " grey levels), and at least 0.9 at this one itself.",
        ),
        ("no confidence", "Nothing is claimed of the confidence in a class, since the certificate abstains."),
        ("joint near", "That radius of the joint label is below one step of the grid: it speaks of this input alone."),
    ],
)
def test_each_claim_is_said_in_a_plain_sentence(told, row, sentence):
    assert any(sentence in each for each in told[row]["said"]), told[row]["said"]


@pytest.mark.parametrize(
    "claim",
    [
        "at least 99.998765 %",  # 1 - alpha is 99.99876551 %
        "within 0.4999 of this one",
        "radius 0.7501 is refuted",
        "p-value is 0.3334:",
        "between -3.001 and 2.5 for",
        "weight of at least 0.8999,",
        "not above the threshold 2.001.",
        "at least 0.4499 on average under noise, at every input within 0.5 of",
        "and at least 0.8999 at this one itself.",
        "not raised. A clean input that was changed by at most 0.1 (grey levels), without knowledge of the coming noise,"
        " raises it with probability at most 0.06101.",
    ],
)
def test_no_number_is_rounded_to_where_it_would_claim_more(told, claim):
    assert any(claim in each for each in told["numbers"]["said"]), told["numbers"]["said"]


def test_nothing_is_said_of_a_claim_that_is_not_there(told):
    assert len(told["certified"]["said"]) == 1
    for row, words in told.items():
        for part, word in (
            ("two_sided", "best of the others"),
            ("joint", "noisy copies"),
            ("confidence", "on average"),
        ):
            there = part in ROWS[row] or part in ROWS[row]["certificate"]
            said = any(word in each for each in words["said"])
            assert said <= there, (row, part)
        assert any("joint label, of the score" in each for each in words["not"]) == ("joint" in ROWS[row])
    assert any("“Bag”" in each for each in told["two-sided abstains"]["said"]) is False
