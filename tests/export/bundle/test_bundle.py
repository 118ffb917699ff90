from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from safetensors.numpy import save

from certify.ood.conformal import pac_threshold
from export.bundle import BundleError, load, load_repository, tensors, write
from tests.declared import spec
from tests.half_space import SIGMA, write_half_space


@pytest.fixture
def folder(tmp_path):
    write_half_space(tmp_path)
    return tmp_path / "half-space" / "1"


def test_what_was_written_is_loaded(folder):
    bundle = load(folder)
    assert bundle.manifest.labels == ("below", "above")
    assert bundle.digest == load(folder).digest
    assert bundle.law.sigma == SIGMA
    assert bundle.detector.calibration.size == 999
    assert [b.digest for b in load_repository(folder.parent.parent)] == [bundle.digest]


def test_a_reloaded_detector_is_bit_equal(tmp_path):
    """Scores, threshold and kind of score come back to the last bit (equine#61 loses a flag on save)."""
    written = write_half_space(tmp_path)
    again = load(tmp_path / "half-space" / "1")
    assert again.detector.calibration.tobytes() == written.detector.calibration.tobytes()
    assert again.detector.terms == written.detector.terms
    assert again.manifest.ood == written.manifest.ood
    scores = np.concatenate([[-1e308, -5e-324, 5e-324, 1e308], np.random.default_rng(0).standard_normal(95) / 3])
    threshold = pac_threshold(scores, 1 - again.manifest.ood.target_tpr, again.manifest.ood.eta)
    manifest = again.manifest.model_copy(update={"ood": again.manifest.ood.model_copy(update={"threshold": threshold})})
    files = {
        "base": again.base,
        "noisy": again.noisy,
        "noise": again.law.tensors,
        "golden": again.golden,
    }
    kept = write(tmp_path / "other", manifest, **files, calibration=scores).detector
    assert kept.calibration.tobytes() == np.sort(scores).tobytes()
    assert kept.threshold == threshold


def test_two_writings_are_one_bundle(folder, tmp_path):
    assert write_half_space(tmp_path / "again").digest == load(folder).digest


def test_a_different_description_is_another_bundle(folder, tmp_path):
    assert write_half_space(tmp_path / "again", description="other").digest != load(folder).digest


FILES = ["base.onnx", "noisy.onnx", "noise.safetensors", "golden.safetensors", "calibration.safetensors"]


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(BundleError, match=name):
        load(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["flipped", "cut", "longer"])
def test_a_tampered_file_is_named(folder, name, how):
    data = (folder / name).read_bytes()
    spoiled = {"flipped": data[:-1] + bytes([data[-1] ^ 1]), "cut": data[:-1], "longer": data + b"\0"}[how]
    (folder / name).write_bytes(spoiled)
    with pytest.raises(BundleError, match=rf"{name} was altered"):
        load(folder)


def edited(folder, edit):
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


MANIFESTS = [
    (lambda m: m.update(format="certserve-bundle/1"), "format is 'certserve-bundle/1'; this server reads"),
    (lambda m: m.update(surprise=1), "surprise: Extra inputs"),
    (lambda m: m["law"].update(sigma=17.0), "law.sigma must be law.sigma_steps"),
    (lambda m: m["claims"]["upper"].update(alpha=0.9), "shares of alpha"),
    (lambda m: m["claims"].update(other={"alpha": 0.0}), "claims.other"),
    (lambda m: m.update(labels=["a", "a"]), "labels must differ"),
    (lambda m: m.update(version="latest"), "version"),
    (lambda m: m.update(name="stats"), "cannot be named 'stats'"),
    (lambda m: m["files"].pop("noisy.onnx"), "does not name noisy.onnx"),
    (lambda m: m["files"].update({"../evil": "0" * 64}), "files"),
    (lambda m: m["input"]["grid"].update(high=254.5), "whole number of steps"),
    (lambda m: m["input"].update(kind={"kind": "image", "layout": "CHW", "mode": "L"}), "does not fit layout"),
    (lambda m: m["input"].update(kind={"kind": "tokens"}), "input.kind.*tokens"),
    (lambda m: m["input"].update(kind={"layout": "CHW", "mode": "L"}), "input.kind"),
    (lambda m: m["input"].update(kind={"kind": "image", "layout": "CHW"}), "input.kind.image.mode"),
    (lambda m: m["law"].update(name="laplace"), "law.name"),
    (lambda m: m["law"].pop("name"), "law.name"),
    (lambda m: m["decision"].update(rule="flag"), "decision.rule"),
    (lambda m: m["graphs"]["noisy"].update(heads=["score"]), "graphs.noisy.*a vote first"),
    (lambda m: m["graphs"]["noisy"].update(heads=["vote"]), "ood needs a score"),
    (lambda m: (m.pop("ood"), m["claims"].update(joint={"alpha": 0.0})), "claims.joint needs the threshold of a score"),
    (lambda m: m["claims"].update(joint={"alpha": 0.1}), "shares of alpha"),
    (lambda m: m["graphs"]["noisy"].update(precision="float8"), "graphs.noisy.precision"),
    (lambda m: m["graphs"]["base"].update(heads=["scores"]), "a mixture needs probabilities"),
    (lambda m: m["claims"].pop("class"), "claims.class"),
    (lambda m: m["provenance"].update(source={"name": "a", "digest": "0"}), "provenance.source.digest"),
    (lambda m: m["mixture"].update(robust_weight=0.4), "robust_weight"),
    (lambda m: m["defaults"].update(alpha="0.1"), "defaults.alpha"),
    (lambda m: m["defaults"].update(alpha=0.9), "defaults.alpha"),
    (lambda m: m.update(fixed_draws=[1_000, 0]), "fixed_draws.1"),
    (lambda m: m.update(fixed_draws=[1_000, 1_000]), "fixed_draws must differ"),
    (lambda m: m["law"].update(sigma=16.0 * (1 - 1e-12)), "law.sigma must be"),
    (lambda m: m["ood"].update(threshold=None), "ood.threshold"),
]


@pytest.mark.parametrize(("edit", "message"), MANIFESTS)
def test_a_manifest_that_is_not_understood_is_refused(folder, edit, message):
    with pytest.raises(BundleError, match=message):
        load(edited(folder, edit))


@pytest.mark.parametrize(("shape", "layout", "mode"), [((2, 4, 4), "CHW", "L"), ((4, 4, 1), "HWC", "BGR")])
def test_pictures_have_the_channels_of_their_mode(shape, layout, mode):
    with pytest.raises(ValueError, match=f"channels, and mode {mode} has"):
        spec(shape, layout, mode=mode)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_manifest_that_is_no_manifest_is_refused(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match="manifest.json"):
        load(folder)


def test_a_file_outside_the_bundle_is_not_followed(folder, tmp_path):
    (tmp_path / "secret").write_bytes((folder / "base.onnx").read_bytes())
    (folder / "base.onnx").unlink()
    (folder / "base.onnx").symlink_to(tmp_path / "secret")
    with pytest.raises(BundleError, match="outside the bundle"):
        load(folder)


def test_another_noise_table_is_refused_even_with_its_digest(folder):
    import hashlib

    data = save({"tails": np.array([2**62, 0], dtype=np.uint64)})
    (folder / "noise.safetensors").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    with pytest.raises(BundleError, match="not that of a rounded Gaussian"):
        load(edited(folder, lambda m: m["files"].update({"noise.safetensors": digest})))


def test_an_empty_repository_and_a_misplaced_bundle_are_refused(folder, tmp_path):
    with pytest.raises(BundleError, match="holds no bundle"):
        load_repository(tmp_path / "nothing")
    folder.rename(folder.with_name("2"))
    with pytest.raises(BundleError, match="rename the folder"):
        load_repository(tmp_path)


def test_reading_a_bundle_needs_neither_torch_nor_onnx(folder):
    code = (
        "import sys, pathlib, export.bundle; export.bundle.load(pathlib.Path(sys.argv[1]));"
        "print([m for m in ('torch', 'onnx', 'onnxscript', 'mpmath', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("steps", "step"), [(16.0, 1.0), (3.0, 0.1), (63.75, 1 / 255), (7.0, 1 / 3), (1e-3, 1e3)])
@pytest.mark.parametrize("places", [-2, -1, 0, 1, 2, 3])
def test_sigma_is_never_above_the_exact_product_whatever_was_declared(folder, steps, step, places):
    """Declared some last places off the product, within what a manifest may; no radius may grow by it."""
    bundle, declared = load(folder), steps * step
    for _ in range(abs(places)):
        declared = math.nextafter(declared, math.copysign(math.inf, places))
    manifest = bundle.manifest.model_copy(
        update={
            "law": bundle.manifest.law.model_copy(update={"sigma": declared, "sigma_steps": steps}),
            "input": spec((4,), step=step, high=4 * step),
        }
    )
    sigma = manifest.formulas.sigma
    exact = Fraction(steps) * Fraction(step)
    assert exact * (1 - Fraction(2) ** -50) <= Fraction(sigma) <= exact


def test_a_bundle_whose_declared_sigma_is_too_large_is_served_with_the_exact_one(folder, tmp_path):
    bundle = load(folder)
    law = bundle.manifest.law.model_copy(update={"sigma": math.nextafter(SIGMA, math.inf)})
    files = {
        "base": bundle.base,
        "noisy": bundle.noisy,
        "noise": bundle.law.tensors,
        "golden": bundle.golden,
    }
    manifest = bundle.manifest.model_copy(update={"law": law})
    written = write(tmp_path / "more", manifest, **files, calibration=bundle.detector.calibration)
    assert (written.manifest.law.sigma > SIGMA, written.law.sigma <= SIGMA) == (True, True)


@pytest.mark.parametrize(("largest", "kind"), [(255, np.uint8), (256, np.int16), (-1, np.int16), (40_000, np.int32)])
def test_golden_inputs_are_stored_in_few_bytes_and_come_back_as_they_were(folder, tmp_path, largest, kind):
    golden = load(folder).golden
    inputs = golden.noisy_input.copy()
    inputs[-1, 0] = largest
    stored = tensors.stored(replace(golden, noisy_input=inputs))
    assert stored["noisy_input"].dtype == kind
    assert np.array_equal(stored["noisy_input"], inputs)
    assert load(folder).golden.base_input.dtype == np.int32
