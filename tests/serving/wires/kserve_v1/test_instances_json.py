from __future__ import annotations

import contextlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify.ood.verdict import CertifiedScore
from protos.certserve.v1 import certserve_pb2 as pb
from serving import strict_json
from serving.errors import InvalidInput
from serving.messages import InputNote, Options
from serving.wires.kserve_v1 import instances_json
from serving.wires.typed import certserve_document, certserve_proto
from tests.serving.wires.fake_gateway import ABSTAINED, CERTIFIED, INSIDE, MIXED, ROWS, answer, manifest, prediction

SPEC = manifest(shape=(2, 2, 1), layout="HWC").input
ROW = [[[1], [2]], [[3], [4]]]


def decode(document, query=None):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return instances_json.decode(body, SPEC, 3, query or {})


def test_integers_are_of_the_grid_and_floats_of_the_caller():
    rows, chosen = decode({"instances": [ROW, ROW]})
    assert rows.tolist() == [ROW, ROW]
    assert rows.dtype == np.int64
    assert chosen == Options()
    values, _ = decode({"instances": [[[[1], [2.5]], [[3], [4]]]], "input": "values"})
    assert values.dtype == np.float64
    assert values.tolist() == [[[[1.0], [2.5]], [[3.0], [4.0]]]]


def test_options_lie_beside_the_instances():
    _, chosen = decode({"instances": [ROW], "certify": "best", "outputs": ["ood"]}, {"alpha": 0.01})
    assert chosen == Options(certify="best", outputs=("ood",), alpha=0.01)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "is a JSON array; expected an object"),
        (b'{"instances": [NaN]}', "NaN is not a JSON number"),
        (b'{"instances": [Infinity]}', "not a JSON number"),
        (b'{"instances": [1], "instances": [2]}', "twice"),
        (b"[" * 100_000, "too deeply"),
        (b'{"a":' * 100_000, "too deeply"),
        ({}, 'expected "instances"'),
        ({"instances": []}, 'expected "instances"'),
        ({"instances": ROW, "x": 1}, "unknown key 'x'; known are instances, input, certify"),
        ({"instances": [ROW] * 4}, "4 rows, over the limit of 3"),
        ({"instances": [1]}, r"instances\[0\] is a JSON number; expected an array of shape \[2, 2, 1\]"),
        ({"instances": [[[[1], [2]]]]}, r"instances\[0\] has 1 elements, expected 2"),
        ({"instances": [[[[1], [2]], [[3], 4]]]}, r"instances\[0\]\[1\]\[1\] is a JSON number"),
        ({"instances": [[[[1], [2]], [[3], [True]]]]}, "holds True; expected integers"),
        ({"instances": [[[[1], [2]], [[3], [None]]]]}, "holds None"),
        ({"instances": [[[[1], [2]], [[3], ["4"]]]]}, "holds '4'"),
        ({"instances": [[[[1], [2]], [[3], [4.0]]]]}, 'for numbers in steps say "input": "values"'),
        ({"instances": [[[[1], [2]], [[3], [2**70]]]]}, "more than 64 bits"),
        ({"instances": [[[[1], [2]], [[3], [10**400]]]], "input": "values"}, "beyond the range"),
        ({"instances": [ROW], "input": "image"}, "input is 'image'; expected \"grid\""),
        ({"instances": [ROW], "alpha": "0.1"}, "alpha must be a finite number, got '0.1'"),
    ],
)
def test_what_is_wrong_is_said(document, said):
    with pytest.raises(InvalidInput, match=said):
        decode(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
KEYS = st.sampled_from(["instances", "input", "certify", "alpha", "outputs", "draws", "zzz"])


@given(st.dictionaries(KEYS, JSON | st.just([ROW]), max_size=4), st.binary(max_size=30))
@settings(max_examples=300)
def test_no_body_raises_anything_else(document, junk):
    for body in (json.dumps(document).encode(), junk, json.dumps(document).encode()[:-1]):
        with contextlib.suppress(InvalidInput):
            assert decode(body)[0].shape[1:] == SPEC.shape


def test_the_document_is_the_one_of_the_design():
    whole, abstained, bare = instances_json.encode(answer(), Options())["predictions"]
    assert list(whole) == [
        *("label", "class_index", "probabilities", "certificate", "ood", "mixture"),
        *("alpha", "alpha_split", "draws", "lost_draws", "model"),
    ]
    assert whole["label"] == "class 3"
    assert whole["certificate"] == {
        "status": "certified",
        "label": "class 2",
        "radius": CERTIFIED.radius,
        "reaches_others": True,
        "norm": "l2",
        "sigma": CERTIFIED.law.parameters["sigma"],
        "p_a_lower": CERTIFIED.p_a_lower,
        "p_b_upper": 0.021,
        "procedure": "target",
        "target_radius": 8.0,
        "radius_tolerance": None,
    }
    assert whole["ood"] == {
        "score": 5.1,
        "p_value": 0.62,
        "in_distribution": True,
        "threshold": 8.5,
        "certified": {
            "verdict": "in_distribution",
            "score_lower": 3.9,
            "score_upper": 6.8,
            "radius": 8.0,
            "reaches_others": True,
        },
    }
    assert whole["mixture"] == {
        "label": "class 2",
        "probabilities": [0.1, 0.05, 0.8, 0.05],
        "robust_weight": 0.9,
        "radius": 6.5,
        "reaches_others": True,
    }
    assert whole["alpha_split"] == {"class": 0.5, "upper": 0.2, "threshold": 0.1, "interval": 0.2}
    assert abstained["certificate"]["label"] is None
    assert abstained["certificate"]["radius"] == 0.0
    assert abstained["certificate"]["reaches_others"] is False
    assert abstained["certificate"]["p_a_lower"] is None
    assert abstained["ood"]["score"] is None
    assert abstained["ood"]["certified"]["score_upper"] is None
    assert abstained["input"] == {"snapped": True, "snap_distance": 0.25}
    assert (bare["certificate"], bare["ood"], bare["mixture"]) == (None, None, None)
    assert "input" not in bare


def test_no_radius_is_rounded_up_by_printing():
    text = strict_json.dumps(instances_json.encode(answer(), Options()))
    assert json.loads(text)["predictions"][0]["certificate"]["radius"] == CERTIFIED.radius


@pytest.mark.parametrize("snapped", [False, True])
def test_how_far_a_row_was_moved_is_said_on_either_route(snapped):
    given = answer(prediction(input=InputNote(snapped=snapped, snap_distance=1e-17)))
    (row,) = instances_json.encode(given, Options())["predictions"]
    assert row["input"] == {"snapped": snapped, "snap_distance": 1e-17}
    assert certserve_document.document(certserve_proto.encode(given, Options()))["predictions"] == [row]


@pytest.mark.parametrize("step", [0.5, 6.5, math.nextafter(6.5, 7), 8.0, 300.0])
def test_a_radius_below_a_step_says_that_it_reaches_no_other_input(step):
    given = replace(answer(), step=step)
    whole, abstained, _ = instances_json.encode(given, Options())["predictions"]
    assert whole["mixture"]["reaches_others"] == (step <= 6.5)
    assert whole["ood"]["certified"]["reaches_others"] == (step <= 8.0)
    assert whole["certificate"]["reaches_others"] == (whole["certificate"]["radius"] >= step)
    assert not abstained["certificate"]["reaches_others"]
    found = certserve_document.document(certserve_proto.encode(given, Options()))["predictions"]
    assert found[:2] == [whole, abstained]


@pytest.mark.parametrize("outputs", [None, (), ("ood",), ("probabilities",)])
def test_probabilities_can_be_left_out(outputs):
    chosen = Options(outputs=outputs)
    (row,) = instances_json.encode(answer(ROWS[0]), chosen)["predictions"]
    assert (row["probabilities"] is None) == (outputs in ((), ("ood",)))
    assert certserve_document.document(certserve_proto.encode(answer(ROWS[0]), chosen))["predictions"] == [row]


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.sampled_from([None, ABSTAINED, CERTIFIED, replace(CERTIFIED, status="refuted", target=None)]),
    st.none()
    | st.builds(
        replace,
        st.just(INSIDE),
        score=FLOATS | st.just(float("inf")),
        certified=st.none()
        | st.builds(
            CertifiedScore,
            verdict=st.sampled_from(["in_distribution", "out_of_distribution", "undetermined"]),
            score_lower=st.none() | FLOATS,
            score_upper=st.none() | FLOATS,
            radius=FLOATS,
        ),
    ),
    st.none() | st.builds(replace, st.just(MIXED), radius=FLOATS),
    st.none() | st.builds(InputNote, snapped=st.booleans(), snap_distance=FLOATS),
)
def test_both_wires_carry_the_same_document(certificate, ood, mixture, note):
    given_answer = answer(prediction(certificate, ood, mixture, note))
    message = pb.PredictResponse.FromString(certserve_proto.encode(given_answer, Options()).SerializeToString())
    document = json.loads(strict_json.dumps(instances_json.encode(given_answer, Options())))
    assert certserve_document.document(message) == document
