"""The pages of docs/: the reference is what the code says, the site builds without a warning, what is named exists."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from serving.commands import cli
from serving.messages import Options

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def ran(*command):
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_reference_is_what_the_code_says():
    done = ran(DOCS / "generate.py", "--check")
    assert done.returncode == 0, done.stderr


def test_a_page_that_is_out_of_date_is_noticed(tmp_path):
    """A copy of the script beside pages that lack a setting."""
    for name in ("docs/reference", "protos/certserve/v1"):
        (tmp_path / name).mkdir(parents=True)
    for path in [DOCS / "generate.py", *DOCS.glob("reference/*.md"), *ROOT.glob("protos/certserve/v1/*.proto")]:
        (tmp_path / path.relative_to(ROOT)).write_text(path.read_text())
    assert ran(tmp_path / "docs/generate.py", "--check").returncode == 0
    page = tmp_path / "docs/reference/settings.md"
    page.write_text("\n".join(line for line in page.read_text().splitlines() if "--max-rows" not in line) + "\n")
    done = ran(tmp_path / "docs/generate.py", "--check")
    assert (done.returncode, "settings.md is not what the code says" in done.stderr) == (1, True)


def test_the_site_builds_without_a_warning(tmp_path):
    done = ran("-m", "sphinx", "-q", "-W", "--keep-going", "-d", tmp_path / "cache", DOCS, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert {page for page in pages if not (tmp_path / "site" / page).exists()} == set()


def options_of_the_command_line():
    """Of every command, with their dashes."""
    (commands,) = (each for each in cli._parser()._actions if each.choices)
    return {name for each in commands.choices.values() for action in each._actions for name in action.option_strings}


def test_options_that_the_how_to_pages_name_exist():
    pages = "".join(path.read_text() for path in DOCS.glob("how-to/*.md"))
    named = set(re.findall(r"`(--[a-z-]+)[` ]", pages))
    assert len(named) > 15
    assert named <= options_of_the_command_line()


def test_every_option_has_a_meaning():
    lines = (DOCS / "reference/options.md").read_text().splitlines()
    meanings = dict(re.fullmatch(r"\| `(\w+)` \| (.+) \|", line).groups() for line in lines if line.startswith("| `"))
    assert {each.name for each in fields(Options)} <= meanings.keys()
    assert all(len(meaning) > 10 for meaning in meanings.values())
