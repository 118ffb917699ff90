from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from certify.receipts.receipt import ReceiptError
from serving.commands.audit import verified
from serving.security.signing import Signer, check_signature, key_id, parse
from tests.certify.made_receipts import made
from tests.certify.receipts.test_receipt import leaves

SIGNER = Signer(b"k" * 32)
RECEIPT = made()
TEXT = SIGNER.sign(RECEIPT).to_text()


def test_a_signed_receipt_is_read_back_and_holds():
    assert parse(TEXT).receipt == RECEIPT
    assert all(each.agrees for each in verified(TEXT.encode(), SIGNER.public))


def test_the_signature_is_that_of_rfc_8032_over_the_canonical_bytes_behind_their_context():
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    assert json.loads(TEXT)["signature"]["value"] == key.sign(b"certserve receipt\0" + RECEIPT.to_bytes()).hex()
    assert SIGNER.sign(RECEIPT).to_text() == TEXT


def test_how_a_document_is_printed_is_no_matter():
    loose = json.dumps(dict(reversed(json.loads(TEXT).items())), indent=3)
    assert all(each.agrees for each in verified(loose.encode(), SIGNER.public))


@given(place=st.sampled_from(leaves(json.loads(TEXT))), data=st.data())
def test_any_leaf_that_was_altered_is_refused(place, data):
    document = json.loads(TEXT)
    inner = document
    for name in place[:-1]:
        inner = inner[name]
    old = inner[place[-1]]
    inner[place[-1]] = data.draw(st.one_of(near(old), st.none(), st.booleans(), st.integers(), st.text()))
    if (type(inner[place[-1]]), inner[place[-1]]) == (type(old), old):
        return
    with pytest.raises(ReceiptError):
        list(verified(json.dumps(document).encode(), SIGNER.public))


def near(value):
    """Values of the same form that a forger would choose."""
    if isinstance(value, int):
        return st.integers(max(0, value - 2), value + 2)
    if isinstance(value, str) and value.startswith(("0x", "-0x")):
        return st.floats(allow_nan=False).map(float.hex)
    if isinstance(value, str) and value:
        at = st.integers(0, len(value) - 1)
        return st.one_of(
            st.tuples(at, st.sampled_from("0123456789abcdefxp-")).map(
                lambda p: value[: p[0]] + p[1] + value[p[0] + 1 :]
            ),
            st.just(value.upper()),
        )
    return st.just(0)


def test_another_key_is_refused_and_named():
    other = Signer(b"o" * 32)
    with pytest.raises(ReceiptError, match=f"signed with key '{key_id(SIGNER.public)}'.*{key_id(other.public)}"):
        check_signature(parse(TEXT), other.public)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no JSON document"),
        (b"\xff\xfe\xfd", "no JSON document"),
        (b"[" * 100_000, "no JSON document"),
        (b'{"receipt": {}, "receipt": {}, "signature": {}}', "names a field twice"),
        (b'{"receipt": NaN}', "NaN is not a JSON number"),
        (b"[]", "expected an object of receipt and signature"),
        (json.dumps(json.loads(TEXT)["receipt"]).encode(), "expected an object of receipt and signature"),
        (json.dumps(json.loads(TEXT) | {"more": 1}).encode(), "expected an object of receipt and signature"),
        (json.dumps(json.loads(TEXT) | {"signature": {}}).encode(), "signature.algorithm: missing field"),
    ],
)
def test_what_is_no_signed_receipt_is_refused(text, message):
    with pytest.raises(ReceiptError, match=message):
        parse(text)


def test_signed_claims_that_the_counts_do_not_prove_are_found():
    from dataclasses import replace

    from tests.certify.made_receipts import altered

    lie = altered(RECEIPT, "claims.certificate.radius", 32.0)
    text = replace(SIGNER.sign(lie)).to_text().encode()
    assert [each.field for each in verified(text, SIGNER.public) if not each.agrees] == ["claims.certificate.radius"]
