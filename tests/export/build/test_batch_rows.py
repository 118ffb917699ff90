"""Rows of a batch by time and memory: what is chosen of what was measured, and that a real graph is measured."""

from __future__ import annotations

import pytest

from export.build import batch_rows
from export.build.batch_rows import MOST_BYTES, Cost, best, chosen
from export.sources.source import SourceError
from tests.half_space import _noisy


@pytest.mark.parametrize(
    ("seconds", "bytes_", "rows"),
    [
        ((1.0, 1.0, 1.0), (1, 2, 4), 32),
        ((1.0, 0.8, 0.79), (1, 2, 4), 64),
        ((1.0, 0.97, 0.7), (1, 2, 4), 128),
        ((1.0, 0.5, 0.3), (1, MOST_BYTES, MOST_BYTES + 1), 64),
        ((1.0, 0.5, 0.3), (1, MOST_BYTES + 1, 4), 128),
        ((1.0, 1.2, 1.5), (1, 2, 4), 32),
        ((1.0,), (MOST_BYTES + 1,), 32),
    ],
)
def test_the_fewest_rows_that_are_as_fast_as_any_that_fit(seconds, bytes_, rows):
    assert best([Cost(*each) for each in zip((32, 64, 128), seconds, bytes_, strict=False)]) == rows


def test_a_graph_is_measured_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(batch_rows, "TRIED", (32,))
    (cost,) = batch_rows.measured(_noisy(), (4,))
    assert (cost.rows, 0 < cost.seconds < 60, 0 <= cost.bytes < MOST_BYTES) == (32, True, True)
    said = []
    assert chosen(_noisy(), (4,), 1e9, said.append) == 32
    assert said[0].startswith("batches of 32 rows:")


def test_a_larger_batch_is_not_tried_where_the_next_smaller_shows_that_it_takes_too_much(monkeypatch):
    tried = []

    def cost(file, shape, rows):
        tried.append(rows)
        return Cost(rows, 1.0, rows * 10_000_000)

    monkeypatch.setattr(batch_rows, "_in_own_process", cost)
    batch_rows.measured(b"", (1,))
    assert tried == [32, 64]


def test_a_light_graph_is_not_measured_and_what_is_said_is_taken():
    assert chosen(b"", (1,), 1e3, pytest.fail) == 128
    assert chosen(b"", (1,), 1e9, pytest.fail, rows=96) == 96
    for wrong in (0, 33, 8_192):
        with pytest.raises(SourceError, match="--batch-rows"):
            chosen(b"", (1,), 1e9, pytest.fail, rows=wrong)


def test_a_graph_that_cannot_be_run_is_refused():
    with pytest.raises(SourceError, match="a batch of 32 rows cannot be run"):
        batch_rows.measured(b"no graph", (4,))
