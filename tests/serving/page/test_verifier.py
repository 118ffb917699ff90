"""The page's verifier says of every receipt what `certserve verify` says, honest ones and altered ones alike."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from certify.receipts.versions import FIFTH, SCHEMA, SIXTH
from certify.smoothing.laws import LAWS
from serving.security.signing import Signer
from tests.certify.made_receipts import made
from tests.contract.laws import Columns, Deletion
from tests.serving.page.made_receipts import SIGNER, VERSIONS, receipts
from tests.serving.page.verifiers import by_page, by_python, problems

STORED = ("receipts_of_versions_1_and_2.json", "receipts_of_version_3.json")


@pytest.fixture(autouse=True)
def two_more_laws(monkeypatch):
    """Those of `laws.mjs`, which the page's verifier is told of."""
    for law in (Columns, Deletion):
        monkeypatch.setitem(LAWS, law.name, law.rebuild)


def agree(given, folder):
    """Both verdicts on all of these are the same; returns how many hold, and how many do not by their claims."""
    return Counter(verdict for verdict, _ in agreed(given, folder))


def agreed(given, folder):
    """The verdict on each of these, in which both agree, and what kind of receipt it is."""
    pages = by_page(given, folder)
    for (text, key), page in zip(given, pages, strict=True):
        python = by_python(text, key)
        assert page == python, (
            f"the page: {page}; certserve verify: {python}; of {text.decode(errors='replace')} by {key}"
        )
        yield "holds" if page.holds else "false" if page.differing else "refused", kind(text)


def kind(text):
    """The version of a receipt, its law, and what else it has that few have; nothing where it has lost its form."""
    try:
        receipt = json.loads(text)["receipt"]
        law, claims = receipt["noise"].get("law"), json.dumps(receipt["claims"])
        alarm = ("alarm",) * ("robust_alarm" in claims)
        found = receipt["schema"], law, *(each for each in FEW if each in receipt or f'"{each}": [' in claims), *alarm
        return found if all(part is None or isinstance(part, str) for part in found) else ()
    except (ValueError, TypeError, KeyError, AttributeError):
        return ()


FEW = ("prior", "ball", "joint", "two_sided", "confidence")
KINDS = {
    *((schema, None) for schema in VERSIONS[:3]),
    *((SCHEMA, law) for law in ("gaussian", "token-deletion")),
    *((FIFTH, law, "prior") for law in ("gaussian", "token-deletion")),
    *((FIFTH, "columns", *more) for more in (("ball",), ("prior", "ball"))),
    *((SIXTH, "gaussian", *more) for more in ((), ("joint",), ("prior", "joint"))),
    (SIXTH, "columns", "ball", "joint"),
    *((SIXTH, "gaussian", *more, "two_sided") for more in ((), ("prior",), ("joint",))),
    (SIXTH, "token-deletion", "two_sided"),
    (SIXTH, "gaussian", "alarm"),
    *((SIXTH, "gaussian", *more, "confidence") for more in ((), ("prior",), ("joint",))),
}
"""Kinds of receipts: every version, and all that few have, alone and with others."""


def test_both_verifiers_say_the_same_of_some_hundred_receipts_of_every_kind_honest_ones_and_altered_ones(tmp_path):
    given = [*agreed([*receipts(seed=6, count=440)], tmp_path)]
    found = Counter(verdict for verdict, _ in given)
    assert found["holds"] >= 200
    assert found["false"] >= 10
    assert found["refused"] >= 60
    honest, altered = given[0::2], given[1::2]
    assert {verdict for verdict, _ in honest} == {"holds"}
    for some in (honest, altered):
        assert {part for _, each in some for part in each} >= {part for each in KINDS for part in each}
    assert len({each for _, each in honest} & KINDS) >= len(KINDS) - 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 110))
def test_both_verifiers_say_the_same_of_many_receipts(tmp_path, seed):
    """2,500 each, 25,000 in all."""
    assert agree([*receipts(seed=seed, count=2_500)], tmp_path)["holds"] >= 1_250


def test_receipts_of_earlier_versions_hold_on_the_page_too(tmp_path, request):
    given = []
    for name in STORED:
        stored = json.loads((request.config.rootpath / "tests" / "data" / name).read_text())
        given += [(each["signed"].encode(), stored["public_key"]) for each in stored["receipts"].values()]
    assert agree(given, tmp_path) == {"holds": len(given)}


@pytest.mark.parametrize(
    ("at_least", "size"), [(10**17, 10**18), (0, 10**17), (10**400, 10**400), (7, 10**323), (1, 3)]
)
def test_a_share_of_however_many_calibration_scores_is_the_same_number(tmp_path, at_least, size):
    receipt = made()
    scores = replace(receipt.scores, calibration_at_least=at_least, calibration_size=size)
    p_value = (at_least + 1) / (size + 1)
    claims = replace(receipt.claims, ood=replace(receipt.claims.ood, p_value=p_value))
    given = [replace(receipt, scores=scores, claims=each) for each in (claims, receipt.claims)]
    texts = [(SIGNER.sign(each).to_text().encode(), SIGNER.public.hex()) for each in given]
    assert agree(texts, tmp_path) == {"holds": 1, "false": 1}


def test_votes_for_very_many_labels_are_judged(tmp_path):
    given = replace(made(mode="best", draws=320, hits=310), votes=(*[0] * 150_000, 10, 310))
    claims = replace(given.claims, certificate=replace(given.claims.certificate, class_index=150_001))
    mixture = replace(claims.mixture, class_index=150_001)
    text = SIGNER.sign(replace(given, claims=replace(claims, mixture=mixture))).to_text().encode()
    assert agree([(text, SIGNER.public.hex())], tmp_path) == {"holds": 1}


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("schema", "certserve-receipt/99", "schema: this page knows the versions certserve-receipt/1 to"),
        ("noise", {"law": "laplace"}, "noise.law: this page knows no law “laplace”"),
        ("claims", {"everything": None}, "claims.everything: unknown field"),
    ],
)
def test_what_the_page_does_not_know_it_refuses_by_name(tmp_path, field, value, said):
    document = json.loads(SIGNER.sign(made()).to_text())
    receipt = document["receipt"]
    receipt[field] = {**receipt[field], **value} if isinstance(value, dict) else value
    (problem,) = problems([(json.dumps(document).encode(), SIGNER.public.hex())], tmp_path)
    assert problem.startswith(said)


def test_a_receipt_of_any_length_and_another_signer_holds(tmp_path):
    signers = [Signer(bytes([seed]) * 32) for seed in range(8)]
    given = [
        (each.sign(made(draws=320, hits=300 - n)).to_text().encode(), each.public.hex())
        for n, each in enumerate(signers)
    ]
    assert agree(given, tmp_path) == {"holds": 8}
