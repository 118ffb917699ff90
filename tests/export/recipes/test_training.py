from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from export.data.idx import read_split
from export.recipes import augment, training
from export.recipes.networks import SmallNet
from export.recipes.training import TrainingError, TrainingPlan, train
from export.robust.objective import consistency

DATA = Path(__file__).parents[2] / "data"
PLAN = TrainingPlan(
    name="tiny", seed=5, epochs=3, sigma_steps=20.0, consistency=1.0, entropy=0.5, batch=32, shift=1, erase=True
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pictures():
    data = read_split(DATA, "fashion_mnist_test_1000")[slice(0, 96)]
    return torch.from_numpy(data.images[:, None].copy()), torch.from_numpy(data.labels)


def fresh():
    torch.manual_seed(1)
    return SmallNet(10)


def state(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


class Stopped(Exception):
    pass


def test_a_stopped_run_ends_as_an_uninterrupted_one(pictures, tmp_path, monkeypatch):
    whole = state(train(PLAN, fresh(), *pictures, tmp_path / "whole"))
    right, seen = training._epoch, []

    def stopping(plan, epoch, *rest):
        if epoch == 2 and not seen:
            seen.append(epoch)
            raise Stopped
        right(plan, epoch, *rest)

    monkeypatch.setattr(training, "_epoch", stopping)
    with pytest.raises(Stopped):
        train(PLAN, fresh(), *pictures, tmp_path / "cut")
    torch.manual_seed(77)  # nothing may hang on the state the process is in
    assert equal(whole, state(train(PLAN, SmallNet(10), *pictures, tmp_path / "cut")))
    monkeypatch.setattr(training, "_epoch", None)  # a finished run trains no more
    assert equal(whole, state(train(PLAN, SmallNet(10), *pictures, tmp_path / "cut")))


def test_another_seed_is_another_network(pictures, tmp_path):
    plan = dataclasses.replace(PLAN, epochs=1)
    one = state(train(plan, fresh(), *pictures, tmp_path / "1"))
    other = state(train(dataclasses.replace(plan, seed=6), fresh(), *pictures, tmp_path / "2"))
    assert not equal(one, other)


def test_a_checkpoint_of_other_settings_is_refused(pictures, tmp_path):
    plan = dataclasses.replace(PLAN, epochs=1)
    train(plan, fresh(), *pictures, tmp_path)
    with pytest.raises(ValueError, match=r"tiny\.pt was begun with other settings.*another work folder"):
        train(dataclasses.replace(plan, sigma_steps=30.0), fresh(), *pictures, tmp_path)


@pytest.mark.parametrize("what", ["empty", "binary", "cut short", "of another network", "of other things", "a folder"])
def test_what_is_no_whole_checkpoint_is_refused_by_name(what, pictures, tmp_path):
    train(dataclasses.replace(PLAN, epochs=1), fresh(), *pictures, tmp_path)
    file = tmp_path / "tiny.pt"
    whole, saved = file.read_bytes(), torch.load(file)
    file.unlink()
    if what == "of another network":
        torch.save(saved | {"network": {"weight": torch.zeros(1)}}, file)
    elif what == "of other things":
        torch.save([1, 2, 3], file)
    elif what == "a folder":
        file.mkdir()
    else:
        file.write_bytes({"empty": b"", "binary": bytes(range(256)) * 9, "cut short": whole[:-999]}[what])
    with pytest.raises(TrainingError, match=r"tiny\.pt is no whole checkpoint of this recipe; delete it to train anew"):
        train(dataclasses.replace(PLAN, epochs=1), fresh(), *pictures, tmp_path)


def test_what_is_kept_is_the_average(pictures, tmp_path):
    plan = dataclasses.replace(PLAN, epochs=1, averaging=1.0)  # an average that never moves keeps what it began with
    network = fresh()
    before = state(network)
    after = state(train(plan, network, *pictures, tmp_path))
    assert torch.equal(before["head.weight"], after["head.weight"])


def test_consistency_is_zero_where_two_draws_agree_and_are_sure():
    sure = torch.tensor([[30.0, 0.0], [0.0, 30.0]])
    assert consistency(sure.repeat(2, 1), 10.0, 0.5).item() == pytest.approx(0, abs=1e-6)
    assert consistency(torch.cat([sure, sure.flip(1)]), 10.0, 0.5).item() > 10
    # two draws that share one distribution differ by nothing; what is left is its entropy
    even = consistency(torch.zeros(4, 2), 10.0, 0.5).item()
    assert even == pytest.approx(0.5 * torch.log(torch.tensor(2.0)).item(), abs=1e-6)


def test_flips_are_mirrors_of_about_half(pictures):
    images, _ = pictures
    flipped = augment.flip(images, generator())
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    same = (flipped == images).flatten(1).all(1)
    assert (mirrored | same).all()
    assert 30 < mirrored.sum() < 66


def test_shifts_move_pictures_and_bring_in_black(pictures):
    images, _ = pictures
    moved = augment.shift(images, generator(), most=2)
    assert moved.shape == images.shape
    assert moved.dtype == images.dtype
    for before, after in zip(images[:20, 0], moved[:20, 0], strict=True):
        places = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]
        inner = after[2:-2, 2:-2]
        assert any(torch.equal(inner, before[2 + dy : 26 + dy, 2 + dx : 26 + dx]) for dy, dx in places)


def test_erasing_blacks_out_one_rectangle_in_about_half():
    white = torch.full((400, 1, 28, 28), 255, dtype=torch.uint8)
    erased = augment.erase(white, generator(), least=4, most=12)[:, 0] == 0
    touched = erased.flatten(1).any(1)
    assert 150 < touched.sum() < 250
    for mask in erased[touched]:
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert 4 <= rows <= 12
        assert 4 <= columns <= 12
        assert mask.sum() == rows * columns


def test_noise_is_rounded_and_never_clipped():
    noise = augment.rounded_gaussian(torch.Size([200_000]), 63.75, generator())
    assert torch.equal(noise, noise.round())
    assert noise.std().item() == pytest.approx((63.75**2 + 1 / 12) ** 0.5, rel=0.01)
    assert noise.abs().max() > 255
