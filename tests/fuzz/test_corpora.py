"""What fuzzing began with and found, tried again, and some hundreds of changes of each: a value or the promised refusal."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.seeds import CORPORA, seeds
from tests.fuzz.targets import TARGETS, tried

CHANGES = 150


def corpus(name: str) -> list[bytes]:
    return seeds()[name] + [path.read_bytes() for path in sorted((CORPORA / name).glob("*"))]


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_is_taken_or_refused_as_promised(name):
    taken = [tried(name, data) for data in corpus(name)]
    assert any(taken) or name in ("receipt", "token"), "not one input is taken: it tests nothing but refusals"


@pytest.mark.parametrize("name", TARGETS)
def test_so_are_small_changes_of_it(name):
    chance = random.Random(name)
    found = corpus(name)
    for _ in range(CHANGES):
        tried(name, changed(chance.choice(found), chance, found))


def changed(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """A few bytes replaced, cut out, doubled or taken from another input."""
    for _ in range(chance.randrange(1, 4)):
        start = chance.randrange(len(data) + 1)
        stop = min(len(data), start + chance.randrange(1, 9))
        other = chance.choice(others)
        place = chance.randrange(len(other) + 1)
        middle = chance.choice([b"", chance.randbytes(stop - start), data[start:stop] * 3, other[place : place + 16]])
        data = data[:start] + middle + data[stop:]
    return data


def test_every_parser_has_a_corpus_and_every_corpus_a_parser():
    assert set(seeds()) == set(TARGETS) == {path.name for path in CORPORA.iterdir()}
    assert sum(path.stat().st_size for path in CORPORA.rglob("*") if path.is_file()) < 300_000


def test_a_parser_that_fails_is_found(monkeypatch):
    monkeypatch.setitem(TARGETS, "query", (lambda data: {}[data], (ValueError,)))
    with pytest.raises(KeyError):
        tried("query", b"a")
