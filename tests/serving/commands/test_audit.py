"""Receipts of the real engine, judged offline and drawn again: every mode, cut, lost, with OOD verdicts, by the command."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest

from certify.claims.certificate import AlphaSplit
from certify.receipts.receipt import ReceiptError
from serving.commands.audit import replayed, verified
from serving.commands.cli import main
from serving.config import Limits
from serving.engine.engine import Engine, Served
from serving.engine.record import undeclared
from serving.engine.scheduler import Scheduler
from serving.errors import NotOffered
from serving.gateway.gateway import Gateway
from serving.models.catalogue import Catalogue
from serving.runtimes.onnx_runtime import OnnxRuntime
from serving.security.secret import key_id
from serving.security.signing import Signer, parse
from tests.certify.made_receipts import altered
from tests.declared import spec
from tests.half_space import write_half_space
from tests.serving.engine.test_engine import SECRET, Wrapped, ask
from tests.serving.wrapped import held_in_draws

SIGNER = Signer(b"k" * 32)
ROW = [150, 1, 2, 3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    write_half_space(models)
    return models / "half-space" / "1"


@pytest.fixture(scope="module")
def bundle(folder):
    return write_half_space(folder.parent.parent)


@pytest.fixture
def served(bundle):
    runtime = Wrapped(bundle)
    engine = Engine(
        [Served(bundle, runtime)], Scheduler(), 1, max_pending_draws=200_000, signer=SIGNER, clock=runtime.clock
    )
    gateway = Gateway(Catalogue([bundle]), engine, SECRET, Limits())
    yield gateway, engine, runtime
    runtime.go.set()
    engine.close()


async def receipt_of(gateway, row=None, **options):
    answer = (await ask(gateway, row or ROW, receipt=True, **options)).predictions[0]
    assert all(each.agrees for each in verified(answer.receipt.encode(), SIGNER.public))
    return answer, parse(answer.receipt).receipt


def differing(receipt, bundle, row=ROW):
    runtime = OnnxRuntime(bundle)
    return [each.field for each in replayed(receipt, bundle, np.array(row, np.int32), runtime) if not each.agrees]


ASKED = {
    "target": ({}, ROW, "certified"),
    "refuted": ({"target_radius": 100.0}, ROW, "refuted"),
    "undecided": ({"max_draws": 64, "target_radius": 20.0}, ROW, "undecided"),
    "at zero": ({"target_radius": 0.0}, [128, 1, 2, 3], None),
    "best": ({"certify": "best", "max_draws": 1000}, ROW, "certified"),
    "best of few": ({"certify": "best", "max_draws": 7}, ROW, None),
    "precision": ({"certify": "precision", "radius_tolerance": 8.0}, ROW, "certified"),
    "too precise": ({"certify": "precision", "radius_tolerance": 0.1, "max_draws": 640}, ROW, "undecided"),
    "fixed": ({"certify": "fixed", "draws": 1000}, ROW, "certified"),
    "off": ({"certify": "off"}, ROW, None),
    "outside": ({"certify": "best", "max_draws": 640}, [250, 1, 2, 3], "certified"),
    "mixture alone": ({"outputs": ("mixture",)}, ROW, None),
    "certificate alone": ({"outputs": ("certificate",), "alpha": 0.05}, ROW, "certified"),
}


@pytest.mark.parametrize(("options", "row", "status"), ASKED.values(), ids=ASKED)
async def test_every_answer_is_rechecked_and_drawn_again(served, bundle, options, row, status):
    answer, receipt = await receipt_of(served[0], row, **options)
    assert status is None or answer.certificate.status == status
    assert (receipt.draws, receipt.noise.key_id, receipt.model.runtime) == (answer.draws, key_id(SECRET), "wrapped")
    assert differing(receipt, bundle, row) == []
    claim = receipt.claims
    assert (claim.certificate is None, claim.ood is None) == (answer.certificate is None, answer.ood is None)
    if answer.certificate:
        assert claim.certificate.radius == answer.certificate.radius
    if answer.ood and answer.ood.certified:
        assert claim.ood.verdict == answer.ood.certified.verdict


@pytest.mark.parametrize("mode", ["best", "fixed", "target"])
async def test_a_cut_answer_is_rechecked_and_drawn_again(served, bundle, mode):
    gateway, engine, runtime = served
    runtime.takes = 1 / 32
    asked = {"best": {"max_draws": 100_000}, "fixed": {"draws": 100_000}, "target": {"max_draws": 100_000}}[mode]
    if mode == "target":
        asked["target_radius"] = 0.5
    runtime.hold()
    asking = asyncio.ensure_future(receipt_of(gateway, [128, 1, 1, 1], certify=mode, deadline_ms=500, **asked))
    await held_in_draws(engine, runtime)
    runtime.go.set()
    answer, receipt = await asking
    assert (receipt.procedure.stop_reason, receipt.draws < 100_000) == ("cut", True)
    assert mode != "fixed" or (answer.certificate.radius, answer.certificate.status) == (0.0, "undecided")
    assert differing(receipt, bundle, [128, 1, 1, 1]) == []


async def test_what_overload_granted_is_in_the_receipt(bundle):
    runtime = Wrapped(bundle)
    engine = Engine([Served(bundle, runtime)], Scheduler(), 1, max_pending_draws=4_000, signer=SIGNER)
    gateway = Gateway(Catalogue([bundle]), engine, SECRET, Limits())
    runtime.hold()
    first = asyncio.ensure_future(ask(gateway, [128, 1, 1, 1], certify="best", max_draws=3_000))
    await held_in_draws(engine, runtime)
    second = asyncio.ensure_future(receipt_of(gateway, certify="best", max_draws=3_000))
    await held_in_draws(engine, runtime, requests=2)
    runtime.go.set()
    await first
    answer, receipt = await second
    engine.close()
    assert (answer.granted_draws, answer.draws, answer.certificate.status) == (1_856, 1_856, "certified")
    assert (receipt.procedure.max_draws, receipt.procedure.stop_reason) == (1_856, "max_draws")
    assert differing(receipt, bundle) == []


async def test_lost_draws_are_in_the_receipt_and_may_have_a_result_now(served, bundle):
    gateway, _, runtime = served
    runtime.fail_noisy = 2
    _, receipt = await receipt_of(gateway, certify="best", max_draws=640)
    assert (receipt.lost, receipt.claims.ood) == (128, None)
    assert differing(receipt, bundle) == []


async def test_scores_that_are_no_numbers_are_the_largest(served):
    gateway, _, runtime = served
    runtime.spoil = lambda votes, scores: (votes, scores * np.float32(np.nan))
    _, receipt = await receipt_of(gateway)
    assert (receipt.scores.score, receipt.claims.ood.verdict) == (np.inf, "out_of_distribution")


async def test_what_the_graph_did_not_give_is_found(served, bundle):
    gateway, _, runtime = served
    runtime.spoil = lambda votes, scores: (1 - votes, scores)
    _, receipt = await receipt_of(gateway)
    assert differing(receipt, bundle) == ["votes"]


async def test_a_receipt_comes_only_where_it_was_asked_for(served):
    assert (await ask(served[0], ROW)).predictions[0].receipt is None


async def test_without_a_signing_key_a_receipt_is_refused(bundle):
    engine = Engine([Served(bundle, OnnxRuntime(bundle))], Scheduler(), 1, 10**6)
    gateway = Gateway(Catalogue([bundle]), engine, SECRET, Limits())
    with pytest.raises(NotOffered, match="signing_key_file"):
        await ask(gateway, ROW, receipt=True)
    engine.close()


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("model.digest", "sha256:" + "0" * 64, "model.digest"),
        ("model.version", "2", "model"),
        ("input.step", 0.5, "input"),
        ("input.units", "pixels", "input"),
        ("noise.sigma", 17.0, "noise.sigma"),
        ("split.of_class", 0.3, "split"),
        ("robust_weight", 1.0, "robust_weight"),
        ("scores.radius", 4.0, "scores"),
        ("scores.calibration_size", 10_000, "scores"),
    ],
)
async def test_terms_that_the_bundle_does_not_declare_are_found(served, bundle, path, value, field):
    _, receipt = await receipt_of(served[0])
    assert undeclared(bundle, receipt) == []
    assert differing(altered(receipt, path, value), bundle) == [field]


async def test_fixed_draws_are_of_the_menu(served, bundle):
    _, receipt = await receipt_of(served[0], certify="fixed")
    assert undeclared(bundle, receipt) == []
    assert undeclared(bundle, altered(receipt, "procedure.max_draws", 1001)) == ["procedure.max_draws"]


async def test_the_whole_menu_shares_alpha_and_the_bundle_says_how_long_it_is(served, bundle):
    answer, receipt = await receipt_of(served[0], certify="fixed")
    assert (receipt.procedure.menu_size, receipt.split.of_class) == (3, 1 / 3)
    assert (answer.alpha, answer.alpha_split) == (0.001, AlphaSplit(of_class=1 / 3, of_upper=0.0))
    shorter = replace(
        receipt,
        procedure=replace(receipt.procedure, menu_size=2),
        split=replace(receipt.split, of_class=0.5),
    )
    assert undeclared(bundle, shorter) == ["procedure.menu_size"]


async def test_the_score_of_fixed_draws_is_that_of_every_other_mode(served, bundle):
    """Whatever is asked about an input, its score and p-value are of one stream, and so are not to be chosen."""
    gateway = served[0]
    modes = [{"certify": "fixed", "draws": n} for n in (1_000, 10_000, 100_000)]
    modes += [{}, {"certify": "best"}, {"certify": "off"}, {"certify": "precision", "radius_tolerance": 8.0}]
    found = [(await receipt_of(gateway, [158, 1, 2, 3], **options)) for options in modes]
    assert len({(answer.ood.score, answer.ood.p_value, answer.ood.in_distribution) for answer, _ in found}) == 1
    assert {receipt.scores.drawn.key for _, receipt in found} == {found[-1][1].noise.key}
    assert len({receipt.noise.key for _, receipt in found}) == 4
    for answer, receipt in found[:3]:
        assert (answer.draws, answer.lost_draws, receipt.scores.drawn.stop) == (receipt.procedure.max_draws, 0, 32)
        assert answer.ood.certified is None


@pytest.mark.parametrize(("fails", "scored", "votes"), [(1, 0, 0), (2, 32, 96), (4, 32, 224)])
async def test_lost_draws_of_either_stream_count_where_they_are(served, bundle, fails, scored, votes):
    """Batches hold 128 rows: the first the 32 draws of the score and 96 of the votes, each tried twice."""
    gateway, _, runtime = served
    runtime.fail_noisy = fails
    answer, receipt = await receipt_of(gateway, certify="fixed")
    assert (receipt.scores.drawn.lost, receipt.lost, answer.lost_draws) == (scored, votes, votes)
    assert (answer.ood is None, answer.draws) == (scored > 0, 1_000)
    assert differing(receipt, bundle) == []


async def test_fixed_draws_without_the_score_draw_nothing_for_it(served):
    answer, receipt = await receipt_of(served[0], certify="fixed", outputs=("certificate",))
    assert (answer.ood, receipt.scores, answer.draws) == (None, None, 1_000)
    assert sum(map(len, served[2].batches)) == 1_000


@pytest.fixture
async def files(served, tmp_path):
    answer, receipt = await receipt_of(served[0])
    for name, text in (
        ("receipt.json", answer.receipt),
        ("key", SIGNER.public.hex() + "\n"),
        ("row.json", json.dumps(ROW)),
        ("other.json", json.dumps([151, 1, 2, 3])),
        ("spoiled.json", answer.receipt.replace(f'"stop":{receipt.draws}', f'"stop":{receipt.draws - 1}')),
    ):
        (tmp_path / name).write_text(text)
    return tmp_path


def test_verify_prints_a_numbered_list(files, capsys):
    for key in (SIGNER.public.hex(), str(files / "key")):
        assert main(["verify", str(files / "receipt.json"), "--key", key]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(" 1. holds: schema certserve-receipt/4")
        assert lines[1].startswith(" 2. holds: signature")
        assert any("claims.certificate.radius" in line for line in lines)


@pytest.mark.parametrize(
    ("receipt", "key", "message"),
    [
        ("spoiled.json", SIGNER.public.hex(), "votes: expected counts|scores: expected counts"),
        ("receipt.json", "ab" * 32, "signature.key_id"),
        ("receipt.json", "abc", "--key: expected 64"),
        ("receipt.json", "no such file", "No such file"),
        ("row.json", SIGNER.public.hex(), "expected an object of receipt and signature"),
    ],
)
def test_verify_fails_with_the_field(files, capsys, receipt, key, message):
    import re

    assert main(["verify", str(files / receipt), "--key", key]) == 1
    assert re.search(message, capsys.readouterr().err)


def test_verify_fails_on_a_signed_claim_that_is_not_proven(files, capsys):
    lie = altered(parse((files / "receipt.json").read_text()).receipt, "claims.certificate.radius", 100.0)
    (files / "lie.json").write_text(SIGNER.sign(lie).to_text())
    assert main(["verify", str(files / "lie.json"), "--key", SIGNER.public.hex()]) == 1
    captured = capsys.readouterr()
    assert "DIFFERS: claims.certificate.radius 100.0 (here: " in captured.out
    assert captured.err == "certserve: the receipt does not hold: claims.certificate.radius\n"


def test_replay_draws_again(files, folder, capsys):
    arguments = ["replay", str(files / "receipt.json"), "--bundle", str(folder)]
    assert main([*arguments, "--picture", str(files / "row.json")]) == 0
    assert "gave these counts again" in capsys.readouterr().out
    assert main([*arguments, "--picture", str(files / "other.json")]) == 1
    assert capsys.readouterr().err.endswith("does not hold: input.digest\n")


@pytest.mark.parametrize("data", ["[1, 2, 3]", "[0.5, 1, 2, 3]", "[256, 0, 0, 0]", "[[1", '["a", 1, 2, 3]'])
def test_an_input_that_is_none_of_the_grid_is_refused(files, folder, capsys, data):
    (files / "bad.json").write_text(data)
    arguments = ["replay", str(files / "receipt.json"), "--bundle", str(folder), "--picture", str(files / "bad.json")]
    assert main(arguments) == 1
    assert "--picture: " in capsys.readouterr().err


async def test_what_cannot_be_read_is_raised_before_the_signature_is_looked_at():
    with pytest.raises(ReceiptError):
        list(verified(b"{}", SIGNER.public))


async def test_a_receipt_of_columns_with_steps_of_their_own_is_of_distances_in_their_scales(bundle):
    """The half-space on other columns: the same integers and draws, so the same counts, in another norm."""
    steps = (1.0, 2.0, 0.5, 10.0)
    grid = spec((4,), step=steps, high=tuple(255 * each for each in steps), step_length=1.0, name="features")
    manifest = bundle.manifest.model_copy(update={"input": grid})
    scaled = replace(bundle, manifest=manifest, law=manifest.law.drawn(bundle.law.tensors, grid.grid))
    runtime = Wrapped(scaled)
    engine = Engine(
        [Served(scaled, runtime)], Scheduler(), 1, max_pending_draws=200_000, signer=SIGNER, clock=runtime.clock
    )
    try:
        answer, receipt = await receipt_of(Gateway(Catalogue([scaled]), engine, SECRET, Limits()))
    finally:
        engine.close()
    assert dict(answer.certificate.law.parameters) == {"sigma": 16.0, "norm": "scaled_l2"}
    assert (receipt.noise.norm, receipt.input.low, receipt.input.step, receipt.input.high) == (
        "scaled_l2",
        0.0,
        1.0,
        255.0,
    )
    assert differing(receipt, scaled) == []
    assert set(differing(receipt, bundle)) >= {"noise.norm"}
