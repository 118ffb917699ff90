"""A bundle that contradicts itself is refused before it serves: one altered copy of the half-space bundle for each way.

Digests are made to fit each time, so that what is refused is the content and not the alteration.
"""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pytest
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from certify.smoothing.lattice_gaussian import NoiseTableError, RoundedGaussian
from export.build.noise_table import rounded_gaussian_tails
from export.bundle import BundleError, load
from tests.half_space import COORDINATES, SIGMA, write_half_space

CALIBRATION, GOLDEN, NOISE = "calibration.safetensors", "golden.safetensors", "noise.safetensors"


@pytest.fixture
def folder(tmp_path):
    write_half_space(tmp_path)
    return tmp_path / "half-space" / "1"


def replaced(folder, name, data):
    """The bundle with another file in place of one, its digest in the manifest."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def altered(folder, name, change):
    replaced(folder, name, save_tensors(change(load_tensors((folder / name).read_bytes()))))


def refused(folder, message, file):
    """The refusal: one line that names the file by its whole path."""
    with pytest.raises(BundleError, match=message) as caught:
        load(folder)
    said = str(caught.value)
    assert str(folder / file) in said
    assert said.isprintable()
    assert len(said) < 2_000


def with_scores(change):
    return lambda tensors: {"scores": np.array(change(tensors["scores"]), order="C")}


CALIBRATIONS = {
    "a NaN": (with_scores(lambda s: np.append(s, np.nan)), "finite scores"),
    "an infinite score": (with_scores(lambda s: np.append(s, np.inf)), "finite scores"),
    "a score of minus infinity": (with_scores(lambda s: np.append(-np.inf, s)), "finite scores"),
    "no scores": (with_scores(lambda s: s[:0]), "at least one"),
    "a table of scores": (with_scores(lambda s: s.reshape(3, -1)), "one vector"),
    "a lone number": (with_scores(lambda s: s[3].reshape(())), "one vector"),
    "falling scores": (with_scores(lambda s: s[::-1]), "not sorted"),
    "two scores exchanged": (with_scores(lambda s: np.r_[s[1], s[0], s[2:]]), "not sorted"),
    "single precision": (with_scores(lambda s: s.astype(np.float32)), "scores float64; got scores float32"),
    "integers": (with_scores(lambda s: s.astype(np.int64)), "scores float64; got scores int64"),
    "another name": (lambda t: {"values": t["scores"]}, "scores float64; got values float64"),
    "a name that breaks the line": (lambda t: {"a\nb\x1b": t["scores"]}, "expected the tensors"),
    "two tensors": (lambda t: t | {"more": t["scores"]}, "got more float64, scores float64"),
    "nothing": (lambda t: {}, "got none"),
    "too few for the rate": (with_scores(lambda s: s[-80:]), "at least 90 are needed"),
    "one score": (with_scores(lambda s: s[-1:]), "at least 90 are needed"),
    "other scores": (with_scores(lambda s: s + 1.0), r"give the threshold 161.0.*ood.threshold=160.0"),
    "scores a last bit off": (with_scores(lambda s: np.nextafter(s, 0)), "give the threshold 159.99999999999997"),
    "scores left out": (with_scores(lambda s: s[100:]), "give the threshold"),
}


@pytest.mark.parametrize("case", CALIBRATIONS)
def test_a_calibration_that_cannot_be_what_is_claimed_is_refused(folder, case):
    change, message = CALIBRATIONS[case]
    altered(folder, CALIBRATION, change)
    refused(folder, message, CALIBRATION)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", 159.0),
        ("threshold", 161.0),
        ("threshold", 160.00000000000003),
        ("threshold", -160.0),
        ("target_tpr", 0.9),
        ("target_tpr", 0.999),
        ("eta", 0.2),
        ("eta", 1e-30),
    ],
)
def test_a_threshold_that_its_calibration_does_not_give_is_refused(folder, field, value):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["ood"][field] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    refused(folder, "give the threshold|are needed", CALIBRATION)


def with_golden(name, change):
    return lambda tensors: tensors | {name: np.array(change(tensors[name]), order="C")}


def put(value):
    """The array with `value` as its last number."""

    def change(array):
        flat = array.astype(np.int32 if array.dtype.kind in "iu" and array.itemsize < 4 else array.dtype).reshape(-1)
        flat[-1] = value
        return flat.reshape(array.shape)

    return change


REACH = rounded_gaussian_tails(SIGMA).size - 1
GOLDENS = {
    "a missing tensor": (lambda t: {k: v for k, v in t.items() if k != "votes"}, "expected the tensors"),
    "a tensor more": (lambda t: t | {"logits": t["scores"]}, "logits float32"),
    "inputs of int64": (with_golden("base_input", lambda a: a.astype(np.int64)), "base_input int64"),
    "inputs of uint16": (with_golden("base_input", lambda a: a.astype(np.uint16)), "base_input uint16"),
    "noisy inputs of floats": (with_golden("noisy_input", lambda a: a.astype(np.float32)), "noisy_input float32"),
    "probabilities in double": (with_golden("base_probabilities", lambda a: a.astype(np.float64)), "float64"),
    "votes of int32": (with_golden("votes", lambda a: a.astype(np.int32)), "votes int32"),
    "votes that are floats": (with_golden("votes", lambda a: a.astype(np.float32)), "votes float32"),
    "votes of truth": (with_golden("votes", lambda a: a.astype(bool)), "votes bool"),
    "scores in double": (with_golden("scores", lambda a: a.astype(np.float64)), "scores float64"),
    "scores in half": (with_golden("scores", lambda a: a.astype(np.float16)), "scores float16"),
    "no rows": (lambda t: {k: np.ascontiguousarray(v[:0]) for k, v in t.items()}, "2 or more rows.* got 0 and 0"),
    "one row": (lambda t: {k: np.ascontiguousarray(v[:1]) for k, v in t.items()}, "2 or more rows.* got 1 and 1"),
    "one noisy row": (
        lambda t: {k: np.ascontiguousarray(v if k.startswith("base") else v[:1]) for k, v in t.items()},
        "got 6 and 1",
    ),
    "one base row": (
        lambda t: {k: np.ascontiguousarray(v[:1] if k.startswith("base") else v) for k, v in t.items()},
        "got 1 and 6",
    ),
    "flat inputs": (with_golden("base_input", lambda a: a.reshape(-1)), "base_input has shape"),
    "a number for inputs": (with_golden("base_input", lambda a: a[0, 0].reshape(())), "got 0 and 6"),
    "a number for votes": (with_golden("votes", lambda a: a[0].reshape(())), "got 6 and 0"),
    "a column of votes": (with_golden("votes", lambda a: a[:, None]), r"votes has shape \(6, 1\)"),
    "fewer scores": (with_golden("scores", lambda a: a[:-1]), r"scores has shape \(5,\), expected \(6,\)"),
    "fewer probabilities": (with_golden("base_probabilities", lambda a: a[:-1]), "base_probabilities has shape"),
    "a class too many": (with_golden("base_probabilities", lambda a: np.c_[a, a[:, :1] * 0]), r"expected \(6, 2\)"),
    "inputs of another shape": (with_golden("noisy_input", lambda a: a[:, :3]), "noisy_input has shape"),
    "an input below the grid": (with_golden("base_input", put(-1)), "base_input must lie in 0 to 255"),
    "an input above the grid": (with_golden("base_input", put(256)), "base_input must lie in 0 to 255"),
    "noise beyond the table": (with_golden("noisy_input", put(256 + REACH)), "noisy_input must lie in"),
    "noise far below": (with_golden("noisy_input", put(-(2**31))), "noisy_input must lie in"),
    "a negative vote": (with_golden("votes", put(-1)), "votes must lie in 0 to 2"),
    "a vote for no class": (with_golden("votes", put(3)), "votes must lie in 0 to 2"),
    "a NaN among probabilities": (with_golden("base_probabilities", put(np.nan)), "base_probabilities must lie"),
    "a negative probability": (with_golden("base_probabilities", put(-0.01)), "base_probabilities must lie"),
    "a probability above 1": (with_golden("base_probabilities", put(1.5)), "base_probabilities must lie"),
    "logits": (with_golden("base_probabilities", lambda a: np.log(a)), "base_probabilities must lie"),
    "sums below 1": (with_golden("base_probabilities", lambda a: a * np.float32(0.99)), "must sum to 1"),
    "sums above 1": (with_golden("base_probabilities", lambda a: np.ones_like(a)), "must sum to 1"),
    "a NaN score": (with_golden("scores", put(np.nan)), "scores must lie"),
    "an infinite score": (with_golden("scores", put(np.inf)), "scores must lie"),
    "a score of minus infinity": (with_golden("scores", put(-np.inf)), "scores must lie"),
}


@pytest.mark.parametrize("case", GOLDENS)
def test_golden_tensors_that_no_such_model_has_are_refused(folder, case):
    change, message = GOLDENS[case]
    altered(folder, GOLDEN, change)
    refused(folder, message, GOLDEN)


def with_tails(change):
    return lambda tensors: {"tails": np.array(change(tensors["tails"]), order="C")}


NOISES = {
    "signed": (with_tails(lambda t: t.view(np.int64)), "tails int64"),
    "floats": (with_tails(lambda t: t.astype(np.float64)), "tails float64"),
    "narrow": (with_tails(lambda t: (t >> np.uint64(32)).astype(np.uint32)), "tails uint32"),
    "a table of tables": (with_tails(lambda t: t[None]), "expected 2 to"),
    "a number": (with_tails(lambda t: t[0].reshape(())), "expected 2 to"),
    "empty": (with_tails(lambda t: t[:0]), "expected 2 to"),
    "without end": (with_tails(lambda t: t[:-1]), "not that of a rounded Gaussian"),
    "cut": (with_tails(lambda t: np.r_[t[:100], np.zeros(1, np.uint64)]), "not that of a rounded Gaussian"),
    "longer than sigma allows": (
        with_tails(lambda t: np.r_[t[:-1], np.ones(9, np.uint64), np.zeros(1, np.uint64)]),
        "not that of a rounded Gaussian",
    ),
    "far too long": (with_tails(lambda t: np.zeros(2**20 + 1, np.uint64)), "expected 2 to"),
    "another sigma's": (lambda t: {"tails": rounded_gaussian_tails(2 * SIGMA)}, "not that of a rounded Gaussian"),
    "a narrower one's": (lambda t: {"tails": rounded_gaussian_tails(SIGMA * 0.999)}, "not that of a rounded Gaussian"),
    "another name": (lambda t: {"table": t["tails"]}, "expected the tensors tails uint64"),
}


@pytest.mark.parametrize("case", NOISES)
def test_a_table_that_is_not_the_declared_noise_is_refused(folder, case):
    change, message = NOISES[case]
    altered(folder, NOISE, change)
    refused(folder, message, NOISE)


@pytest.mark.parametrize("sigma", [1e-300, 1e-12, 0.0, -1.0, np.nan, np.inf, 1e300])
@pytest.mark.parametrize("tails", [[2**63, 0], [1, 0], [2**64 - 1, 0], [5, 4, 0]])
def test_no_table_stands_for_a_sigma_that_has_none(sigma, tails):
    with np.errstate(over="raise", invalid="raise", divide="raise"), pytest.raises(NoiseTableError):
        RoundedGaussian(sigma, np.array(tails, dtype=np.uint64))


@pytest.mark.parametrize("name", [CALIBRATION, GOLDEN, NOISE])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        b"hello, world",
        b"\xff" * 64,
        b"\x02\0\0\0\0\0\0\0{}",
        b"\x10\0\0\0\0\0\0\0[1,2,3,4,5,6,77]",
        (lambda h: len(h).to_bytes(8, "little") + h)(
            b'{"tails":{"dtype":"U64","shape":[9223372036854775807,4],"data_offsets":[0,8]}}'
        ),
        (lambda h: len(h).to_bytes(8, "little") + h + bytes(4))(
            b'{"scores":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
        ),
        (lambda h: len(h).to_bytes(8, "little") + h + bytes(2))(
            b'{"scores":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
        ),
    ],
)
def test_bytes_that_are_no_such_tensors_are_refused(folder, name, data):
    replaced(folder, name, data)
    refused(folder, "tensors", name)


def declared(change):
    def apply(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return apply


def text(change):
    def apply(folder):
        path = folder / "manifest.json"
        path.write_bytes(change(path.read_bytes()))

    return apply


MANIFESTS = {
    "a key twice": (text(lambda t: t.replace(b'"name"', b'"version": "1", "name"', 1)), "names a field twice"),
    "a key twice within": (text(lambda t: t.replace(b'"sigma"', b'"stream": "noise-v1", "sigma"', 1)), "twice"),
    "a file twice": (text(lambda t: t.replace(b'"base.onnx"', b'"base.onnx": "", "base.onnx"', 1)), "twice"),
    "NaN": (text(lambda t: t.replace(b'"low": 0.0', b'"low": NaN')), "NaN is not a JSON number"),
    "Infinity": (text(lambda t: t.replace(b'"high": 255.0', b'"high": Infinity')), "not a JSON number"),
    "minus Infinity": (text(lambda t: t.replace(b'"low": 0.0', b'"low": -Infinity')), "not a JSON number"),
    "a number beyond a double": (text(lambda t: t.replace(b'"high": 255.0', b'"high": 1e999')), "input.grid.high"),
    "a number below a double": (text(lambda t: t.replace(b'"low": 0.0', b'"low": -1e999')), "input.grid.low"),
    "a threshold beyond a double": (text(lambda t: t.replace(b"160.0", b"1e999")), "ood.threshold"),
    "a note that is infinite": (
        text(lambda t: t.replace(b'"notes": {', b'"notes": {"a": 1e999')),
        "provenance.notes.a",
    ),
    "a note of endless digits": (
        text(lambda t: t.replace(b'"notes": {', b'"notes": {"a": ' + b"9" * 400)),
        "provenance.notes.a",
    ),
    "too many digits": (text(lambda t: t.replace(b'"low": 0.0', b'"low": ' + b"9" * 5_000)), "not JSON"),
    "hundreds of digits": (text(lambda t: t.replace(b'"low": 0.0', b'"low": -' + b"9" * 400)), "input.grid.low"),
    "a hexadecimal number": (text(lambda t: t.replace(b'"low": 0.0', b'"low": 0x0')), "not JSON"),
    "a leading zero": (text(lambda t: t.replace(b'"low": 0.0', b'"low": 00.0')), "not JSON"),
    "a plus": (text(lambda t: t.replace(b'"high": 255.0', b'"high": +255.0')), "not JSON"),
    "a bare fraction": (text(lambda t: t.replace(b'"low": 0.0', b'"low": .0')), "not JSON"),
    "a comment": (text(lambda t: t.replace(b"{", b"{ // hello\n", 1)), "not JSON"),
    "a comma too many": (text(lambda t: t.rstrip().removesuffix(b"}") + b",}"), "not JSON"),
    "something behind": (text(lambda t: t + b"{}"), "not JSON"),
    "a byte order mark": (text(lambda t: b"\xef\xbb\xbf" + t), "not JSON.*BOM"),
    "UTF-16": (text(lambda t: t.decode().encode("utf-16")), "not JSON"),
    "UTF-32": (text(lambda t: t.decode().encode("utf-32-le")), "not JSON"),
    "Latin 1": (text(lambda t: t.replace(b"steps", "Gr\u00f6\u00dfe".encode("latin-1"))), "not JSON"),
    "a zero byte": (text(lambda t: t + b"\0"), "not JSON"),
    "nothing": (text(lambda t: b""), "not JSON"),
    "a list": (text(lambda t: b"[" + t + b"]"), "is a JSON array; expected the object"),
    "a string": (text(lambda t: b'"certserve-bundle/2"'), "is a JSON string"),
    "a number": (text(lambda t: b"1"), "is a JSON number"),
    "null": (text(lambda t: b"null"), "is a JSON null"),
    "depth without end": (text(lambda t: b"[" * 100_000), "nested too deeply"),
    "an object without end": (text(lambda t: b'{"format":' * 100_000), "nested too deeply"),
    "a deep format": (text(lambda t: b'{"format":' + b"[" * 400 + b"]" * 400 + b"}"), "format is"),
    "a deep value": (text(lambda t: t.replace(b'"low": 0.0', b'"low": ' + b"[" * 400 + b"]" * 400)), "input.grid.low"),
    "a huge format": (text(lambda t: b'{"format": "' + b"x" * 100_000 + b'"}'), "format is"),
    "too many bytes": (text(lambda t: t + b" " * 2**23), "bytes that are read"),
    "a format of another type": (declared(lambda m: m.update(format=1)), "format is 1"),
    "a key that breaks the line": (declared(lambda m: m.update({"a\nb\x1b[31m": 1})), "Extra inputs"),
    "a thousand strange keys": (declared(lambda m: m.update({f"k{i}": 1 for i in range(1_000)})), "and 995 more"),
    "a whole number for truth": (declared(lambda m: m["ood"].update(normalised=0)), "ood.normalised"),
    "truth for a number": (declared(lambda m: m["ood"].update(radius=True)), "ood.radius"),
    "truth for a whole number": (declared(lambda m: m.update(batch_rows=True)), "batch_rows"),
    "text for a number": (declared(lambda m: m["law"].update(sigma="16")), "law.sigma"),
    "a fraction for a whole number": (declared(lambda m: m["defaults"].update(max_draws=1e4)), "defaults.max_draws"),
    "a fraction for the score's draws": (declared(lambda m: m["ood"].update(score_draws=32.5)), "ood.score_draws"),
    "a list for text": (declared(lambda m: m.update(description=["a"])), "description"),
    "text for labels": (declared(lambda m: m.update(labels="ab")), "labels"),
    "null for a section": (declared(lambda m: m.update(input=None)), "input"),
    "an empty label": (declared(lambda m: m.update(labels=["", "b"])), "labels.0"),
    "a blank label": (declared(lambda m: m.update(labels=["a", "  "])), "labels.1"),
    "a label with a space around": (declared(lambda m: m.update(labels=["a", "a "])), "labels.1"),
    "a label too long": (declared(lambda m: m.update(labels=["a", "b" * 257])), "labels.1"),
    "a label with a line break": (declared(lambda m: m.update(labels=["a", "b\nc"])), "labels.1.*control"),
    "a label with an escape": (declared(lambda m: m.update(labels=["a", "b\x1b[31m"])), "labels.1.*control"),
    "a label with a zero": (declared(lambda m: m.update(labels=["a", "b\0"])), "labels.1.*control"),
    "a label with a line separator": (declared(lambda m: m.update(labels=["a", "b\u2028c"])), "labels.1.*control"),
    "half a character": (text(lambda t: t.replace(b'"below"', b'"\\ud800"')), "labels.0"),
    "a number for a label": (declared(lambda m: m.update(labels=["a", 1])), "labels.1"),
    "one label": (declared(lambda m: m.update(labels=["a"])), "labels"),
    "no labels": (declared(lambda m: m.update(labels=[])), "labels"),
    "a third label": (declared(lambda m: m["labels"].append("c")), r"base_probabilities has shape"),
    "units with a line break": (
        declared(lambda m: m["input"]["grid"].update(units="a\nb")),
        "input.grid.units.*control",
    ),
    "an endless description": (declared(lambda m: m.update(description="a" * 5_000)), "description"),
    "an empty shape": (declared(lambda m: m["input"].update(shape=[])), "input.shape"),
    "a side of 0": (declared(lambda m: m["input"].update(shape=[0])), "input.shape.0"),
    "a negative side": (declared(lambda m: m["input"].update(shape=[-4])), "input.shape.0"),
    "sides whose product overflows": (declared(lambda m: m["input"].update(shape=[2**29] * 4)), "does not fit into"),
    "a side beyond any memory": (declared(lambda m: m["input"].update(shape=[2**63])), "input.shape.0"),
    "a side of many digits": (declared(lambda m: m["input"].update(shape=[10**300])), "input.shape.0"),
    "a batch beyond memory": (
        declared(lambda m: (m["input"].update(shape=[2**18]), m.update(batch_rows=4_096))),
        "does not fit into 2 GiB",
    ),
    "another shape": (declared(lambda m: m["input"].update(shape=[5])), "base_input has shape"),
    "a batch of no whole slices": (declared(lambda m: m.update(batch_rows=33)), "batch_rows"),
    "a batch of none": (declared(lambda m: m.update(batch_rows=0)), "batch_rows"),
    "a negative step": (declared(lambda m: m["input"]["grid"].update(step=-1.0)), "input.grid.step"),
    "a step of nothing": (declared(lambda m: m["input"]["grid"].update(step=5e-324)), "whole number of steps"),
    "a grid beyond any double": (declared(lambda m: m["input"]["grid"].update(low=-1e308, high=1e308)), "whole number"),
    "a grid upside down": (declared(lambda m: m["input"]["grid"].update(low=255.0, high=0.0)), "whole number"),
    "a sigma of nothing": (
        declared(lambda m: m["law"].update(sigma=5e-324, sigma_steps=5e-324)),
        "law.sigma|radii",
    ),
    "a negative sigma": (declared(lambda m: m["law"].update(sigma=-16.0, sigma_steps=-16.0)), "law.sigma"),
    "a sigma beyond the table": (declared(lambda m: m["law"].update(sigma=1e6, sigma_steps=1e6)), "rounded Gaussian"),
    "a radius beyond proof": (declared(lambda m: m["ood"].update(radius=129.0)), "at most 128, eight sigma"),
    "a target beyond proof": (declared(lambda m: m["defaults"].update(target_radius=1e300)), "eight sigma"),
    "an endless deadline": (declared(lambda m: m["defaults"].update(deadline_ms=10**12)), "deadline_ms"),
    "a negative share": (declared(lambda m: m["claims"]["upper"].update(alpha=-0.1)), "claims.upper.alpha"),
    "draws beyond the guard": (declared(lambda m: m["defaults"].update(max_draws=10**9)), "defaults.max_draws"),
    "a digest in capitals": (declared(lambda m: m["files"].update({"base.onnx": "A" * 64})), "files.base.onnx|files"),
    "a digest too short": (declared(lambda m: m["files"].update({"base.onnx": "0" * 63})), "files"),
    "a file above": (declared(lambda m: m["files"].update({"..": "0" * 64})), "files"),
    "a file elsewhere": (declared(lambda m: m["files"].update({"/etc/hostname": "0" * 64})), "files"),
    "itself among its files": (declared(lambda m: m["files"].update({"manifest.json": "0" * 64})), "was altered"),
    "a list of files": (declared(lambda m: m.update(files=[])), "files"),
    "no files": (declared(lambda m: m.pop("files")), "does not name base.onnx"),
}
"""By what is declared: how, and what the refusal says. A few are found only against the tensors."""


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_declares_what_cannot_be_is_refused(folder, case):
    change, message = MANIFESTS[case]
    change(folder)
    with pytest.raises(BundleError, match=message) as caught:
        load(folder)
    said = str(caught.value)
    assert str(folder) in said
    assert said.isprintable()
    assert len(said) < 2_000


def test_labels_of_any_language_are_labels(folder):
    declared(lambda m: m.update(labels=["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "T-shirt/top \U0001f455"]))(
        folder
    )
    assert load(folder).manifest.labels[1] == "T-shirt/top \U0001f455"


def a_folder(path):
    path.mkdir()


def a_pipe(path):
    os.mkfifo(path)


def a_circle(path):
    path.symlink_to(path)


def a_dead_link(path):
    path.symlink_to("nothing")


def a_device(path):
    path.symlink_to("/dev/zero")


def a_link_out(path):
    outside = path.parent.parent / "outside"
    outside.write_bytes(b"elsewhere")
    path.symlink_to(outside)


@pytest.mark.parametrize("name", ["manifest.json", "base.onnx", NOISE, GOLDEN, CALIBRATION])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (a_folder, "not a regular file"),
        (a_pipe, "not a regular file"),
        (a_circle, "cannot be read"),
        (a_dead_link, "cannot be read"),
        (a_device, "outside the bundle"),
        (a_link_out, "outside the bundle"),
    ],
)
def test_what_is_no_file_of_the_bundle_is_neither_read_nor_followed(folder, name, make, message):
    (folder / name).unlink()
    make(folder / name)
    refused(folder, message, name)


def test_a_link_within_the_bundle_is_read(folder):
    data = (folder / "base.onnx").read_bytes()
    (folder / "base.onnx").unlink()
    (folder / "kept.onnx").write_bytes(data)
    (folder / "base.onnx").symlink_to("kept.onnx")
    assert load(folder).base == data


def test_what_is_no_folder_is_no_bundle(tmp_path):
    (tmp_path / "file").write_text("hello")
    for place in ("file", "nothing"):
        with pytest.raises(BundleError, match=f"{place}.*restore the bundle"):
            load(tmp_path / place)


def test_the_half_space_is_what_the_altered_copies_alter(folder):
    bundle = load(folder)
    assert bundle.golden.base_input.shape == (6, COORDINATES)
    assert bundle.detector.threshold == bundle.manifest.ood.threshold
