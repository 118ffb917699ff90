from __future__ import annotations

import logging
from functools import lru_cache

import pytest

from certify.bounds import anytime
from export.bundle import load_repository
from tests.half_space import write_half_space


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    write_half_space(models)
    write_half_space(models, "class-alone", class_alone=True)
    return models


@pytest.fixture(scope="package")
def bundles(folder):
    return bundles_of(folder)


@pytest.fixture(autouse=True)
def _remembered(monkeypatch):
    """Anew for each test: what a mutant has computed is not for the next one."""
    remember_bounds(monkeypatch.setattr)


@pytest.fixture(autouse=True)
def _quiet():
    """What is written of every draw that a simulated device has lost is kept by pytest, and takes minutes to hand over."""
    log = logging.getLogger("certserve")
    level = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(level)


def remember_bounds(put=setattr):
    """Bounds are pure functions of a few numbers, most of which come again in a simulation: each is computed once."""
    for name in ("chosen_exceeds", "chosen_lower_complement", "upper"):
        put(anytime, name, lru_cache(maxsize=2**18)(getattr(anytime, name)))


def prepare_worker():
    """Of a pool: it remembers bounds, and does not write of every draw that a simulated device has lost."""
    remember_bounds()
    logging.getLogger("certserve").setLevel(logging.CRITICAL)


def bundles_of(folder):
    """The half-space, and the same without a score, whose alpha is the class's alone."""
    return sorted(load_repository(folder), key=lambda bundle: bundle.key, reverse=True)
