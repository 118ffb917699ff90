"""What the page asks is the input that it shows: of every kind of input, and in both forms of a typed row."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from serving.inputs.grid import on_grid
from serving.wires.http.page import input_of
from tests.declared import sound_spec, spec
from tests.serving.page.node import NODE
from tests.serving.page.verifiers import PAGE

COLUMNS = {"low": (-3.0, 100.0, 0.0), "step": (0.5, 0.125, 1.0), "high": (3.0, 200.0, 2.0), "step_length": 0.25}
SPECS = {
    "grey pictures": spec((1, 4, 4), "CHW", step=1 / 255, high=1.0),
    "pictures in color": spec((4, 4, 3), "HWC"),
    "rows with one step": spec((5,), low=-2.0, step=0.25, high=2.0),
    "rows with a step for each column": spec((3,), **COLUMNS),
    "sound": sound_spec((16,), 8_000),
    "sound with a channel": sound_spec((1, 16), 8_000),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Of each kind of input a row of integers, from the least to the most, and what the page does with it."""
    page = tmp_path_factory.mktemp("page") / "page"
    shutil.copytree(PAGE, page)
    (page / "package.json").write_text('{"type": "module"}')
    rows = {name: _row(each) for name, each in SPECS.items()}
    lines = [
        json.dumps({"input": input_of(each), "row": rows[name].ravel().tolist(), "wanted": 4 * each.length})
        for name, each in SPECS.items()
    ]
    command = [NODE, str(Path(__file__).with_name("inputs.mjs")), str(page)]
    ran = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = map(json.loads, ran.stdout.splitlines())
    return {name: (rows[name], each) for name, each in zip(SPECS, found, strict=True)}


def _row(declared):
    row = np.random.default_rng(7).integers(0, np.broadcast_to(declared.tops, declared.shape) + 1)
    row.ravel()[:2] = 0, np.broadcast_to(declared.tops, declared.shape).ravel()[1]
    return row


def _understood(numbers, declared, dtype):
    """What the server takes numbers of a request for."""
    (row,), _ = on_grid(np.array(numbers, dtype)[None], declared, 1, snap=False)
    return row


@pytest.mark.parametrize("name", SPECS)
def test_the_server_understands_the_input_that_the_page_shows(told, name):
    row, found = told[name]
    assert np.array_equal(_understood(found["asked"], SPECS[name], np.int64), row)


@pytest.mark.parametrize("name", SPECS)
def test_a_typed_row_is_what_a_program_would_mean_by_the_same_numbers(told, name):
    row, found = told[name]
    for form, dtype in (("values", np.float64), ("grid", np.int64)):
        written = np.array(found["texts"][form].split(", "), np.float64).reshape(SPECS[name].shape)
        assert np.array_equal(_understood(written, SPECS[name], dtype), row), form
        assert np.array_equal(_understood(found["read"][form], SPECS[name], np.int64), row), form


@pytest.mark.parametrize("name", SPECS)
def test_a_changed_input_lies_on_the_grid_as_far_away_as_the_page_says(told, name):
    row, found = told[name]
    changed = _understood(found["near"], SPECS[name], np.int64)
    away = np.linalg.norm((changed - row).ravel()) * SPECS[name].length
    assert 0 < away <= 4 * SPECS[name].length
    assert found["away"] == pytest.approx(away)
