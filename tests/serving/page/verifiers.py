"""The two verifiers of a receipt side by side: that of `certserve verify`, and that of the page, run by Node."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.commands.audit import verified
from tests.serving.page.node import NODE

PAGE = Path(__file__).parents[3] / "serving" / "page"


@dataclass(frozen=True)
class Verdict:
    """Whether a receipt holds; `differing` are the fields that do not, empty where it was refused before its claims."""

    holds: bool
    differing: tuple[str, ...]


def by_python(text: bytes, key: str) -> Verdict:
    try:
        findings = list(verified(text, bytes.fromhex(key)))
    except ValueError:
        return Verdict(False, ())
    differing = tuple(each.field for each in findings if not each.agrees)
    return Verdict(not differing, differing)


def by_page(given: list[tuple[bytes, str]], folder: Path) -> list[Verdict]:
    """What the page's verifier says of each pair of text and key; `folder` is for a copy of it."""
    return [Verdict(each["holds"], tuple(each["differing"])) for each in _judged(given, folder)]


def problems(given: list[tuple[bytes, str]], folder: Path) -> list[str]:
    """Why the page's verifier says nothing further of each pair."""
    return [each["problem"] for each in _judged(given, folder)]


def _judged(given: list[tuple[bytes, str]], folder: Path) -> list[dict[str, Any]]:
    verifier = folder / "verifier"
    if not verifier.exists():
        shutil.copytree(PAGE / "verifier", verifier)
        (verifier / "package.json").write_text('{"type": "module"}')
    lines = (json.dumps({"text": base64.b64encode(text).decode(), "key": key}) for text, key in given)
    command = [NODE, str(Path(__file__).with_name("judge.mjs")), str(verifier)]
    ran = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(found) == len(given)
    return found
