"""The public keys that tokens are checked by, out of PEM or a JWKS document (RFC 7517). Each serves one algorithm alone.

What an attacker can choose in a token is its name for a key, and that is only compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from certify import strict_json

ALGORITHMS = ("RS256", "ES256", "EdDSA")
_MOST_KEYS = 64
_RSA_BITS = range(2_048, 8_193)
_PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.S)
_READERS: dict[str, Any] = {
    "RSA": jwt.algorithms.RSAAlgorithm,
    "EC": jwt.algorithms.ECAlgorithm,
    "OKP": jwt.algorithms.OKPAlgorithm,
}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key, its algorithm, and the name that tokens have for it; None where the file has none."""

    algorithm: str
    key: Any
    name: str | None = None


def parse(data: bytes) -> list[PublicKey]:
    """The keys in PEM or in a JWKS document; keys of the latter that are for something else are left out.

    Raises `ValueError` where there is none, or one is private.
    """
    found = _from_pem(data) if b"-----BEGIN" in data else _from_jwks(data)
    if not 0 < len(found) <= _MOST_KEYS:
        raise ValueError(
            f"it has {len(found)} public keys for {', '.join(ALGORITHMS)}; expected 1 to {_MOST_KEYS}, in PEM or as JWKS"
        )
    return found


def _from_pem(data: bytes) -> list[PublicKey]:
    found = []
    for block in _PEM.finditer(data):
        if block[1] != b"PUBLIC KEY":
            raise ValueError(f"it has a block {block[1].decode()!r:.60}; expected PUBLIC KEY alone")
        try:
            key = load_pem_public_key(block[0])
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("a block of it is no public key that can be read") from None
        found.append(PublicKey(_algorithm(key), key))
    return found


def _from_jwks(data: bytes) -> list[PublicKey]:
    try:
        document = strict_json.loads(data)
    except ValueError:
        document = None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > _MOST_KEYS:
        raise ValueError(f"this is neither PEM nor a JWKS document of at most {_MOST_KEYS} keys")
    return [key for each in listed if isinstance(each, dict) and (key := _from_jwk(each)) is not None]


def _from_jwk(document: dict[str, Any]) -> PublicKey | None:
    if _PRIVATE & document.keys():
        raise ValueError("it has a private or a shared key; expected public ones alone")
    reader = _READERS.get(str(document.get("kty")))
    if reader is None or document.get("use", "sig") != "sig" or document.get("key_ops", ["verify"]) != ["verify"]:
        return None
    try:
        key = reader.from_jwk(document)
        found = PublicKey(_algorithm(key), key, _name(document.get("kid")))
    except (jwt.exceptions.PyJWTError, ValueError, TypeError, KeyError, UnsupportedAlgorithm):
        return None
    return found if document.get("alg", found.algorithm) == found.algorithm else None


def _name(given: object) -> str | None:
    if given is not None and not isinstance(given, str):
        raise ValueError("the name of a key is no text")
    return given


def _algorithm(key: object) -> str:
    """The one algorithm that a key is used for. Raises `ValueError` where there is none."""
    if isinstance(key, RSAPublicKey) and key.key_size in _RSA_BITS:
        return "RS256"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return "ES256"
    if isinstance(key, Ed25519PublicKey):
        return "EdDSA"
    raise ValueError("a key is none of RSA (2048 bits or more), P-256 and Ed25519")
