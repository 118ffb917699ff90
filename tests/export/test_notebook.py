"""The notebook of examples/: its cells run one after another, as in a fresh folder of a reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    """What it comes to is told by a last cell of this test."""
    cells = json.loads((ROOT / "examples" / "own_model.ipynb").read_text())["cells"]
    program = "\n".join("".join(each["source"]) for each in cells if each["cell_type"] == "code")
    assert all(each["outputs"] == [] for each in cells if each["cell_type"] == "code")
    told = """
import json
print(json.dumps([found.output.kind, bundle.key, bundle.manifest.ood.name, faults, figures["rows"],
                  smoothed["certified"][0]["share"], smoothed["certified"][1]["share"]]))"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program + told],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    kind, key, score, faults, rows, right, farther = json.loads(done.stdout.splitlines()[-1])
    assert (kind, key, score, faults, rows) == ("softmax", "digits/1", "md", [], 50)
    assert right > 0.5
    assert 0 < farther <= right
