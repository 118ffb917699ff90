"""One table says what an answer holds: every field of the document is one of the message, and the other way round."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from certify.claims.certificate import AlphaSplit
from protos.certserve.v1 import certserve_pb2 as pb
from serving.messages import InputNote, Options
from serving.wires.answer_document import MODEL, PREDICTION
from serving.wires.kserve_v1 import instances_json
from serving.wires.typed import certserve_document, certserve_proto
from serving.wires.typed.certserve_document import names
from tests.certify.gaussian import ball
from tests.serving.wires.fake_gateway import CERTIFIED, CONFIDENT, JOINT, answer, prediction

WHOLE = replace(
    prediction(
        certificate=replace(CERTIFIED, procedure="precision", target=ball(1.25), radius_tolerance=0.5),
        input=InputNote(snapped=True, snap_distance=0.25),
        granted_draws=512,
    ),
    alpha_split=AlphaSplit(
        of_class=0.3, of_upper=0.2, of_threshold=0.1, of_interval=0.2, of_joint=0.1, of_confidence=0.1
    ),
    joint=JOINT,
    confidence=CONFIDENT,
    lost_draws=3,
    receipt='{"signed": "text"}',
)
"""Nothing is absent, and no number is what its field has by default."""


def leaves(found, place=""):
    if isinstance(found, dict):
        return {key: value for name, each in found.items() for key, value in leaves(each, f"{place}.{name}").items()}
    return {place: found}


def pairs(fields, kind):
    """Each table with the message that it fills."""
    yield fields, kind
    for each in fields:
        field = kind.fields_by_name.get(each.message or each.name)
        if each.fields and field is not None:
            yield from pairs(each.fields, field.message_type)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [*pairs(PREDICTION, pb.Prediction.DESCRIPTOR), (MODEL, pb.ModelIdentity.DESCRIPTOR)],
    ids=lambda each: getattr(each, "name", ""),
)
def test_the_table_and_the_message_name_the_same_fields(fields, kind):
    named = [each.message or each.name for each in fields if each.name != "model"]
    assert sorted(named) == sorted(kind.fields_by_name)


def test_every_field_is_the_same_in_both_and_none_of_them_is_empty():
    given = replace(answer(WHOLE), step=0.5)
    (document,) = instances_json.encode(given, Options())["predictions"]
    sent = pb.PredictResponse.FromString(certserve_proto.encode(given, Options()).SerializeToString())
    (found,) = certserve_document.document(sent)["predictions"]
    said, read = leaves(document), leaves(found)
    assert list(said) == list(read)
    for place, value in said.items():
        assert (read[place], type(read[place])) == (value, type(value)), place
        assert value not in (None, "", 0, False, []), place
    assert json.dumps(document) == json.dumps(found)


def test_what_a_message_cannot_leave_out_is_never_sent_as_nothing():
    with pytest.raises(ValueError, match="no p_b_upper"):
        certserve_proto.encode(answer(replace(WHOLE, certificate=replace(CERTIFIED, p_b_upper=None))), Options())


@pytest.mark.parametrize("kind", [pb.CertifyMode, pb.Norm, pb.AnswerPart, pb.Certificate.Status, pb.Ood.Verdict])
def test_the_words_of_an_enumeration_are_its_values_without_their_prefix(kind):
    found = names(kind.DESCRIPTOR)
    assert set(found) == set(kind.values()) - {0}
    for number, name in found.items():
        assert kind.Name(number).endswith(f"_{name.upper()}")
        assert not name.upper().startswith(kind.DESCRIPTOR.name.upper())
