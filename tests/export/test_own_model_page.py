"""The page about your own model: its blocks of Python and its commands run, one after another, as a reader would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from export.bundle.repository import load_repository

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "own-model.md"


def test_the_page_works_from_top_to_bottom(tmp_path):
    """At most ten lines of anything but the commands."""
    blocks = re.findall(r"^```(python|sh)\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for kind, text in blocks:
        command = text.replace("certserve", f"{sys.executable} -m serving.commands.cli", 1)
        line = [sys.executable, "-c", text] if kind == "python" else ["sh", "-ec", command]
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, (text, done.stdout, done.stderr)
    assert [kind for kind, _ in blocks] == ["python", "sh", "sh", "sh", "sh", "python"]
    found = {each.key: each.manifest for each in load_repository(tmp_path / "models")}
    guarantees = {name: (each.ood is not None, each.mixture is not None) for name, each in found.items()}
    assert guarantees == {"digits/1": (True, True), "parts/1": (False, False), "parts/2": (True, True)}
