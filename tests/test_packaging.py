"""What a built package holds beside its modules."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
LISTED = TOOLS["setuptools"]["packages"]


def test_every_package_with_a_module_is_listed_and_no_other():
    roots = {name.split(".")[0] for name in LISTED}
    found = {".".join(path.parent.relative_to(ROOT).parts) for root in roots for path in (ROOT / root).rglob("*.py")}
    assert sorted(LISTED) == sorted(found)


@pytest.mark.parametrize("package", sorted({name.split(".")[0] for name in LISTED}))
def test_every_package_is_marked_as_typed_and_the_mark_is_shipped(package):
    """One mark at the top covers the packages below it."""
    assert (ROOT / package / "py.typed").read_bytes() == b""
    assert "py.typed" in TOOLS["setuptools"]["package-data"][package]


def test_no_folder_of_tests_is_passed_over(request):
    names = {path.name for path in (ROOT / "tests").rglob("*") if path.is_dir()} - {"__pycache__"}
    passed_over = request.config.getini("norecursedirs")
    assert not {name for name in names if any(fnmatch(name, pattern) for pattern in passed_over)}
