"""The same request is given the same certificate as by the release that recorded it, bit for bit."""

from __future__ import annotations

import json
import math

import pytest

from tests.contract.recorded_answers import CASES, FILE, answer, arithmetic, document, models

RECORDED = json.loads(FILE.read_text())
SAME_ARITHMETIC = arithmetic() == RECORDED["arithmetic"]
CLOSE = 1e-9  # where the special functions have other last bits, of which a bound may differ by so much


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    return models(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("name", CASES)
def test_the_same_request_is_given_the_same_answer(name, bundles):
    found = document(answer(CASES[name], bundles[CASES[name].model]))
    assert list(differing(RECORDED["answers"][name], found)) == []


def test_every_recorded_answer_has_its_request():
    assert set(CASES) == set(RECORDED["answers"])


@pytest.mark.parametrize("place", ["certificate.radius", "ood.certified.score_lower", "receipt.votes", "lost_draws"])
def test_another_answer_is_seen(place, bundles):
    recorded = RECORDED["answers"]["target, certified"]
    *path, last = place.split(".")
    changed = json.loads(json.dumps(recorded))
    part = changed
    for name in path:
        part = part[name]
    part[last] = (float.fromhex(part[last]) * 1.001).hex() if isinstance(part[last], str) else "another"
    assert list(differing(recorded, changed)) == [place]


def differing(recorded, found, place=""):
    """The places at which what was recorded is not found; a receipt may hold more, for its schema grows."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        more = set(found) - set(recorded)
        if more and not place.startswith("receipt"):
            yield f"{place}: {more}"
        for name in recorded:
            at = f"{place}.{name}" if place else name
            if at != "receipt.schema":
                yield from differing(recorded[name], found.get(name, "missing"), at)
    elif recorded != found and not (not SAME_ARITHMETIC and close(recorded, found)):
        yield place


def close(recorded, found):
    try:
        return math.isclose(float.fromhex(recorded), float.fromhex(found), rel_tol=CLOSE, abs_tol=CLOSE)
    except (TypeError, ValueError):
        return False
