"""Callers for tests: files of keys, an issuer who signs tokens, and tokens made by hand, as no library would."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from serving.security import keys

NOW = 1_900_000_000
ISSUER, AUDIENCE = "https://issuer.test", "certserve"
PRIVATE = {
    "RS256": rsa.generate_private_key(65_537, 2_048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
EVERY_SCOPE = ["infer", "read", "admin"]


def pem(private):
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


ALL_PEM = b"".join(map(pem, PRIVATE.values()))


def jwks(*names, **more):
    """A JWKS document of the public keys of `names`, each named as its algorithm."""
    to_jwk = {
        "RS256": jwt.algorithms.RSAAlgorithm,
        "ES256": jwt.algorithms.ECAlgorithm,
        "EdDSA": jwt.algorithms.OKPAlgorithm,
    }
    found = [
        {**to_jwk[name].to_jwk(PRIVATE[name].public_key(), as_dict=True), "kid": name, **more}
        for name in names or PRIVATE
    ]
    return json.dumps({"keys": found}).encode()


def claims(**changes):
    found = {"iss": ISSUER, "aud": AUDIENCE, "sub": "robot", "exp": NOW + 600, "scope": "infer read other", **changes}
    return {name: value for name, value in found.items() if value is not None}


def token(algorithm="ES256", headers=None, key=None, **changes):
    """A token that the issuer has signed."""
    return jwt.encode(claims(**changes), key or PRIVATE[algorithm], algorithm, headers=headers)


def part(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(header, payload=None, secret=None, signature=b""):
    """A token that nobody has signed, or that is signed by HMAC with `secret`."""
    signed = f"{part(header)}.{part(claims() if payload is None else payload)}"
    if secret is not None:
        signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{part(signature)}"


def signed_text(payload: bytes):
    """A token over these very bytes, signed by the issuer."""
    return jwt.PyJWS().encode(payload, PRIVATE["ES256"], "ES256")


def key(name="camera", scopes=("infer",), **changes):
    """A key as text, and as a file has it."""
    text = keys.new()
    return text, keys.Key(name=name, sha256=keys.hashed(text), scopes=list(scopes), **changes)


def moment(seconds):
    return datetime.fromtimestamp(seconds, UTC)
