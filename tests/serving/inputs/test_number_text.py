"""Long arrays of numbers mean the same whether they are read in one go or piece by piece, and nothing else gets through."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.budget import BufferedBytes
from serving.config import Limits
from serving.errors import InvalidInput
from serving.inputs import number_text, rows
from serving.inputs.number_text import NumberText
from serving.inputs.work import Abandoned, Work, current
from serving.wires.kserve_v1 import instances_json
from serving.wires.open_inference import oip_json
from tests.serving.wires.fake_gateway import manifest, model

LARGE = 2 * 2**20


@pytest.fixture
def piecewise(monkeypatch):
    """Everything is read as if it were long, in pieces of a few characters."""
    for name, size in (("_WHOLE", 0), ("_BLOCK", 4), ("_STEP", 64), ("_PIECE", 200)):
        monkeypatch.setattr(number_text, name, size)


def numbers(value, shape, convert=rows.numbers):
    return rows.array(value, shape, "x", lambda leaves: convert(leaves, "x"))


@pytest.mark.usefixtures("piecewise")
@pytest.mark.parametrize("indent", [None, 0, 1, 3])
@pytest.mark.parametrize("shape", [(40,), (40, 1), (1, 40), (5, 2, 4), (2, 3, 2, 5), (3, 1, 1, 9)])
def test_the_same_array_comes_out_of_any_layout(shape, indent):
    wanted = np.random.default_rng(1).normal(scale=1e3, size=shape)
    text = json.dumps({"before": "[1,2]", "x": wanted.tolist(), "after": [1, 2]}, indent=indent)
    fields = number_text.loads(text.encode())
    assert isinstance(fields["x"], NumberText)
    assert fields["before"] == "[1,2]"
    assert np.array_equal(numbers(fields["x"], shape), wanted)


@pytest.mark.usefixtures("piecewise")
@pytest.mark.parametrize(
    "text",
    [
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,8],[]]",
        "[[1,2,3,4,5,6,7,8],1,2,3,4,5,6,7,8]",
        "[[1,2,3,4,5,6,7,8,1],[2,3,4,5,6,7,8]]",
        "[1[,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,8]]",
        "[[1,2,3,4,5,6,7,8]1,[2,3,4,5,6,7,8,9]]",
        "[[1,2,3,4,5,6,7,8]1,[,2,3,4,5,6,7,8,9]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4 5,6,7,8,9]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,,6,7,8]]",
        "[[1,2,3,4,5,6,7,8],[,1,2,3,4,5,6,7]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,8,]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,01]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,+1]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,1.]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,.1]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,1e]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,--1]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,1-1]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,true]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,tru]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,1e999]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,null]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,NaN]]",
        '[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,"8"]]',
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,{}]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,8]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,8]]]",
        "[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7," + "9" * 5000 + "]]",
    ],
)
def test_whatever_is_no_such_array_is_refused(text):
    with pytest.raises(InvalidInput):
        numbers(number_text.loads(b'{"x":' + text.encode() + b',"y":[1]}')["x"], (2, 8))


@pytest.mark.usefixtures("piecewise")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"x": 1, "x": [1,1,1,1,1,1,1,1,1,1,1,1,1]}', "twice"),
        ('{"x": [1,1,1,1,1,1,1,1,1,1,1,1,1], "x": [2,1,1,1,1,1,1,1,1,1,1,1,1]}', "twice"),
        ('{"x": [1,1,1,1,1,1,1,1,1,1,1,1,1], "\\u0078": 1}', "twice"),
        ('{"x": [1,1,1,1,1,1,1,1,1,1,1,1,1]} 7', "not JSON"),
        ('{"x": [1,1,1,1,1,1,1,1,1,1,1,1,1]', "not JSON"),
        ('{"x": "[1,1,1,1,1,1,1,1,1,1,1,1,1]', "not JSON"),
        ("[1,1,1,1,1,1,1,1,1,1,1,1,1]", "expected an object"),
    ],
)
def test_the_rest_is_read_strictly(text, said):
    with pytest.raises(InvalidInput, match=said):
        number_text.loads(text.encode())


@pytest.mark.usefixtures("piecewise")
def test_numbers_where_none_belong_change_nothing_else():
    long = "[1,1,1,1,1,1,1,1,1,1,1,1,1]"
    text = f'{{"a": ["x", {long}, 7], "b": {{"c": {long}}}, "d": [[{long}], "y"]}}'
    fields = number_text.loads(text.encode())
    assert fields["a"] == ["x", [1] * 13, 7]
    assert repr(fields["b"]) == "{'c': [...]}"
    assert repr(fields["d"]) == "[[...], 'y']"


SPEC = manifest(shape=(2, 3, 1), layout="HWC").input
LEAVES = st.one_of(
    st.integers(-300, 300),
    st.floats(-300, 300),
    st.just(10**30),
    st.booleans(),
    st.none(),
    st.text("[],19", max_size=3),
)


def row(leaves):
    return st.lists(st.lists(st.lists(leaves, min_size=1, max_size=1), min_size=3, max_size=3), min_size=2, max_size=2)


def outcome(decode):
    try:
        inputs, options = decode()
        return inputs.tolist(), inputs.dtype, options
    except InvalidInput:
        return "refused"


@given(
    st.lists(row(st.integers(0, 255)) | row(LEAVES) | st.lists(LEAVES, max_size=2), max_size=5),
    st.sampled_from(["grid", "values", "x"]),
    st.sampled_from([None, 2]),
)
def test_both_ways_of_reading_a_request_agree(instances, form, indent):
    body = json.dumps({"instances": instances, "input": form, "alpha": 0.1}, indent=indent).encode()

    def decode():
        return instances_json.decode(body, SPEC, 4, {})

    whole = outcome(decode)
    with pytest.MonkeyPatch.context() as patch:
        # A piece is longer than a number between its blanks, which takes up to 87.
        for name, size in (("_WHOLE", 0), ("_BLOCK", 4), ("_STEP", 64), ("_PIECE", 128)):
            patch.setattr(number_text, name, size)
        assert outcome(decode) == whole


@pytest.mark.parametrize("datatype", ["UINT8", "INT64", "FP16", "FP32", "FP64", "UINT64"])
@pytest.mark.parametrize("nested", [True, False])
def test_a_large_call_of_the_open_protocol_is_read_as_it_is(datatype, nested):
    data = np.random.default_rng(0).integers(0, 256, (400, 1, 28, 28))
    values = data.tolist() if nested else data.ravel().tolist()
    tensor = {"name": "image", "shape": list(data.shape), "datatype": datatype, "data": values}
    body = json.dumps({"id": "7", "inputs": [tensor], "parameters": {"certserve.alpha": 0.01}}).encode()
    call = oip_json.decode(body, None, model(), Limits()).call
    assert np.array_equal(call.request.inputs, data)
    assert (call.id, call.request.options.alpha) == ("7", 0.01)
    with pytest.raises(InvalidInput):
        oip_json.decode(
            body.replace(b"400, 1", b"200, 2"), None, model(shape=(2, 28, 28), layout="features"), Limits(max_rows=100)
        )
    with pytest.raises(InvalidInput):
        oip_json.decode(body.replace(b"[", b"[true,", 9), None, model(), Limits())


HEAD, TAIL = b'{"instances":[', b"]}"


def filled(unit, head=HEAD, tail=TAIL, size=LARGE):
    return head + b",".join([unit] * ((size - len(head) - len(tail)) // (len(unit) + 1))) + tail


HOSTILE = {
    "empty arrays": filled(b"[]"),
    "empty objects": filled(b"{}"),
    "empty strings": filled(b'""'),
    "escapes": filled(b'"' + b"\\n" * 1000 + b'"'),
    "unicode escapes": filled(b'"' + b"\\u0041" * 1000 + b'"'),
    "nulls": filled(b"null"),
    "booleans": filled(b"true"),
    "numbers": filled(b"0"),
    "numbers and a string": filled(b"0", tail=b',""]}'),
    "rows of nothing": filled(b"[[],[]]"),
    "one key for ever": filled(b'"alpha":0', b"{", b"}"),
    "many keys": b"{" + b",".join(b'"%x":0' % i for i in range(700_000)) + b"}",
    "keys in an option": filled(b'"a":0', b'{"instances":[0],"alpha":{', b"}}"),
    "depth": b'{"instances":' + b"[" * (LARGE // 2) + b"]" * (LARGE // 2) + b"}",
    "depth without end": b"[" * LARGE,
    "depth of objects": b'{"a":' * (LARGE // 5),
    "closing": b'{"a":[' + b"]" * LARGE,
    "one number": b'{"instances":[' + b"1" * LARGE + b"]}",
    "one fraction": b'{"instances":[0.' + b"1" * LARGE + b"]}",
    "one string": b'{"instances":["' + b"a" * LARGE + b'"]}',
    "one string of numbers": b'{"instances":["' + b"1," * (LARGE // 2) + b'"]}',
    "one key": b'{"' + b"a" * LARGE + b'":0}',
    "spaces": b'{"instances":' + b" " * LARGE + b"[0]}",
    "spaces in numbers": filled(b"0" + b" " * 50),
    "not ASCII": b'{"a":"' + "é".encode() * (LARGE // 2) + b'"}',
    "not UTF-8": b'{"a":"' + b"\xff" * LARGE + b'"}',
    "one bit": b'{"instances":[{"b64":"' + b"A" * LARGE + b'"}]}',
    "tiny pictures": filled(b'{"b64":""}'),
    "short arrays of numbers": filled(b'["",' + b"0," * 900 + b"0]"),
    "the right number of nothings": filled(b"[]", size=3 * 784 * 1000),
}
ANY = Limits(max_json_bytes=2**24)
FORMS = {
    "instances": lambda body: instances_json.decode(body, manifest().input, 1024, {}),
    "inputs": lambda body: oip_json.decode(body.replace(b"instances", b"inputs"), None, model(), ANY),
    "data": lambda body: oip_json.decode(
        b'{"inputs":[{"name":"image","shape":[1024,1,28,28],"datatype":"FP32","data":'
        + body.removeprefix(b'{"instances":').removesuffix(b"}")
        + b"}]}",
        None,
        model(),
        ANY,
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_is_refused_in_little_memory(name):
    budget = BufferedBytes(2**29)
    with budget.hold() as held:
        token = current.set(Work(held))
        try:
            for decode in FORMS.values():
                with pytest.raises(InvalidInput):
                    decode(HOSTILE[name])
        finally:
            current.reset(token)
        assert held.size <= 5 * LARGE


def test_what_nobody_waits_for_ends(monkeypatch):
    monkeypatch.setattr(number_text, "_PIECE", 2048)
    work, seen = Work(), []
    real = number_text._read

    def slowly(piece, place):
        seen.append(len(piece))
        if len(seen) == 3:
            work.stop()
        return real(piece, place)

    monkeypatch.setattr(number_text, "_read", slowly)
    body = json.dumps({"instances": [[[[0] * 28] * 28]] * 100}).encode()
    token = current.set(work)
    try:
        with pytest.raises(Abandoned):
            instances_json.decode(body, manifest().input, 1024, {})
    finally:
        current.reset(token)
    assert len(seen) == 3


def test_others_run_while_the_largest_request_is_read():
    """Counts how often another thread gets a turn: a parser that read all in one go would give it none."""
    spec = manifest(shape=(1, 1000, 1000)).input
    body = b'{"instances":[[[[' + b"],[".join([b",".join([b"0"] * 1000)] * 1000) + b"]]]]}"
    turns = 0
    thread = threading.Thread(target=instances_json.decode, args=(body, spec, 1024, {}))
    thread.start()
    while thread.is_alive():
        turns += 1
        time.sleep(0.0005)
    assert turns > 10
