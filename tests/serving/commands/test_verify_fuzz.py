"""`certserve verify` of numbers that nobody counted: a refusal in one line, or a list of what differs; never a trace."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify.claims.certificate import AlphaSplit
from certify.receipts import canonical
from certify.receipts.receipt import ReceiptError, read
from certify.receipts.recheck import recheck
from serving.commands.cli import main
from serving.security.signing import Signer
from tests.certify.made_receipts import made
from tests.certify.receipts.test_receipt import CASES, as_of, leaves

SIGNER = Signer(b"k" * 32)
FLOATS = [
    *(1e308, -1e308, math.inf, -math.inf, 1e154, 1e16, 2.0, 1 + 2**-52, 1.0, 1 - 2**-53, 0.5, -1.0),
    *(1e-12, 1e-100, 1e-160, 1e-300, 2.3e-308, 5e-324, -5e-324, 0.0, -0.0),
]
INTEGERS = [0, -1, 1, 2, 10**7, 10**7 + 1, 2**31, 2**53, 2**63, -(2**63), 2**64, 10**30, 10**308, 10**400]
DOCUMENTS = [canonical.to_document(made(**case)) for case in CASES.values()]
DOCUMENTS += [as_of(made("best"), "certserve-receipt/1"), as_of(made("precision"), "certserve-receipt/2")]

floats = st.one_of(st.sampled_from(FLOATS), st.floats(allow_nan=False)).map(float.hex)
integers = st.one_of(st.sampled_from(INTEGERS), st.integers())


def numbers(document):
    """The places of all numbers, and of what may be one where it is none, each with the values to try there."""
    for place in leaves(document):
        value = document
        for name in place:
            value = value[name]
        if value is None:
            yield place, st.one_of(floats, integers)
        elif type(value) is int:
            yield place, integers
        elif isinstance(value, str) and value.lstrip("-").startswith(("0x", "inf")):
            yield place, floats


PLACES = [list(numbers(document)) for document in DOCUMENTS]


def put(document, place, value):
    for name in place[:-1]:
        document = document[name]
    document[place[-1]] = value


def judge(document):
    """What `verify` does with a receipt whose signature holds: every warning of numbers is an error here."""
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        message = _refusal(document)
    assert "\n" not in message
    assert len(message) < 300


def _refusal(document):
    try:
        recheck(read(document))
    except ReceiptError as refused:
        return str(refused)
    return ""


@pytest.mark.parametrize("which", range(len(DOCUMENTS)))
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_number_anywhere_is_judged_and_never_raises(which, data):
    place, values = data.draw(st.sampled_from(PLACES[which]))
    document = json.loads(json.dumps(DOCUMENTS[which]))
    put(document, place, data.draw(values))
    judge(document)


@pytest.mark.parametrize("which", range(len(DOCUMENTS)))
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_several_numbers_of_one_record_are_judged_together(which, data):
    """Sums and differences of them may overflow."""
    group = data.draw(st.sampled_from(sorted({place[0] for place, _ in PLACES[which]})))
    document = json.loads(json.dumps(DOCUMENTS[which]))
    for place, values in PLACES[which]:
        if place[0] == group and data.draw(st.booleans()):
            put(document, place, data.draw(values))
    judge(document)


@pytest.mark.parametrize(
    "shares", [(1e308, 1e308), (1e308, -1e308), (math.inf, -math.inf), (0.5, 1e308), (5e-324, 2.0)]
)
def test_shares_whose_sum_is_no_number_are_none(shares):
    with pytest.raises(ValueError, match="^the shares of alpha must not be negative, nor sum to more than 1"):
        AlphaSplit(of_class=shares[0], of_upper=shares[1], of_threshold=shares[0], of_interval=shares[1])


@pytest.mark.parametrize(
    "change",
    [
        {"split": dict.fromkeys(("of_class", "of_upper", "of_threshold", "of_interval"), (1e308).hex())},
        {"lost": 10**400},
        {"alpha": (5e-324).hex()},
        {"alpha": "-0x0.0p+0"},
    ],
)
def test_the_command_refuses_them_in_one_line(tmp_path, capsys, change):
    document = json.loads(SIGNER.sign(made()).to_text())
    document["receipt"].update(change)
    (tmp_path / "receipt.json").write_text(json.dumps(document))
    assert main(["verify", str(tmp_path / "receipt.json"), "--key", SIGNER.public.hex()]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("certserve: ")
    assert ": expected " in lines[0]
