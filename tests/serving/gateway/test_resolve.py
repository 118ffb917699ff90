from __future__ import annotations

import hashlib
import hmac
import struct

import numpy as np
import pytest

from certify.claims.procedures import Off, Precision
from serving.config import Limits
from serving.errors import InvalidInput
from serving.gateway.resolve import resolve
from serving.messages import PARTS, InputNote, Model, Options, PredictRequest
from serving.security.secret import key_id
from tests.declared import spec
from tests.half_space import write_half_space

ROW = np.array([[10, 20, 30, 40]])
SECRET = b"s" * 32


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    bundle = write_half_space(tmp_path_factory.mktemp("models"))
    return Model(manifest=bundle.manifest, digest=bundle.digest)


def task(model, inputs=ROW, plain=False, limits=Limits(), secret=SECRET, **options):
    request = PredictRequest(
        model="half-space", version=None, inputs=np.asarray(inputs), options=Options(**options), plain=plain
    )
    return resolve(request, model, limits, secret)


def test_defaults_are_the_bundle_s(model):
    found, notes = task(model)
    assert (found.procedure.name, found.procedure.ball.size) == ("target", 8.0)
    assert (found.max_draws, found.alpha) == (10_000, 0.001)
    assert (found.timeout_s, found.parts, notes) == (10.0, frozenset(PARTS), [None])
    assert [row.dtype for row in found.rows] == [np.int32]


def test_the_open_protocol_is_off_unless_it_says_otherwise(model):
    assert task(model, plain=True)[0].procedure.name == "off"
    assert task(model, plain=True, certify="best")[0].procedure.name == "best"


def test_without_certificate_and_mixture_there_is_nothing_to_certify(model):
    assert task(model, outputs=("ood", "probabilities"))[0].procedure.name == "off"
    assert task(model, outputs=("mixture",))[0].procedure.name == "target"


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.01},
        {"target_radius": 3.0},
        {"deadline_ms": 5},
        {"certify": "best", "max_draws": 64},
        {"certify": "precision", "radius_tolerance": 2.0},
        {"certify": "off"},
    ],
)
def test_no_option_moves_the_key(model, options):
    assert task(model, **options)[0].keys == task(model)[0].keys


def test_a_fixed_number_of_draws_has_its_own_stream(model):
    keys = {task(model, certify="fixed", draws=n)[0].keys for n in (1_000, 10_000)} | {task(model)[0].keys}
    assert len(keys) == 3


def test_the_score_of_a_fixed_number_is_of_the_stream_of_every_other_mode(model):
    for draws in (1_000, 10_000, 100_000):
        assert task(model, certify="fixed", draws=draws)[0].score_keys == task(model)[0].keys
    assert task(model, certify="fixed", outputs=("certificate",))[0].score_keys == ()
    for options in ({}, {"certify": "best"}, {"certify": "off"}, {"certify": "precision", "radius_tolerance": 2.0}):
        assert task(model, **options)[0].score_keys == ()


def test_without_a_score_there_is_no_stream_for_it(tmp_path):
    alone = write_half_space(tmp_path, "class-alone", class_alone=True)
    found = task(Model(manifest=alone.manifest, digest=alone.digest), certify="fixed")[0]
    assert (found.procedure.name, found.score_keys) == ("fixed", ())


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.int64, np.float32, np.float64])
def test_one_tensor_has_one_key_whatever_carries_it(model, dtype):
    assert task(model, ROW.astype(dtype))[0].keys == task(model)[0].keys


def test_another_secret_pixel_or_bundle_gives_another_key(model):
    other = Model(manifest=model.manifest, digest="sha256:" + "0" * 64)
    keys = {
        task(model)[0].keys,
        task(model, ROW + 1)[0].keys,
        task(model, secret=b"t" * 32)[0].keys,
        task(other)[0].keys,
    }
    assert len(keys) == 4


def test_off_grid_values_are_refused_or_moved_and_said_so(model):
    with pytest.raises(InvalidInput, match=r"row 0: .*grid.*snap"):
        task(model, ROW + 0.25)
    found, notes = task(model, ROW + 0.25, snap=True)
    assert np.array_equal(found.rows, ROW)
    assert notes == [InputNote(snapped=True, snap_distance=0.5)]
    assert task(model, ROW + 0.0)[1] == task(model, ROW)[1] == [None]


@pytest.mark.parametrize("off", [1e-9, 5e-4, -5e-4, 0.99e-3])
@pytest.mark.parametrize("snap", [False, True])
def test_the_answer_says_how_far_values_near_the_grid_were_moved(model, off, snap):
    """In every case, for each row by itself: a radius is about where the input was moved to."""
    rows = np.concatenate([ROW + off, ROW, ROW + np.array([off, 0, 0, 0])])
    found, notes = task(model, rows, snap=snap)
    assert np.array_equal(found.rows, np.repeat(ROW, 3, axis=0))
    assert [note and note.snapped for note in notes] == [False, None, False]
    assert notes[0].snap_distance == pytest.approx(2 * abs(off), rel=1e-4)
    assert notes[2].snap_distance == pytest.approx(abs(off), rel=1e-4)


def test_a_distance_is_in_the_callers_units(model):
    given = spec((4,), low=-1.0, step=2 / 255, high=1.0)
    scaled = Model(manifest=model.manifest.model_copy(update={"input": given}), digest=model.digest)
    values = -1.0 + (ROW + 0.25) * (2 / 255)
    _, notes = task(scaled, values, snap=True)
    assert notes[0] == InputNote(snapped=True, snap_distance=pytest.approx(0.5 * 2 / 255))
    _, notes = task(scaled, -1.0 + (ROW + 4e-4) * (2 / 255))
    assert notes[0] == InputNote(snapped=False, snap_distance=pytest.approx(8e-4 * 2 / 255))


def test_a_tolerance_reaches_the_task_where_something_is_certified(model):
    found = task(model, certify="precision", radius_tolerance=2.0, max_draws=640)[0]
    assert (found.procedure, found.max_draws) == (Precision(2.0), 640)
    unasked = task(model, certify="precision", radius_tolerance=2.0, outputs=("ood",))[0]
    assert unasked.procedure == Off()


def test_precision_needs_a_share_for_the_upper_bound(tmp_path):
    alone = write_half_space(tmp_path, "class-alone", class_alone=True)
    with pytest.raises(InvalidInput, match="no share of alpha.*certify=best"):
        task(Model(manifest=alone.manifest, digest=alone.digest), certify="precision", radius_tolerance=2.0)


def test_a_step_far_below_the_grid_s_may_move_the_snapped_point_by_the_whole_cell(model):
    """The certificate is about the snapped point, and the answer says how far that lies off.

    No radius around the point that was sent is offered: it would have to bear this.
    """
    here, there = (task(model, ROW + 0.5 + change, snap=True) for change in (-1e-9, 1e-9))
    moved = np.linalg.norm((there[0].rows[0] - here[0].rows[0]).astype(float))
    assert moved == np.sqrt(ROW.size)
    for _, notes in (here, there):
        assert notes[0].snap_distance == pytest.approx(0.5 * np.sqrt(ROW.size), rel=1e-6)


REFUSED = [
    ({"target_radius": -1.0}, "target_radius: expected 0 to 128, got -1: a radius is a distance, 0 or more"),
    ({"target_radius": float("nan")}, "target_radius: expected"),
    ({"target_radius": 1e9}, "target_radius: expected"),
    ({"certify": "maybe"}, "certify: expected one of off, target, best, precision, fixed"),
    ({"certify": "best", "target_radius": 1.0}, "only certify=target"),
    ({"certify": "precision"}, "radius_tolerance: certify=precision needs it"),
    ({"certify": "precision", "outputs": ("ood",)}, "radius_tolerance: certify=precision needs it"),
    ({"certify": "precision", "radius_tolerance": 0.0}, "radius_tolerance: expected a number above 0"),
    ({"certify": "precision", "radius_tolerance": -1.0}, "radius_tolerance: expected a number above 0"),
    ({"certify": "precision", "radius_tolerance": float("nan")}, "radius_tolerance: expected a number above 0"),
    ({"certify": "precision", "radius_tolerance": float("inf")}, "radius_tolerance: expected a number above 0"),
    ({"radius_tolerance": 1.0}, "radius_tolerance: only certify=precision"),
    ({"certify": "precision", "radius_tolerance": 1.0, "target_radius": 1.0}, "only certify=target"),
    ({"certify": "precision", "radius_tolerance": 1.0, "draws": 1_000}, "only certify=fixed"),
    ({"draws": 1_000}, "only certify=fixed"),
    ({"certify": "fixed", "draws": 999}, "draws: expected one of 1000, 10000, 100000"),
    ({"certify": "fixed", "max_draws": 999}, "max_draws: certify=target, best and precision"),
    ({"max_draws": 0}, "max_draws: expected 1 to 100000"),
    ({"max_draws": 100_001}, "max_draws: expected 1 to 100000"),
    ({"alpha": 0.0}, "alpha: expected"),
    ({"alpha": 0.9}, "alpha: expected"),
    ({"alpha": float("nan")}, "alpha: expected"),
    ({"deadline_ms": 0}, "deadline_ms: expected 1 to 60000"),
    ({"norm": "linf"}, "norm: expected 'l2'"),
    ({"outputs": ("everything",)}, "outputs: expected some of"),
    ({"receipt": True, "outputs": ("probabilities",)}, "receipt: nothing is drawn"),
    ({"receipt": True, "outputs": ("probabilities", "mixture"), "certify": "off"}, "receipt: nothing is drawn"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_is_not_declared_cannot_be_asked_for(model, options, message):
    with pytest.raises(InvalidInput, match=message):
        task(model, **options)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((1, 5), int), r"expected shape \[n, 4\], got \[1, 5\]"),
        (np.zeros(4, int), r"expected shape \[n, 4\], got \[4\]"),
        (np.zeros((0, 4), int), "expected 1 to 1024 rows, got 0"),
        (np.zeros((1_025, 4), int), "expected 1 to 1024 rows, got 1025"),
        (np.array([[0, 1, 2, 3], [0, 1, 2, 256]]), "row 1: .*0 to 255"),
        (np.array([[0, -1, 2, 3]]), "row 0: .*0 to 255"),
        (np.array([[0, 1, 2, np.nan]]), "row 0: .*finite"),
        (np.array([[0, 1, 2, 255.5]]), "row 0: .*0.0 to 255.0"),
    ],
)
def test_inputs_out_of_form_are_refused_and_the_row_is_named(model, inputs, message):
    with pytest.raises(InvalidInput, match=message):
        task(model, inputs)


def test_the_server_s_limits_cap_the_defaults(model):
    limits = Limits(max_draws=2_000, max_deadline_ms=50)
    found, _ = task(model, limits=limits)
    assert (found.max_draws, found.timeout_s) == (2_000, 0.05)
    assert task(model, limits=limits, deadline_ms=100)[0].timeout_s == 0.05
    with pytest.raises(InvalidInput, match="draws: expected one of 1000, the"):
        task(model, limits=limits, certify="fixed", draws=10_000)


def test_the_keys_are_those_of_a_hand_that_knows_the_secret(model):
    """Pinned, and made again from HMAC-SHA256 alone: of the secret itself, not of the name that is public."""
    digest = bytes.fromhex("ab" * 32)
    other = Model(manifest=model.manifest, digest="sha256:" + digest.hex())
    lattice = hashlib.sha256(struct.pack("<2q", 1, 4) + struct.pack("<4i", 10, 20, 30, 40)).digest()
    for options, more, pinned in (
        ({}, b"", "b5569ba40ed92f22b31aa794be77247f"),
        (
            {"certify": "fixed", "draws": 10_000},
            b"fixed" + struct.pack("<Q", 10_000),
            "fd40ae4dcb538b7dd76fa6ddac96b1fb",
        ),
    ):
        by_hand = hmac.new(SECRET, b"noise-v1\0" + digest + lattice + more, hashlib.sha256).hexdigest()[:32]
        assert (task(other, **options)[0].keys[0].hex(), by_hand) == (pinned, pinned)
    assert task(other, certify="fixed")[0].score_keys[0].hex() == "b5569ba40ed92f22b31aa794be77247f"
    named = task(other, receipt=True)[0]
    assert (named.key_id, named.keys[0].hex()) == (key_id(SECRET), "b5569ba40ed92f22b31aa794be77247f")


@pytest.mark.parametrize("alpha", [1e-12, 1e-6, 0.00099, 0.001, 0.00101, 0.5])
@pytest.mark.parametrize("mode", ["target", "best", "fixed", "off"])
def test_the_alpha_that_was_asked_for_is_the_alpha(model, alpha, mode):
    """Neither raised nor lowered to the bundle's default of 0.001."""
    assert task(model, alpha=alpha, certify=mode)[0].alpha == alpha
