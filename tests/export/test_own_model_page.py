"""The page about your own model: its blocks of Python and its commands run, one after another, as a reader would."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from export.bundle.repository import load_repository
from serving.commands.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "own-model.md"


def test_the_page_works_from_top_to_bottom(tmp_path, monkeypatch):
    """At most ten lines of anything but the commands. Each block of Python has nothing but what it imports itself."""
    blocks = re.findall(r"^```(python|sh)\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert [kind for kind, _ in blocks] == ["python", "sh", "sh", "sh", "sh", "python"]
    monkeypatch.chdir(tmp_path)
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, str(PAGE), "exec"), {"__name__": "__main__"})
        else:
            program, *words = shlex.split(text)
            assert (program, main(words)) == ("certserve", 0), text
    found = {each.key: each.manifest for each in load_repository(tmp_path / "models")}
    guarantees = {name: (each.ood is not None, each.mixture is not None) for name, each in found.items()}
    assert guarantees == {"digits/1": (True, True), "parts/1": (False, False), "parts/2": (True, True)}
