"""What is large is decoded and written beside the loop, what is small at once."""

from __future__ import annotations

import threading

import pytest

from serving.wires import off_loop
from tests.serving.wires.fake_gateway import answer, model, prediction


@pytest.mark.parametrize(
    ("rows", "classes", "here"), [(1, 4, True), (32, 4, True), (1, 5_000, True), (1_024, 4, False), (32, 1_000, False)]
)
async def test_answers_of_many_numbers_are_written_in_another_thread(rows, classes, here):
    of = model(labels=tuple(map(str, range(classes))))
    thread = await off_loop.written(lambda _: threading.get_ident(), answer(*[prediction()] * rows, of=of))
    assert (thread == threading.get_ident()) == here
