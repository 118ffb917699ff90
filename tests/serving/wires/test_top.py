"""The largest numbers of an answer with their labels: on request, and by default where there are many labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from serving.config import Limits
from serving.errors import InvalidInput
from serving.gateway.resolve import resolve
from serving.messages import Options, PredictRequest
from serving.wires import answer_document
from serving.wires import options as wire_options
from serving.wires.answer_document import FEW, MANY
from serving.wires.typed import certserve_document, certserve_proto
from tests.serving.wires.fake_gateway import MIXED, answer, model, prediction


def of_labels(count, **changes):
    """An answer of one row with so many labels, of which none has the number of another."""
    numbers = np.random.default_rng(4).permutation(count).astype(np.float32) / count
    mixed = replace(MIXED, probabilities=tuple(np.roll(numbers, 1).tolist()))
    row = replace(prediction(mixture=mixed), probabilities=numbers)
    return replace(answer(row), labels=tuple(f"label {place}" for place in range(count)), **changes)


def sent(found, **options):
    """The row on the friendly wire, after the way to the typed message and back, which has to change nothing."""
    rows = answer_document.rows(found, Options(**options))
    assert certserve_document.document(certserve_document.message(rows))["predictions"] == rows
    return rows[0]


def largest(numbers, count):
    return np.argsort(-np.asarray(numbers))[:count]


@pytest.mark.parametrize(
    ("labels", "asked", "said"), [(4, None, 4), (4, 2, 2), (MANY, None, MANY), (MANY + 1, None, FEW)]
)
@pytest.mark.parametrize("meant", ["probabilities", "scores"])
def test_as_many_as_asked_for_and_few_of_many(labels, asked, said, meant):
    found = of_labels(labels, base_output=meant)
    row, numbers = sent(found, top_k=asked), found.predictions[0].probabilities
    if said == labels:
        assert (row[meant], "top" in row, "top" in row["mixture"]) == (numbers.tolist(), False, False)
        return
    for part, given in ((row, numbers), (row["mixture"], found.predictions[0].mixture.probabilities)):
        order = largest(given, said)
        assert part["top"]["labels"] == [found.labels[place] for place in order]
        assert part["top"]["numbers"] == [float(given[place]) for place in order]
        assert part["probabilities"] is None
    assert row.get("scores") is None


@pytest.mark.parametrize("asked", [150, 10_000])
def test_as_many_as_there_are_labels_is_all_in_their_order(asked):
    found = of_labels(150)
    row = sent(found, top_k=asked)
    assert row["probabilities"] == found.predictions[0].probabilities.tolist()
    assert len(row["mixture"]["probabilities"]) == 150


def test_equal_numbers_stand_in_the_order_of_their_labels_and_nothing_is_said_where_nothing_was_asked():
    found = replace(
        of_labels(5), predictions=(replace(prediction(mixture=None), probabilities=np.full(5, 0.2, np.float32)),)
    )
    assert sent(found, top_k=3)["top"]["labels"] == ["label 0", "label 1", "label 2"]
    assert "top" not in sent(found, top_k=3, outputs=("certificate",))


def test_an_answer_of_a_thousand_labels_is_small():
    import json

    found = of_labels(1_000)
    assert len(json.dumps(answer_document.rows(found, Options()))) < 3_000
    assert certserve_document.message(answer_document.rows(found, Options())).ByteSize() < 1_500


def test_it_is_an_option_of_both_wires_and_none_of_the_tensors():
    assert wire_options.from_query([("top_k", "7")]) == wire_options.from_json({"top_k": 7}) == {"top_k": 7}
    message = certserve_proto.options_message(Options(top_k=7))
    assert (message.top_k, certserve_proto._options(message).top_k) == (7, 7)
    assert certserve_proto._options(certserve_proto.options_message(Options())).top_k is None
    with pytest.raises(InvalidInput, match="unknown parameter"):
        wire_options.from_parameters({"certserve.top_k": 7})


@pytest.mark.parametrize("wrong", [0, -1])
def test_fewer_than_one_is_refused(wrong):
    request = PredictRequest(
        model="pictures", version=None, inputs=np.zeros((1, 1, 28, 28), np.uint8), options=Options(top_k=wrong)
    )
    with pytest.raises(InvalidInput, match="top_k: expected 1 or more"):
        resolve(request, model(), Limits(), b"secret" * 8)
