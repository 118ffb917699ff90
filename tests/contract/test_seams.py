"""Who may know of a law or of a procedure's name, as the sources say: so the next one is a module and no search."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from certify.claims.procedures import PROCEDURES

ROOT = Path(__file__).parents[2]
MODULES = [path for package in ("certify", "export", "serving") for path in sorted((ROOT / package).rglob("*.py"))]
NORMAL = {"ndtr", "ndtri", "quantile_below", "quantile_above", "quantile_of_complement_below", "probability_above"}
LIBRARY = "Library offering"


def of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def compared(tree: ast.AST) -> list[str]:
    """Texts that something is compared with, or matched against."""
    sides = [
        each for node in ast.walk(tree) if isinstance(node, ast.Compare) for each in (node.left, *node.comparators)
    ]
    sides += [node.value for node in ast.walk(tree) if isinstance(node, ast.MatchValue)]
    within = [
        inner for side in sides for inner in (side.elts if isinstance(side, ast.Tuple | ast.Set | ast.List) else [side])
    ]
    return [each.value for each in within if isinstance(each, ast.Constant) and isinstance(each.value, str)]


def test_no_name_of_a_procedure_is_matched_anywhere():
    """They are looked up once, in `PROCEDURES`; after that a procedure is a value."""
    found = {of(path): set(compared(ast.parse(path.read_text()))) & set(PROCEDURES) for path in MODULES}
    assert {path: names for path, names in found.items() if names} == {}


def test_a_name_that_is_matched_would_be_seen():
    for source in ('x == "best"', 'x in ("off", "on")', 'match x:\n case "fixed": pass', '"target" != x'):
        assert set(compared(ast.parse(source))) & set(PROCEDURES)


def imported(tree: ast.AST) -> set[str]:
    found = {
        (node.module or "", alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return {f"{module}.{name}" for module, name in found} | {module for module, _ in found}


@pytest.mark.parametrize("path", MODULES, ids=of)
def test_the_normal_law_is_the_gaussian_law_s_alone(path):
    """Nothing else computes with quantiles of the normal law, and none but kernels that draw it know its table."""
    text = path.read_text()
    place = of(path)
    inside = place.startswith(("certify/smoothing/", "certify/bounds/")) or LIBRARY in text.splitlines()[0]
    names = {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Name | ast.Attribute)
    }
    assert inside or not names & NORMAL or place in SIMULATED
    kernels = place.startswith(("certify/smoothing/", "serving/runtimes/"))
    assert kernels or "certify.smoothing.lattice_gaussian" not in imported(ast.parse(text))


SIMULATED = {"export/attack/simulation.py"}
"""It simulates the truth, by formulas of its own, of what the procedures claim."""

OF_THE_GAUSSIAN_LAW = {"sigma", "sigma_steps", "tails"}
LAWS = ("certify/smoothing/", "serving/runtimes/", "export/bundle/law_spec.py")
CHOOSE_SIGMA = ("export/build/", "export/evaluation/", "export/own_model.py", "export/recipes/", "export/robust/")
"""Whoever makes a bundle of the Gaussian law, measures which sigma it should have, or trains a network under its noise."""
SAY_SIGMA = (
    "certify/receipts/receipt.py",
    *(f"serving/commands/{each}.py" for each in ("evaluate", "export", "robustify")),
)
"""A public field, and options."""


@pytest.mark.parametrize("path", MODULES, ids=of)
def test_no_number_of_the_gaussian_law_is_asked_for_but_where_it_is_chosen_said_or_drawn(path):
    """Whoever loads, serves, audits or attacks a bundle knows its law by the port alone."""
    asked = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert of(path).startswith((*LAWS, *CHOOSE_SIGMA, *SAY_SIGMA)) or not asked & OF_THE_GAUSSIAN_LAW
