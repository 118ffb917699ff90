"""Every acceptance item of the references is named by the test that covers it, or said here to be open."""

from __future__ import annotations

import re
from pathlib import Path

ITEMS = {("smoothing", 12): 15, ("claims", 7): 12}
OPEN = {"smoothing 12.14": "only Gaussian noise and l2 are offered"}


def named():
    """The items named after the word `acceptance` in some test's docstring."""
    found = set()
    for path in Path(__file__).parent.rglob("test_*.py"):
        for line in re.findall(r"acceptance: ([^:\n]*)", path.read_text()):
            last = ""
            for source, item in re.findall(r"(?:(smoothing|claims) )?((?:12|7)\.\d+)", line):
                last = source or last  # "smoothing 12.4 and 12.5" names its source once
                found.add(f"{last} {item}")
    return found


def test_every_item_is_named_or_open():
    every = {f"{source} {section}.{i}" for (source, section), n in ITEMS.items() for i in range(1, n + 1)}
    assert named() == every - set(OPEN)
