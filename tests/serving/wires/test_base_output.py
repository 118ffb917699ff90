"""What the base network's numbers are called on each wire: probabilities, or scores where they do not sum to one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from export.bundle import graphs
from serving.messages import Answer, Model, ModelIdentity, Options, Prediction
from serving.wires import answer_document
from serving.wires.open_inference import oip_models, tensors
from serving.wires.typed import certserve_document
from tests.half_space import SPLIT, write_half_space

NUMBERS = np.array([0.75, 0.5], np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    bundle = write_half_space(tmp_path_factory.mktemp("models"), class_alone=True)
    return Model(manifest=bundle.manifest, digest=bundle.digest)


def answer(meant):
    row = Prediction(
        class_index=0,
        probabilities=NUMBERS,
        certificate=None,
        ood=None,
        mixture=None,
        alpha=0.001,
        alpha_split=SPLIT.split(),
        draws=0,
        lost_draws=0,
    )
    identity = ModelIdentity(name="m", version="1", digest="sha256:0", runtime="r")
    return Answer(model=identity, labels=("a", "b"), predictions=(row,), queue_s=0, compute_s=0, base_output=meant)


@pytest.mark.parametrize(("meant", "other"), [("probabilities", "scores"), ("scores", "probabilities")])
def test_numbers_are_called_what_they_are_in_json_and_in_the_message(meant, other):
    (row,) = answer_document.rows(answer(meant), Options())
    assert row[meant] == NUMBERS.tolist()
    assert row.get(other) is None
    message = certserve_document.message([row])
    assert (len(getattr(message.predictions[0], meant)), len(getattr(message.predictions[0], other))) == (2, 0)
    assert certserve_document.document(message)["predictions"] == [row]


def test_numbers_that_are_not_asked_for_are_left_out():
    for meant in ("probabilities", "scores"):
        (row,) = answer_document.rows(answer(meant), Options(outputs=("certificate",)))
        assert row["probabilities"] is None
        assert "scores" not in row


@pytest.mark.parametrize(("meant", "other"), [("probabilities", "scores"), ("scores", "probabilities")])
def test_one_tensor_of_the_two_is_offered_and_is_the_default(model, meant, other):
    declared = model.manifest.model_copy(update={"graphs": graphs(score=False, gives=meant), "mixture": None})
    offered = tensors.offered(declared)
    assert (meant in offered, other in offered) == (True, False)
    document = oip_models.metadata(replace(model, manifest=declared), [model])
    assert [each["name"] for each in document["outputs"]] == [meant]
