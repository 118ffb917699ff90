"""The page's verifier says of every receipt what `certserve verify` says, honest ones and altered ones alike."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from serving.security.signing import Signer
from tests.certify.made_receipts import made
from tests.serving.page.made_receipts import receipts
from tests.serving.page.verifiers import by_page, by_python

STORED = ("receipts_of_versions_1_and_2.json", "receipts_of_version_3.json")


def agree(given, folder):
    """Both verdicts on all of these are the same; returns how many hold, and how many do not by their claims."""
    pages = by_page(given, folder)
    for (text, key), page in zip(given, pages, strict=True):
        python = by_python(text, key)
        assert page == python, (
            f"the page: {page}; certserve verify: {python}; of {text.decode(errors='replace')} by {key}"
        )
    return Counter("holds" if each.holds else "false" if each.differing else "refused" for each in pages)


def test_both_verifiers_say_the_same_of_some_hundred_receipts(tmp_path):
    found = agree([*receipts(seed=1, count=300)], tmp_path)
    assert found["holds"] >= 150
    assert found["false"] >= 10
    assert found["refused"] >= 40


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


def test_a_receipt_of_any_length_and_another_signer_holds(tmp_path):
    signers = [Signer(bytes([seed]) * 32) for seed in range(8)]
    given = [
        (each.sign(made(draws=320, hits=300 - n)).to_text().encode(), each.public.hex())
        for n, each in enumerate(signers)
    ]
    assert agree(given, tmp_path) == {"holds": 8}
