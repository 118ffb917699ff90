"""Signatures of receipts: Ed25519 (RFC 8032) over the canonical bytes, made where the counts are.

A signature says who counted, not that the counts are true: a replay says that. The signing key is apart from the noise
secret, so that whoever verifies or rotates one learns nothing of the other.

    {"receipt": {...}, "signature": {"algorithm": "Ed25519", "key_id": "...", "value": "<128 hexadecimal digits>"}}
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from certify import strict_json
from certify.receipts import canonical
from certify.receipts.receipt import Receipt, ReceiptError, read

ALGORITHM = "Ed25519"
KEY_BYTES = 32
_CONTEXT = b"certserve receipt\0"
"""Before the signed bytes, so that a signature for any other purpose is none of a receipt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Who signed, and the signature in hexadecimal."""

    algorithm: str
    key_id: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedReceipt:
    """A receipt with its signature, as it leaves the server."""

    receipt: Receipt
    signature: Signature

    def to_text(self) -> str:
        """The JSON document."""
        return canonical.to_bytes(self).decode("ascii")


class Signer:
    """Holds a signing key: 32 random bytes, the seed of an Ed25519 key."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, receipt: Receipt) -> SignedReceipt:
        """The receipt, signed."""
        value = self._key.sign(_CONTEXT + receipt.to_bytes()).hex()
        return SignedReceipt(
            receipt=receipt, signature=Signature(algorithm=ALGORITHM, key_id=key_id(self.public), value=value)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Notary:
    """Signs what one runtime counted: `runtime` is its description, which every receipt carries."""

    signer: Signer
    runtime: str


def key_id(public: bytes) -> str:
    """A short name for a public key."""
    return hashlib.sha256(b"certserve signing key id\0" + public).hexdigest()[:12]


def parse(text: bytes | str) -> SignedReceipt:
    """The signed receipt in a JSON document, its signature not yet looked at. Raises `ReceiptError`."""
    try:
        document = strict_json.loads(text)
    except ValueError as error:
        raise ReceiptError(f"this is no JSON document of a signed receipt: {error}") from error
    if not isinstance(document, dict) or set(document) != {"receipt", "signature"}:
        raise ReceiptError("expected an object of receipt and signature: the value of an answer's field `receipt`")
    try:
        signature = canonical.from_document(Signature, document["signature"], "signature")
    except canonical.FormError as error:
        raise ReceiptError(str(error)) from error
    return SignedReceipt(receipt=read(document["receipt"]), signature=signature)


def check_signature(signed: SignedReceipt, public: bytes) -> None:
    """Raise `ReceiptError` unless the holder of the key to `public` signed exactly this receipt."""
    signature = signed.signature
    if signature.algorithm != ALGORITHM:
        raise ReceiptError(f"signature.algorithm: {signature.algorithm[:40]!r} is not known; expected {ALGORITHM!r}")
    if signature.key_id != key_id(public):
        raise ReceiptError(
            f"signature.key_id: signed with key {signature.key_id[:40]!r}, and the public key given is {key_id(public)!r}"
        )
    if not re.fullmatch("[0-9a-f]{128}", signature.value):
        raise ReceiptError("signature.value: expected 128 hexadecimal digits in lower case")
    try:
        message = _CONTEXT + signed.receipt.to_bytes()
        Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(signature.value), message)
    except InvalidSignature:
        raise ReceiptError("signature.value: the receipt was altered, or another key signed it") from None
