"""What a person gives becomes a body, and what comes back says what it claims."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from serving.client.answers import Predicted, down
from serving.client.asking import body_of, needs_shape
from serving.commands import predict
from serving.errors import InvalidInput
from tests.serving.client.documents import ROW
from tests.serving.wires.pictures import encoded, grey

SHAPE = (2, 2)


def document(body):
    return json.loads(body.content)


def test_pictures_are_sent_as_they_are(tmp_path):
    for kind, content_type in (("PNG", "image/png"), ("JPEG", "image/jpeg")):
        data = encoded(grey(), kind)
        (tmp_path / "photo").write_bytes(data)
        for given in (data, tmp_path / "photo", str(tmp_path / "photo")):
            body = body_of(given)
            assert (body.content, body.content_type, body.rows) == (data, content_type, 1)
            assert not needs_shape(given)


@pytest.mark.parametrize("rows", [np.arange(4).reshape(SHAPE), np.arange(12).reshape(3, *SHAPE)])
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_arrays_are_one_row_or_several_whole_numbers_the_grid_s_and_others_values(rows, kind, tmp_path):
    array = rows.astype(kind)
    np.save(tmp_path / "rows.npy", array)
    for given in (array, array.tolist(), tmp_path / "rows.npy"):
        body = body_of(given, SHAPE)
        assert document(body)["instances"] == array.reshape(-1, *SHAPE).tolist()
        assert document(body)["input"] == ("values" if kind is np.float32 else "grid")
        assert body.rows == array.size // 4


@pytest.mark.parametrize(
    ("text", "instances", "form"),
    [
        ("1,2,3,4\n5,6,7,8\n", [[1, 2, 3, 4], [5, 6, 7, 8]], "grid"),
        ("\ufeffa,b,c,d\r\n1,2,3,4\r\n", [[1, 2, 3, 4]], "grid"),
        ("1,2.5,-3,4e1\n", [[1.0, 2.5, -3.0, 40.0]], "values"),
    ],
)
def test_each_line_of_a_table_is_a_row_and_a_line_of_names_is_none(text, instances, form, tmp_path):
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    body = body_of(tmp_path / "rows.csv", (4,))
    assert (document(body)["instances"], document(body)["input"]) == (instances, form)


def test_a_row_of_a_table_has_the_shape_of_the_model_s_input(tmp_path):
    (tmp_path / "rows.csv").write_text("1,2,3,4\n")
    assert document(body_of(tmp_path / "rows.csv", SHAPE))["instances"] == [[[1, 2], [3, 4]]]


def test_a_json_file_is_a_document_or_its_instances(tmp_path):
    for written in ([[1, 2]], {"instances": [[1, 2]], "target_radius": 1}):
        (tmp_path / "a.json").write_text(json.dumps(written))
        body = body_of(tmp_path / "a.json")
        assert document(body) == (written if isinstance(written, dict) else {"instances": written})


def pickled():
    return np.array([{}], dtype=object)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.png", b"GIF89a", "expected a PNG or JPEG"),
        ("a", b"", "expected a PNG or JPEG"),
        ("a.npy", b"no numbers", "no .npy file"),
        ("a.npy", b"", "no .npy file"),
        ("a.npy", pickled, "no .npy file"),
        ("a.npy", lambda: np.array(["a"]), "array of numbers"),
        ("a.npy", lambda: np.array([np.nan]), "finite"),
        ("a.npy", lambda: np.zeros((3, 3)), r"shape is \[3, 3\]; expected \[2, 2\]"),
        ("a.npy", lambda: np.zeros((0, 2, 2)), "expected"),
        ("a.csv", b"", "no row of numbers"),
        ("a.csv", b"a,b\n", "no row of numbers"),
        ("a.csv", b"1,2,3,4\n1,x,3,4\n", "line 2: 'x' is no number"),
        ("a.csv", b"1,2,3,4\n1,2\n", "line 2: 2 numbers, and 4 before"),
        ("a.csv", b"1,nan,3,4\n", "no number"),
        ("a.csv", b"\xff\xfe", "no CSV file in UTF-8"),
        ("a.csv", b"1,2,3\n", "shape"),
        ("a.json", b"{", "no JSON document"),
        ("a.json", b"{}", "instances"),
        ("a.json", b"[]", "one or more instances"),
        ("a.json", b"3", "one or more instances"),
        ("a.json", b"[" * 100_000, "nested"),
    ],
)
def test_a_file_of_no_use_is_refused_in_one_line_by_its_name(name, data, said, tmp_path):
    path = tmp_path / name
    if callable(data):
        np.save(path, data(), allow_pickle=True)
    else:
        path.write_bytes(data)
    with pytest.raises(InvalidInput, match=said) as refused:
        body_of(path, SHAPE)
    assert str(path) in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("given", [[[1, 2], [3]], [["a"]], [None], [[float("inf")] * 2] * 2, [], {"a": 1}])
def test_what_is_no_array_of_numbers_is_refused(given):
    with pytest.raises(InvalidInput):
        body_of(given, SHAPE)


def test_an_answer_says_what_it_claims_and_escapes_its_labels_in_a_notebook():
    answer = Predicted.of(ROW)
    assert "certified, 'bag' within 0.5;" in repr(answer)
    assert "384 draws" in repr(answer)
    page = answer._repr_html_()
    assert "&lt;b&gt;bag" in page
    assert "<b>" not in page
    assert answer.document is ROW
    assert answer.certificate.p_a_lower == 0.97


JOINT = {
    "verdict": "in_distribution",
    "label": "bag",
    "p_lower": 0.9,
    "radius": 0.31259,
    "norm": "l2",
    "threshold": 3.0,
}
SAID = {
    "in_distribution": ("in distribution as 'bag' within 0.3125", "in, bag within 0.3125"),
    "out_of_distribution": ("out of distribution within 0.3125", "out within 0.3125"),
    "undetermined": ("undetermined", "-"),
}


@pytest.mark.parametrize("verdict", SAID)
def test_a_joint_label_and_two_sided_bounds_are_said_in_words_and_in_a_table(verdict, capsys):
    nothing = {"p_lower": None, "radius": 0.0} if verdict == "undetermined" else {}
    label = {} if verdict == "in_distribution" else {"label": None}
    two_sided = {**ROW["certificate"], "two_sided": True}
    row = {**ROW, "certificate": two_sided, "joint": {**JOINT, "verdict": verdict, **label, **nothing}}
    words, cell = SAID[verdict]
    answer = Predicted.of(row)
    assert str(answer.joint) == words
    assert "certified, 'bag' within 0.5 (against the best of the other labels);" in repr(answer)
    assert words in repr(answer)
    assert "<th style='text-align:left'>joint label</th>" in answer._repr_html_()
    predict._table(iter([(Path("a.npy"), [row])]), [Path("a.npy")])
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.endswith("joint label")
    assert line.endswith(f"384     {cell}")
    assert "certified, two-sided" in line


CONFIDENCE = {"label": "bag", "lower": 0.44999, "lower_at_input": 0.89999, "radius": 0.5, "norm": "l2"}


@pytest.mark.parametrize("joint", [True, False], ids=["beside a joint label", "alone"])
@pytest.mark.parametrize("claimed", [True, False], ids=["claimed", "nothing claimed"])
def test_confidence_is_said_in_words_and_in_a_table_and_never_rounded_up(claimed, joint, capsys):
    nothing = {} if claimed else {"label": None, "lower": None, "lower_at_input": None, "radius": 0.0}
    row = {**ROW, "confidence": {**CONFIDENCE, **nothing}} | ({"joint": JOINT} if joint else {})
    words = "at least 0.4499 in 'bag' on average under noise, within 0.5 (0.8999 at the input)"
    answer = Predicted.of(row)
    assert str(answer.confidence) == (words if claimed else "nothing is claimed")
    assert "<th style='text-align:left'>confidence</th>" in answer._repr_html_()
    predict._table(iter([(Path("a.npy"), [row])]), [Path("a.npy")])
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split()[-1] == "confidence"
    assert ("joint label" in heading, "in, bag within" in line) == (joint, joint)
    assert line.endswith("0.4499, 0.8999 here" if claimed else " -")


def test_a_table_of_answers_without_a_joint_label_has_no_column_for_it(capsys):
    predict._table(iter([(Path("a.npy"), [ROW])]), [Path("a.npy")])
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.endswith("draws")
    assert line.endswith("384")


def test_parts_that_are_not_there_are_none():
    answer = Predicted.of({**ROW, "certificate": None, "ood": None, "mixture": None, "probabilities": None})
    assert (answer.certificate, answer.ood, answer.mixture, answer.probabilities) == (None,) * 4
    assert repr(answer).endswith("384 draws>")
    with pytest.raises(ValueError, match="receipt=True"):
        answer.verify("00" * 32)


@pytest.mark.parametrize("number", [0.50009, 0.99999, 1.0, 123456.7, 1e-9, 0.0])
def test_what_is_claimed_is_never_printed_larger(number):
    assert float(down(number)) <= number
    assert float(down(number)) >= 0.999 * number
