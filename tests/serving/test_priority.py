"""The loop comes first: whatever works beside it, in whichever room, has its threads give way."""

from __future__ import annotations

import ast
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import serving
from serving.priority import give_way

SERVING = Path(serving.__file__).parent
ROOMS = ("wires", "gateway", "engine", "inputs", "models")
"""What a request goes through; commands, and homes before they are ready, keep nobody waiting."""


def beside_the_loop(source: str) -> list[ast.Call]:
    """Where something is handed to threads of a pool: a pool that is made, or asyncio's own."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [each for each in calls if ast.unparse(each.func).split(".")[-1] in ("ThreadPoolExecutor", "to_thread")]


@pytest.mark.parametrize("room", ROOMS)
def test_every_pool_of_a_room_gives_way(room):
    found = [(path.name, each) for path in (SERVING / room).rglob("*.py") for each in beside_the_loop(path.read_text())]
    assert [(name, ast.unparse(each)) for name, each in found if "give_way" not in ast.unparse(each)] == []


def test_a_pool_that_does_not_would_be_seen():
    for source in ("x = ThreadPoolExecutor(2)", "await asyncio.to_thread(work)", "futures.ThreadPoolExecutor(1, 'x')"):
        assert beside_the_loop(source)


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own elsewhere")
def test_a_thread_that_gives_way_is_served_after_others(monkeypatch):
    def priority():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    monkeypatch.setattr("serving.priority._NICENESS", 3)
    with ThreadPoolExecutor(1, "beside", give_way) as pool:
        assert pool.submit(priority).result() == min(19, priority() + 3)
