"""The notebook of examples/: its cells run one after another, as in a fresh folder of a reader."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[2]


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """With nothing but what it imports itself."""
    cells = json.loads((ROOT / "examples" / "own_model.ipynb").read_text())["cells"]
    code = ["".join(each["source"]) for each in cells if each["cell_type"] == "code"]
    assert all(each["outputs"] == [] for each in cells if each["cell_type"] == "code")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for cell in code:
        exec(compile(cell, "own_model.ipynb", "exec"), names)
    said = SimpleNamespace(**names)
    assert (said.found.output.kind, said.bundle.key, said.bundle.manifest.ood.name) == ("softmax", "digits/1", "md")
    assert (said.faults, said.figures["rows"]) == ([], 50)
    right, farther = (said.smoothed["certified"][place]["share"] for place in (0, 1))
    assert right > 0.5
    assert 0 < farther <= right
