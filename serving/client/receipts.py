"""Verifying a signed receipt without trusting the server that gave it: its signature, and every claim from its counts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from certify.receipts.receipt import ReceiptError
from certify.receipts.recheck import Finding, recheck
from serving.security.signing import KEY_BYTES, check_signature, parse


def verify(receipt: Mapping[str, Any] | str | bytes, key: str | bytes) -> list[Finding]:
    """All that was looked at, if it holds. `key` is the signer's public key: 32 bytes, or 64 hexadecimal digits.

    Raises `ReceiptError`, by the name of the field, for whatever does not hold.
    """
    text = receipt if isinstance(receipt, str | bytes) else json.dumps(receipt)
    findings = list(verified(text, public_key(key)))
    if wrong := [each.field for each in findings if not each.agrees]:
        raise ReceiptError(f"the receipt does not hold: {', '.join(wrong)}")
    return findings


def verified(text: str | bytes, public: bytes) -> Iterator[Finding]:
    """What is looked at, in its order, whether or not it holds. Raises `ReceiptError` where nothing further can be said."""
    signed = parse(text)
    yield held("schema", signed.receipt.schema, "known, complete and without contradiction")
    check_signature(signed, public)
    yield held("signature", signed.signature.key_id, "made with this key over exactly this receipt")
    yield from recheck(signed.receipt)


def held(field: str, said: object, what: str) -> Finding:
    """A finding of something that holds."""
    return Finding(field=field, said=said, found=what, agrees=True)


def public_key(key: str | bytes) -> bytes:
    """The bytes of a public key. Raises `ReceiptError`."""
    if isinstance(key, bytes) and len(key) == KEY_BYTES:
        return key
    text = key.decode("ascii", "replace") if isinstance(key, bytes) else key
    if not re.fullmatch(f"[0-9a-fA-F]{{{2 * KEY_BYTES}}}", text.strip()):
        raise ReceiptError(f"the public key: expected {KEY_BYTES} bytes, or {2 * KEY_BYTES} hexadecimal digits")
    return bytes.fromhex(text.strip())
