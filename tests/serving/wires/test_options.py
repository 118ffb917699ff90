from __future__ import annotations

import contextlib
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.certserve.v1 import certserve_pb2 as pb
from serving.errors import InvalidInput
from serving.messages import Options
from serving.wires import options
from serving.wires.typed import certserve_proto
from tests.serving.wires.fake_gateway import model

TABLE = [
    ("certify", "best", "best", "best"),
    ("target_radius", 0.5, "0.5", 0.5),
    ("radius_tolerance", 0.5, "0.5", 0.5),
    ("target_radius", -1, "-1", -1.0),
    ("target_radius", 2, "2e0", 2.0),
    ("max_draws", 1000, "1000", 1000),
    ("draws", 100_000, "100000", 100_000),
    ("alpha", 0.001, "1e-3", 0.001),
    ("deadline_ms", 250, "250", 250),
    ("norm", "l2", "l2", "l2"),
    ("outputs", ["ood", "mixture"], "ood,mixture", ("ood", "mixture")),
    ("snap", True, "true", True),
    ("snap", False, "0", False),
    ("receipt", True, "1", True),
]
WRONG = [
    ("certify", 5, None),
    ("target_radius", "0.5", "nan"),
    ("radius_tolerance", "0.5", "nan"),
    ("target_radius", True, "1_0"),
    ("target_radius", 10**400, "inf"),
    ("target_radius", 1e999, "1e999"),
    ("target_radius", None, ""),
    ("max_draws", 1.5, "1.5"),
    ("max_draws", True, "9" * 5000),
    ("max_draws", 2**63, "0x10"),
    ("draws", "7", " 7"),
    ("alpha", [], "0,1"),
    ("deadline_ms", {}, "1s"),
    ("norm", 2, None),
    ("outputs", "ood", None),
    ("outputs", [1], None),
    ("snap", 1, "yes"),
    ("receipt", "true", "TRUE"),
]


def test_every_option_has_a_name_on_the_wire():
    assert list(options.KINDS) == [field.name for field in fields(Options)]


@pytest.mark.parametrize(("name", "value", "text", "meant"), TABLE)
def test_every_form_means_the_same(name, value, text, meant):
    expected = replace(Options(), **{name: meant})
    assert options.build(options.from_json({name: value})) == expected
    assert options.build(options.from_query([(name, text)])) == expected
    if name != "outputs":
        assert options.build(options.from_parameters({f"certserve.{name}": value})) == expected
        assert options.build(options.from_parameters({name: text})) == expected


@pytest.mark.parametrize(("name", "value", "text"), WRONG)
def test_a_wrong_type_is_named(name, value, text):
    with pytest.raises(InvalidInput, match=f"{name} must be "):
        options.from_json({name: value})
    if text is not None:
        with pytest.raises(InvalidInput, match=f"{name} must be "):
            options.from_query([(name, text)])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: options.from_query([("radius", "1")]), "unknown query parameter 'radius'; known are certify, "),
        (lambda: options.from_query([("alpha", "1"), ("alpha", "1")]), "given twice"),
        (
            lambda: options.from_parameters({"certserve.radius": 1}),
            "unknown parameter 'certserve.radius'; known are cert",
        ),
        (lambda: options.from_parameters({"certserve.outputs": "ood"}), "unknown parameter"),
        (lambda: options.from_parameters({"certserve.alpha": 0.1, "alpha": 0.1}), "both given"),
        (lambda: options.from_parameters({"alpha": None}), "may send text"),
        (lambda: options.build({"alpha": 0.1}, {"alpha": 0.1}), "in the query and in the body"),
    ],
)
def test_unknown_and_double_options_are_refused(call, said):
    with pytest.raises(InvalidInput, match=said):
        call()


def test_parameters_of_others_are_ignored():
    foreign = {"priority": 3, "triton_enable_empty_final_response": True, "outputs": 1, "x": None}
    assert options.from_parameters(foreign) == {}


@given(st.text(), st.text())
def test_no_text_raises_anything_else(name, text):
    for pairs in ([(name, text)], *([(known, text)] for known in options.KINDS)):
        with contextlib.suppress(InvalidInput):
            options.from_query(pairs)


@given(
    st.builds(
        Options,
        certify=st.none() | st.sampled_from(["off", "target", "best", "precision", "fixed"]),
        target_radius=st.none() | st.floats(allow_nan=False),
        radius_tolerance=st.none() | st.floats(allow_nan=False),
        max_draws=st.none() | st.integers(-(2**63), 2**63 - 1),
        draws=st.none() | st.integers(-(2**63), 2**63 - 1),
        alpha=st.none() | st.floats(allow_nan=False),
        deadline_ms=st.none() | st.integers(0, 10**9),
        norm=st.sampled_from([None, "l2"]),
        outputs=st.none()
        | st.lists(st.sampled_from(["probabilities", "certificate", "ood", "mixture"]), min_size=1).map(tuple),
        snap=st.booleans(),
        receipt=st.booleans(),
    )
)
def test_messages_carry_every_option(chosen):
    message = pb.Options.FromString(certserve_proto.options_message(chosen).SerializeToString())
    assert certserve_proto._options(message) == chosen


def test_what_the_service_has_no_word_for_is_refused():
    for field in ("certify", "norm"):
        with pytest.raises(InvalidInput, match=f"{field} is 'nonsense'; expected one of"):
            certserve_proto.options_message(Options(**{field: "nonsense"}))
        with pytest.raises(InvalidInput, match=f"{field} is 99"):
            certserve_proto._options(pb.Options(**{field: 99}))
    with pytest.raises(InvalidInput, match="UNSPECIFIED"):
        certserve_proto._options(pb.Options(outputs=[pb.ANSWER_PART_UNSPECIFIED]))


@pytest.mark.parametrize(
    ("asked", "left", "expected"),
    [
        (None, None, None),
        (None, 60.0, None),
        (None, 2.5, 2500),
        (100, 2.5, 100),
        (5000, 2.5, 2500),
        (None, 1e-9, 1),
        (None, 9.3e9, None),
        (None, float("inf"), None),
    ],
)
def test_a_transports_deadline_only_shortens(asked, left, expected):
    assert options.tightened(Options(deadline_ms=asked), left, model()).deadline_ms == expected
