"""One name is one thing: no two classes, and no two aliases of types, are called alike anywhere in the product."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
ALLOWED: set[str] = set()
"""Names that two things may have, each with its reason; empty, and meant to stay so."""


def named(tree):
    """The classes of a module, wherever they stand, and the types that it gives a name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and re.fullmatch(r"[A-Z][a-z]\w*", target.id):
            yield target.id


def doubles(modules):
    """The names that more than one of these modules gives, or one gives twice."""
    found = defaultdict(list)
    for name, text in modules.items():
        for each in named(ast.parse(text)):
            found[each].append(name)
    return {name: places for name, places in found.items() if len(places) > 1}


def test_no_name_is_given_twice():
    modules = {
        str(path.relative_to(ROOT)): path.read_text()
        for package in ("certify", "export", "serving")
        for path in sorted((ROOT / package).rglob("*.py"))
    }
    assert len(modules) > 100
    assert {name: places for name, places in doubles(modules).items() if name not in ALLOWED} == {}


def test_doubles_are_found_among_classes_and_aliases_also_within_functions():
    modules = {
        "a": "class Plan: ...\nTable = dict[str, int]\nLIMIT = 3",
        "b": "def f():\n    class Plan: ...",
        "c": "Table: object = list\nLIMIT = 3\nclass Other: ...",
    }
    assert doubles(modules) == {"Plan": ["a", "b"], "Table": ["a", "c"]}
