"""JSON is written as the standard library writes it, and never much of it while no other thread is let in."""

from __future__ import annotations

import json
import math

import pytest

from serving import strict_json

ROW = {"label": "é", "probabilities": [0.1] * 10, "certificate": {"radius": 1e-7, "status": None}}
MANY = [float(each) / 7 for each in range(1_000)]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"predictions": [ROW]}, id="one row"),
        pytest.param({"predictions": [ROW] * 100, "next": 1}, id="many rows"),
        pytest.param({"predictions": [{"probabilities": MANY, "more": [MANY, []]}] * 3}, id="many classes"),
        pytest.param({"predictions": [{"probabilities": MANY}] * 100}, id="many rows of many classes"),
        pytest.param({"outputs": [{"name": "label", "data": MANY}, {"data": []}], "id": "7"}, id="tensors"),
        pytest.param({'"a"\n': MANY, "b": [["x"] * 100] * 100}, id="arrays in arrays"),
        pytest.param(MANY, id="an array"),
        pytest.param([], id="nothing"),
    ],
)
def test_what_is_written_is_json_and_a_little_at_a_time(value, monkeypatch):
    pieces, write = [], strict_json._encoded

    def encoded(value):
        pieces.append(write(value))
        return pieces[-1]

    monkeypatch.setattr(strict_json, "_encoded", encoded)
    assert strict_json.dumps(value) == json.dumps(value, separators=(",", ":")).encode()
    assert max(map(len, pieces)) < 5_000


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rows", [1, 100])
def test_a_number_that_is_not_finite_is_never_written(number, rows):
    with pytest.raises(ValueError, match="JSON"):
        strict_json.dumps({"predictions": [*[ROW] * rows, {"probabilities": [number]}]})
