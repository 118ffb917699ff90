"""Tokens: only what the issuer has signed for this audience is believed, whatever its head says, and in its time."""

from __future__ import annotations

import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from serving.errors import Unauthenticated, Unavailable
from serving.security import key_set
from serving.security.fetched import Fetched
from serving.security.tokens import Accepted, Tokens
from serving.security.watched import SecurityError
from tests.serving.security.credentials import (
    ALL_PEM,
    AUDIENCE,
    ISSUER,
    NOW,
    PRIVATE,
    by_hand,
    claims,
    jwks,
    pem,
    signed_text,
    token,
)

LEEWAY = 30


class Known:
    """Keys that are there, or not; it counts the tokens that name another."""

    def __init__(self, now):
        self.now, self.missed = now, 0

    def missing(self):
        self.missed += 1


def tokens(data=ALL_PEM, now=NOW):
    accepted = Accepted(issuer=ISSUER, audience=AUDIENCE, leeway_s=LEEWAY)
    return Tokens(Known(key_set.parse(data)), accepted, lambda: now)


def refused(text, data=ALL_PEM, now=NOW):
    with pytest.raises(Unauthenticated) as error:
        tokens(data, now).caller(text)
    longest = max(text.split("."), key=len)
    assert len(longest) < 20 or longest[:20] not in error.value.message, "a refusal repeats nothing of the token"
    return error.value.message


@pytest.mark.parametrize("algorithm", PRIVATE)
@pytest.mark.parametrize("data", [ALL_PEM, jwks()], ids=["pem", "jwks"])
def test_whoever_the_issuer_names_is_known_with_the_scopes_that_there_are(algorithm, data):
    found = tokens(data).caller(token(algorithm))
    assert (found.name, found.scopes) == ("jwt:robot", {"infer", "read"})


@pytest.mark.parametrize(
    ("given", "scopes"),
    [
        ({"scope": "admin"}, {"admin"}),
        ({"scope": ["infer", "admin"]}, {"infer", "admin"}),
        ({"scope": None, "scp": ["read"]}, {"read"}),
        ({"scope": None, "scp": "read infer"}, {"read", "infer"}),
        ({"scope": "INFER inferread"}, set()),
        ({"scope": None}, set()),
    ],
)
def test_scopes_come_as_a_text_or_a_list_and_are_never_guessed(given, scopes):
    assert tokens().caller(token(**given)).scopes == scopes


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], ["other", AUDIENCE]])
def test_this_server_may_be_one_of_several_audiences(audience):
    assert tokens().caller(token(aud=audience)).name == "jwt:robot"


OTHER = {
    "RS256": rsa.generate_private_key(65_537, 2_048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.mark.parametrize("algorithm", PRIVATE)
@pytest.mark.parametrize("data", [ALL_PEM, jwks()], ids=["pem", "jwks"])
def test_what_another_has_signed_is_refused(algorithm, data):
    refused(token(algorithm, key=OTHER[algorithm]), data)
    refused(token(algorithm, headers={"kid": algorithm}, key=OTHER[algorithm]), data)


@pytest.mark.parametrize("algorithm", PRIVATE)
def test_one_changed_character_anywhere_is_refused(algorithm):
    text = token(algorithm)
    for place in range(0, len(text) - 2, 7):  # the last character may hold bits that count for nothing
        changed = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        refused(changed)


@pytest.mark.parametrize(
    "name", ["none", "None", "NONE", "nOnE", "", "HS256", "hs256", "HS512", "RS512", "PS256", "ES384", "ES256K"]
)
def test_no_other_algorithm_is_accepted_whatever_follows(name):
    """`none`, and a public key that is taken for the secret of an HMAC: the whole file, one block of it, or the raw key."""
    refused(by_hand({"alg": name, "typ": "JWT"}))
    raw = PRIVATE["EdDSA"].public_key().public_bytes_raw()
    for secret in (ALL_PEM, *map(pem, PRIVATE.values()), raw, b"", jwks()):
        refused(by_hand({"alg": name, "typ": "JWT"}, secret=secret))
        refused(by_hand({"alg": name, "kid": "RS256"}, secret=secret), jwks())


@pytest.mark.parametrize("wrong", PRIVATE)
@pytest.mark.parametrize("algorithm", PRIVATE)
def test_a_key_serves_its_own_algorithm_alone(algorithm, wrong):
    if wrong != algorithm:
        refused(token(wrong), pem(PRIVATE[algorithm]))
        refused(token(wrong, headers={"kid": algorithm}), jwks())
        _, _, rest = token(wrong).partition(".")
        refused(by_hand({"alg": algorithm, "typ": "JWT"}).rpartition(".")[0] + "." + rest.rpartition(".")[2])


INJECTED = ["../../etc/passwd", "/dev/null", "x' OR '1'='1", "http://evil.test/key", "\x00", "a" * 3_000, "*", "RS256 "]


@pytest.mark.parametrize("name", INJECTED)
def test_a_keys_name_is_compared_and_nothing_else(name):
    source = Known(key_set.parse(jwks()))
    with pytest.raises(Unauthenticated):
        Tokens(source, Accepted(issuer=ISSUER, audience=AUDIENCE, leeway_s=0), lambda: NOW).caller(
            token(headers={"kid": name}, key=OTHER["ES256"])
        )
    assert source.missed == 1
    refused(token(headers={"kid": name}), jwks())


@pytest.mark.parametrize(
    "more",
    [
        {"jku": "https://evil.test/jwks"},
        {"x5u": "https://evil.test/cert"},
        {"jwk": json.loads(jwks("ES256"))["keys"][0]},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"]},
        {"zip": "DEF"},
        {"typ": "logout+jwt"},
        {"cty": "JWT"},
    ],
    ids=lambda more: next(iter(more)),
)
def test_a_head_that_brings_a_key_or_wants_more_is_refused_though_the_issuer_signed_it(more):
    assert "head of the token" in refused(token(headers=more))


@pytest.mark.parametrize(
    "head", [b"", b"[]", b"null", b"{", b'{"alg":5}', b'{"alg":"ES256","alg":"none"}', b"\xff", b"[" * 5_000]
)
def test_a_head_that_is_none_is_refused(head):
    refused(by_hand(head))


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a.b", "a.b.c.d", "a.b.c d", "a.b.c\n", "é.é.é", "a" * 8_193, "a." * 4_000 + "a"]
)
def test_what_has_not_the_form_of_a_token_is_refused(text):
    refused(text)


def test_a_huge_token_costs_nothing():
    """It is refused by its length, before anything of it is read."""
    known, text = tokens(), "a" * 10_000_000
    began = time.perf_counter()
    for _ in range(1_000):
        with pytest.raises(Unauthenticated, match="too long"):
            known.caller(text)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.test"},
        {"iss": None},
        {"iss": ISSUER + "/"},
        {"iss": [ISSUER]},
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": []},
        {"aud": AUDIENCE + " "},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "a b"},
        {"sub": "a\n"},
        {"sub": "a" * 129},
        {"scope": 5},
        {"scope": [5]},
    ],
)
def test_whoever_is_not_named_or_not_meant_is_refused(changes):
    refused(signed_text(json.dumps(claims(**changes)).encode()))


@pytest.mark.parametrize("exp", ["9999999999", True, None, [NOW + 9], {}, 1e999, -1, 0, NOW - LEEWAY])
def test_an_end_that_is_past_or_no_number_is_refused(exp):
    refused(signed_text(json.dumps({**claims(), "exp": exp}).encode()))


@pytest.mark.parametrize("field", ["nbf", "iat"])
@pytest.mark.parametrize("value", [NOW + LEEWAY + 1, 1e300, "0", True, [0]])
def test_a_beginning_that_is_to_come_or_no_number_is_refused(field, value):
    refused(signed_text(json.dumps({**claims(), field: value}).encode()))


def test_clocks_may_differ_by_the_leeway_and_no_more():
    assert tokens().caller(token(exp=NOW - LEEWAY + 1))
    assert tokens().caller(token(nbf=NOW + LEEWAY, iat=NOW + LEEWAY))
    refused(token(exp=NOW - LEEWAY))


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"5", b'{"exp":NaN}', b'{"exp":1,"exp":9e9}', b"[" * 3_000, b"\xff\xff"]
)
def test_what_is_signed_but_says_nothing_is_refused(payload):
    refused(signed_text(payload))


def test_without_the_issuers_keys_nobody_is_called_wrong():
    with pytest.raises(Unavailable):
        Tokens(Known(None), Accepted(issuer=ISSUER, audience=AUDIENCE, leeway_s=0)).caller(token())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"keys": []}',
        b'{"keys": 5}',
        b'{"keys": [5]}',
        b'{"keys": [{"kty": "oct", "k": "AAAA"}]}',
        b'{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": "AA"}]}',
        b'{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}',
        b'{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}',
        b'{"keys": [{"kty": {}, "n": []}]}',
        jwks(use="enc"),
        jwks("ES256", alg="ES384"),
        jwks("RS256", key_ops=["encrypt"]),
        b'{"keys": [' + b",".join([b"{}"] * 65) + b"]}",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(rsa.generate_private_key(65_537, 1_024)),
    ],
    ids=lambda data: str(len(data)),
)
def test_a_file_without_a_public_key_of_use_is_refused(data):
    with pytest.raises(ValueError, match=r"\w"):
        key_set.parse(data)


def test_keys_at_a_url_are_read_beside_requests_and_a_failure_leaves_those_that_were():
    answers = [OSError("away"), jwks("ES256"), b"<html>", jwks("RS256")]

    def fetch(url):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def algorithms():
        return None if fetched.now is None else [each.algorithm for each in fetched.now]

    fetched = Fetched("https://issuer.test/jwks", fetch)
    deadline = time.monotonic() + 10
    while len(answers) == 4 and time.monotonic() < deadline:
        time.sleep(0.01)  # its own thread reads first
    assert algorithms() is None
    assert [(fetched.read(), algorithms()) for _ in range(3)] == [
        (True, ["ES256"]),
        (False, ["ES256"]),
        (True, ["RS256"]),
    ]


@pytest.mark.parametrize(
    "url", ["http://issuer.test/k", "ftp://issuer.test", "file:///etc/passwd", "https://[::1", "://"]
)
def test_keys_are_read_over_https_or_from_this_host(url):
    with pytest.raises(SecurityError):
        Fetched(url, lambda _: b"")
