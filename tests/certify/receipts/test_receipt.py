"""The receipt: any tampered field fails, radii need no model, bytes are stable."""

from __future__ import annotations

import json
import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.receipts import canonical
from certify.receipts.receipt import (
    FIRST,
    SCHEMA,
    THIRD,
    WITH_TOLERANCE,
    Receipt,
    ReceiptError,
    law_of,
    read,
)
from certify.receipts.recheck import recheck
from certify.receipts.records import Parameter
from tests.certify.made_receipts import altered, made

GOLDEN = (
    '{"alpha":"0x1.0000000000000p-10","claims":{"certificate":null,"mixture":null,"ood":null},"input":{"digest":"sha256:'
    + "1" * 64
    + '","high":"0x1.fe00000000000p+7","low":"0x0.0p+0","shape":[4],"step":"0x1.0000000000000p+0","units":"steps"},'
    '"lost":0,"model":{"digest":"sha256:'
    + "2" * 64
    + '","name":"half-space","runtime":"none","version":"1"},"noise":{"charge":"0x1.0000000000000p-40","key":"'
    + "3" * 32
    + '","key_id":"444444444444","norm":"l2","sigma":"0x1.0000000000000p+4","start":0,"stop":16,"stream":"noise-v1"},'
    '"procedure":{"max_draws":32,"name":"off","stop_reason":"cut","target_radius":null},"robust_weight":null,'
    '"schema":"certserve-receipt/1","scores":{"above":0,"at_most":16,"calibration_at_least":0,"calibration_size":999,'
    '"highest":"inf","lowest":"-inf","radius":"0x1.0000000000000p+3","rank":null,"score":null,"score_draws":32,'
    '"threshold":"0x1.4000000000000p+7"},"split":{"of_class":"0x1.0000000000000p-1","of_interval":'
    '"0x1.999999999999ap-3","of_threshold":"0x1.999999999999ap-4","of_upper":"0x1.999999999999ap-3"},"votes":[6,10]}'
)
"""Version 1, for ever: what was signed once is verified by every later release."""
GOLDEN_3 = GOLDEN.replace("receipt/1", "receipt/3").replace(
    '"calibration_size":999,', '"calibration_size":999,"drawn":{"key":"' + "3" * 32 + '","lost":0,"start":0,"stop":16},'
)
GOLDEN_4 = GOLDEN_3.replace("receipt/3", "receipt/4").replace('"norm":', '"law":"gaussian","norm":')

CASES = {
    "target": {},
    "refuted": {"hits": 180},
    "undecided": {"hits": 270},
    "cut": {"hits": 190, "draws": 224},
    "none drawn": {"draws": 0, "hits": 0},
    "at a target of zero": {"target_radius": 0.0, "hits": 300},
    "best": {"mode": "best"},
    "best, cut": {"mode": "best", "draws": 96, "hits": 96},
    "precision": {"mode": "precision", "max_draws": 640, "hits": 290},
    "precision, cut": {"mode": "precision", "max_draws": 640, "hits": 290, "tolerance": 1.0},
    "precision, none drawn": {"mode": "precision", "draws": 0, "hits": 0},
    "precision of a radius that is zero": {"mode": "precision", "hits": 160, "draws": 320, "tolerance": 16.0},
    "lost": {"mode": "best", "lost": 40, "hits": 270},
    "lost behind": {"mode": "best", "lost": 64, "hits": 256, "scores": np.where(np.arange(320) < 256, 90.0, np.nan)},
    "fixed": {"mode": "fixed", "draws": 1000, "hits": 990, "max_draws": 1000},
    "fixed, cut": {"mode": "fixed", "hits": 310, "max_draws": 1000},
    "off": {"mode": "off", "draws": 32, "hits": 20, "max_draws": 32},
    "outside": {"mode": "best", "scores": np.full(320, 170.0)},
    "infinite scores": {"mode": "best", "scores": np.full(320, np.inf)},
    "undetermined": {"mode": "best", "scores": np.tile([150.0, 170.0], 160)},
}


def test_the_bytes_are_those_of_their_version():
    receipt = made("off", draws=16, hits=10, max_draws=32)
    assert receipt.to_bytes().decode() == GOLDEN_4
    assert read(json.loads(GOLDEN_4)) == receipt
    assert read(json.loads(GOLDEN_3)).to_bytes().decode() == GOLDEN_3
    assert read(json.loads(GOLDEN)).to_bytes().decode() == GOLDEN


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_was_claimed_is_claimed_again_from_the_counts_alone(case):
    receipt = made(**case)
    assert [each for each in recheck(receipt) if not each.agrees] == []
    assert read(json.loads(receipt.to_bytes())) == receipt


def leaves(document, path=()):
    """The paths of all leaves of a JSON document."""
    if isinstance(document, dict | list):
        pairs = document.items() if isinstance(document, dict) else enumerate(document)
        return [leaf for name, value in pairs for leaf in leaves(value, (*path, name))]
    return [path]


def as_of(receipt, schema):
    """The document of a receipt as an earlier version had it: it knew neither the name of a law, nor, before the third, a
    menu or other draws for the score.
    """
    document = json.loads(receipt.to_bytes()) | {"schema": schema}
    document["noise"].pop("law")
    if schema == THIRD:
        return document
    document["scores"].pop("drawn")
    document["procedure"].pop("menu_size", None)
    return document


def test_a_tolerance_is_recorded_from_version_2_on_and_of_precision_alone():
    precise = as_of(made("precision"), WITH_TOLERANCE)
    assert read(precise).procedure.radius_tolerance == 8.0
    for change in ({"schema": FIRST}, {"procedure": {**precise["procedure"], "radius_tolerance": None}}):
        with pytest.raises(ReceiptError):
            read({**precise, **change})
    plain = as_of(made("best"), FIRST)
    for tolerance in (None, (8.0).hex()):
        with pytest.raises(ReceiptError, match="radius_tolerance"):
            read({**plain, "procedure": {**plain["procedure"], "radius_tolerance": tolerance}})
    with pytest.raises(ReceiptError, match="schema"):
        read({**plain, "schema": WITH_TOLERANCE})


@pytest.mark.parametrize("mode", ["target", "best", "off", "precision"])
def test_what_version_3_added_is_in_no_earlier_one_and_in_it_always(mode):
    receipt = made(mode)
    earlier = as_of(receipt, WITH_TOLERANCE if mode == "precision" else FIRST)
    assert all(each.agrees for each in recheck(read(earlier)))
    drawn = canonical.to_document(receipt)["scores"]["drawn"]
    for document in ({**earlier, "schema": THIRD}, earlier | {"scores": {**earlier["scores"], "drawn": drawn}}):
        with pytest.raises(ReceiptError, match=r"scores\.drawn: expected a range from version 3 on, else none"):
            read(document)
    with pytest.raises(ReceiptError, match=r"menu_size: expected a number if fixed from version 3 on, else none"):
        read(earlier | {"procedure": {**earlier["procedure"], "menu_size": 3}})
    with pytest.raises(ReceiptError, match="menu_size: expected a number if fixed"):
        altered(receipt, "procedure.menu_size", 3)


@pytest.mark.parametrize("mode", ["target", "best", "off", "precision", "fixed"])
def test_the_law_is_named_from_version_4_on_and_in_no_earlier_one(mode):
    receipt = made(mode)
    earlier = as_of(receipt, THIRD)
    assert all(each.agrees for each in recheck(read(earlier)))
    assert law_of(read(earlier)) == law_of(receipt)
    named = {**earlier["noise"], "law": "gaussian"}
    for document in ({**earlier, "schema": SCHEMA}, {**earlier, "noise": named}):
        with pytest.raises(ReceiptError, match=r"noise\.law: expected a name from version 4 on, else none"):
            read(document)
    with pytest.raises(ReceiptError, match=r"noise\.law: expected one of gaussian, got 'laplace'"):
        altered(receipt, "noise.law", "laplace")
    for parameters in ((Parameter(name="lambda", value=1.0),), (Parameter(name="sigma", value=1.0),)):
        with pytest.raises(ReceiptError, match="noise"):
            altered(receipt, "noise.parameters", parameters)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("scores.drawn.key", "3" * 32, "scores.drawn.key: expected another key than that of the votes if fixed"),
        ("scores.drawn.key", "5" * 31, "scores.drawn.key: expected 32 hexadecimal digits"),
        ("scores.drawn.start", 1, "scores.drawn.start: expected 0"),
        ("scores.drawn.stop", 33, "scores.drawn.stop: expected no more than score_draws if fixed"),
        ("scores.drawn.stop", 31, "scores.score: expected none within 31 draws"),
        ("scores.drawn.lost", 33, "scores.drawn.lost: expected some of the draws"),
        ("scores.drawn.lost", -1, "scores.drawn.lost: expected some of the draws"),
        ("scores.drawn.lost", 1, "scores: expected counts that sum with the lost draws to 32"),
        ("scores.drawn", None, "scores.drawn: expected a range from version 3 on"),
        ("procedure.menu_size", None, "procedure.menu_size: expected a number if fixed"),
        ("procedure.menu_size", 0, "procedure.menu_size: expected 1 to 10000000"),
        ("procedure.menu_size", 10**400, "procedure.menu_size: expected 1 to 10000000"),
        ("procedure.menu_size", 1, "split: expected shares"),
        ("procedure.menu_size", 4, "split: expected shares"),
    ],
)
def test_a_receipt_of_fixed_draws_says_how_alpha_is_split_and_which_draws_the_score_is_of(path, value, message):
    with pytest.raises(ReceiptError, match=f"^{message}"):
        altered(made("fixed", draws=1000, hits=990, max_draws=1000), path, value)


@pytest.mark.parametrize("mode", ["target", "best", "off", "precision"])
@pytest.mark.parametrize(("name", "value"), [("key", "5" * 32), ("stop", 319), ("lost", 1)])
def test_elsewhere_the_score_is_of_the_draws_of_the_votes(mode, name, value):
    with pytest.raises(ReceiptError, match=r"^scores\.drawn: expected the draws of the votes, but for fixed"):
        altered(made(mode), f"scores.drawn.{name}", value)


@pytest.mark.parametrize("tolerance", [None, 0.0, -1.0, math.inf])
def test_a_tolerance_is_a_positive_number(tolerance):
    with pytest.raises(ReceiptError, match="radius_tolerance"):
        altered(made("precision"), "procedure.radius_tolerance", tolerance)


@cache
def full():
    return made()


COUNTED = {
    "votes": (40, 280),
    "lost": 1,
    "alpha": 2.0**-11,
    "noise.sigma": 16.5,
    "noise.stop": 321,
    "noise.charge": 2.0**-10,
    "split.of_class": 0.4,
    "split.of_interval": 0.1,
    "procedure.target_radius": 60.0,
    "procedure.stop_reason": "decided",
    "procedure.max_draws": 400,
    "robust_weight": 0.8,
    "scores.calibration_at_least": 5,
    "scores.calibration_size": 10_000,
    "scores.threshold": 100.0,
    "scores.rank": 280,
    "scores.score": 136.0,
    "scores.lowest": 121.0,
    "scores.highest": 149.5,
    "scores.radius": 9.0,
}


@pytest.mark.parametrize(("path", "value"), COUNTED.items())
def test_a_count_that_was_altered_proves_something_else(path, value):
    try:
        other = altered(full(), path, value)
    except ReceiptError:
        return  # it contradicts another count already
    assert not all(each.agrees for each in recheck(other)), path


@pytest.mark.parametrize("case", ["target", "refuted", "undetermined", "precision", "fixed", "off"])
@given(data=st.data())
def test_a_claim_that_was_altered_differs_and_is_named(case, data):
    receipt = made(**CASES[case])
    document = canonical.to_document(receipt)
    place = data.draw(st.sampled_from(leaves(document["claims"])))
    spoiled = document["claims"]
    for name in place[:-1]:
        spoiled = spoiled[name]
    spoiled[place[-1]] = another(spoiled[place[-1]], data)
    try:
        found = read(document)
    except ReceiptError:
        return  # no value of the field's type
    names = [each.field for each in recheck(found) if not each.agrees]
    assert any(("claims." + ".".join(map(str, place))).startswith(name) for name in names)


def another(value, data):
    """Another value of about the same kind, well beyond what another platform may compute."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + data.draw(st.sampled_from([-1, 1]))
    if isinstance(value, str) and "p" in value and value.lstrip("-").startswith("0x"):
        number = float.fromhex(value)
        return (number * data.draw(st.sampled_from([0.5, 1.001, 0.999999])) if number else 0.001).hex()
    if value is None:
        return data.draw(st.sampled_from([0, (0.5).hex(), "certified"]))
    return data.draw(st.sampled_from(["certified", "refuted", "x", ""]).filter(lambda text: text != value))


@pytest.mark.parametrize("name", ["certificate", "ood", "mixture"])
def test_a_part_of_an_answer_may_be_left_out_with_what_it_needs_and_none_may_be_invented(name):
    off = made("off", draws=32, hits=20, max_draws=32)
    invented = altered(off, f"claims.{name}", getattr(full().claims, name))
    assert any(each.field.startswith(f"claims.{name}") for each in recheck(invented) if not each.agrees)


def test_a_receipt_without_scores_cannot_claim_any():
    assert [each.field for each in recheck(altered(full(), "scores", None)) if not each.agrees] == ["claims.ood"]
    bare = altered(altered(full(), "scores", None), "claims.ood", None)
    assert all(each.agrees for each in recheck(bare))


@pytest.mark.parametrize(
    ("schema", "message"),
    [("certserve-receipt/7", "not a version that is known"), (None, "not a version"), ({}, "not a version")],
)
def test_other_versions_are_refused(schema, message):
    with pytest.raises(ReceiptError, match=message):
        read(canonical.to_document(full()) | {"schema": schema})
    with pytest.raises(ReceiptError, match="schema"):
        read([SCHEMA])


@given(data=st.data())
def test_unknown_and_missing_fields_are_refused_and_named(data):
    document = canonical.to_document(full())
    places = [(), ("noise",), ("claims", "certificate"), ("scores",), ("scores", "drawn"), ("procedure",), ("split",)]
    inner = document
    for name in (place := data.draw(st.sampled_from(places))):
        inner = inner[name]
    if data.draw(st.booleans()):
        inner["colour"] = 1
        expected = r"colour: unknown field; the schema has [a-z_]+(, [a-z_]+)+$"
    else:
        gone = data.draw(st.sampled_from([name for name in inner if name != "schema"]))
        del inner[gone]
        expected = f"{gone}: (missing field|expected )"
    with pytest.raises(ReceiptError, match=expected) as refused:
        read(document)
    assert str(refused.value).startswith(".".join(place))


CONTRADICTIONS = [
    ("input.digest", "sha256:1"),
    ("input.shape", ()),
    ("input.shape", (0, 4)),
    ("input.step", 0.0),
    ("input.high", math.inf),
    ("model.digest", "1" * 64),
    ("noise.stream", "noise-v2"),
    ("noise.norm", "linf"),
    ("noise.sigma", 0.0),
    ("noise.sigma", math.nan),
    ("noise.charge", 1.0),
    ("noise.key", "3" * 31),
    ("noise.start", 32),
    ("noise.stop", 10**7 + 1),
    ("noise.stop", 352),
    ("procedure.name", "lucky"),
    ("procedure.name", "best"),
    ("procedure.target_radius", -1.0),
    ("procedure.max_draws", 319),
    ("alpha", 0.0),
    ("alpha", 0.9),
    ("split.of_class", 0.0),
    ("split.of_class", 0.9),
    ("split.of_upper", 1e-200),
    ("votes", (320,)),
    ("votes", (10, 311)),
    ("votes", (-1, 310)),
    ("lost", -1),
    ("robust_weight", 1.5),
    ("scores.threshold", math.inf),
    ("scores.radius", 0.0),
    ("scores.score_draws", 321),
    ("scores.score_draws", 0),
    ("scores.calibration_at_least", 1000),
    ("scores.above", -1),
    ("scores.at_most", 319),
    ("scores.rank", None),
    ("scores.rank", 321),
    ("scores.lowest", 161.0),
    ("scores.highest", 161.0),
]


@pytest.mark.parametrize(("path", "value"), CONTRADICTIONS)
def test_a_receipt_that_contradicts_itself_cannot_be_built(path, value):
    with pytest.raises(ReceiptError):
        altered(full(), path, value)


@pytest.mark.parametrize("menu", [1, 2, 3, 7])
def test_fixed_draws_spend_one_part_of_the_menu_on_the_class_alone(menu):
    receipt = made("fixed", menu=menu)
    assert (receipt.split.of_class, receipt.split.of_upper) == (1 / menu, 0.0)
    for share in (0.5 / menu, 1.0 if menu > 1 else 0.9):
        with pytest.raises(ReceiptError, match="split"):
            altered(receipt, "split.of_class", share)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("alpha", 0.001, "alpha: expected a float as Python's float.hex"),
        ("alpha", "nan", "alpha: expected a float"),
        ("alpha", "0X1.0P-10", "alpha: expected a float"),
        ("alpha", "0x1p999999", "alpha: expected a float"),
        ("lost", True, "lost: expected int, got bool"),
        ("lost", 0.0, "lost: expected int, got float"),
        ("votes", "10", "votes: expected a list"),
        ("votes", [10, "310"], r"votes\[1\]: expected int"),
        ("noise", [], "noise: expected an object"),
        ("scores", 3, "scores: expected an object"),
    ],
)
def test_another_form_of_a_value_is_refused(path, value, message):
    with pytest.raises(ReceiptError, match=message):
        read(canonical.to_document(full()) | {path: value})


def test_what_is_not_a_number_has_no_bytes():
    with pytest.raises(canonical.FormError, match="^a float that is not a number has no canonical form$"):
        canonical.to_bytes(altered(full(), "claims.ood.score", math.nan))
    with pytest.raises(canonical.FormError, match="^the document: expected an object$"):
        canonical.from_document(Receipt, [SCHEMA])


@given(st.floats(allow_nan=False))
def test_floats_survive_to_the_bit(value):
    receipt = altered(full(), "claims.ood.score", value)
    back = read(json.loads(receipt.to_bytes())).claims.ood.score
    assert math.copysign(1, back) == math.copysign(1, value)
    assert back == value


def test_the_last_places_of_another_platform_are_no_difference_and_more_is_one():
    radius = full().claims.certificate.radius
    near = altered(full(), "claims.certificate.radius", math.nextafter(radius, math.inf))
    assert all(each.agrees for each in recheck(near))
    far = altered(full(), "claims.certificate.radius", radius * (1 + 1e-8))
    assert [each.field for each in recheck(far) if not each.agrees] == ["claims.certificate.radius"]
