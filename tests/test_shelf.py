"""The shelf: modules of `certify` that nothing served imports say so in their first line, and no other module does."""

from __future__ import annotations

import ast
from pathlib import Path

import grimp
import pytest

PHRASE = "Library offering: "
ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("certify", "export", "serving", "protos")


def path_of(module):
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def first_line(module):
    docstring = ast.get_docstring(ast.parse(path_of(module).read_text())) or ""
    return docstring.partition("\n")[0]


@pytest.fixture(scope="module")
def graph():
    """Who imports whom, imports inside of functions too."""
    return grimp.build_graph(*PACKAGES, cache_dir=None)


@pytest.fixture(scope="module")
def shelf(graph):
    """The modules of `certify`, its folders apart, that no module of `serving` reaches by any chain of imports."""
    served = {module for module in graph.modules if module.split(".")[0] == "serving"}
    reached = served.union(*(graph.find_upstream_modules(module) for module in served))
    ours = {module for module in graph.modules if module.split(".")[0] == "certify" and not graph.find_children(module)}
    return ours - reached


def test_exactly_the_modules_that_nothing_served_imports_call_themselves_library_offerings(graph, shelf):
    marked = {module for module in graph.modules if first_line(module).startswith(PHRASE)}
    assert sorted(marked) == sorted(shelf)


def test_the_import_graph_sees_what_is_served_and_what_is_not(graph, shelf):
    """Else two empty sets would be equal."""
    served = [module for module in graph.modules if module.split(".")[0] == "certify"]
    assert 5 < len(shelf) < len(served) - 5


def test_every_offering_says_what_it_offers(shelf):
    assert [module for module in shelf if len(first_line(module)) < len(PHRASE) + 20] == []
