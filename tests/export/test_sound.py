"""A network of sound, trained here, from file to certified answers by the documented commands."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import torch
from torch import nn

from export import own_model
from export.bundle import load
from export.sources.torch_module import source
from serving.commands import answers
from serving.commands.check import faults
from serving.commands.cli import main
from serving.errors import InvalidInput
from serving.inputs import registry

LENGTH, RATE, PITCHES = 256, 8_000, (200.0, 500.0, 1_100.0)


def tones(count, seed):
    """Tones of three pitches as signed samples, with their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    angles = 2 * np.pi * (np.array(PITCHES)[labels, None] * np.arange(LENGTH) / RATE + rng.random((count, 1)))
    loud = rng.uniform(0.3, 0.6, (count, 1))
    return np.rint(loud * np.sin(angles) * 32_767).astype(np.int16), labels


class Tones(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(1, 8, 33, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 28, 3))

    def forward(self, x):
        return self.layers(x[:, None])


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    samples, labels = tones(600, 1)
    x, y = torch.from_numpy(samples / np.float32(2**15)).float(), torch.from_numpy(labels)
    network = Tones()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x + 0.1 * torch.randn_like(x)), y).backward()
        optimizer.step()
    return network.eval()


def wav(samples):
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def test_a_network_of_sound_is_exported_checked_and_answers_with_certificates(trained, tmp_path, capsys):
    samples, _ = tones(64, 2)
    (tmp_path / "tones.onnx").write_bytes(source(trained, (LENGTH,)).original)
    np.save(tmp_path / "samples.npy", samples / np.float32(2**15))
    out = tmp_path / "models"
    words = [
        "export",
        tmp_path / "tones.onnx",
        "--name",
        "tones",
        "--samples",
        tmp_path / "samples.npy",
        "--sigma",
        "0.1",
    ]
    assert main([*map(str, words), "--rate", str(RATE), "--labels", "low,middle,high", "--out", str(out)]) == 0
    assert main(["check", str(out / "tones" / "1")]) == 0
    bundle = load(out / "tones" / "1")
    assert (bundle.manifest.input.kind.kind, bundle.manifest.law.sigma_steps) == ("waveform", pytest.approx(3_276.8))
    rows, labels = tones(9, 3)
    with answers.from_engine(bundle, {"certify": "best", "max_draws": 512}) as ask:
        for row, label in zip(rows, labels, strict=True):
            read = registry.row(wav(row), "audio/wav", bundle.manifest.input)
            assert np.array_equal(read, row.astype(np.int32) + 2**15)
            found = ask(read)
            assert found["label"] == ("low", "middle", "high")[label]
            assert found["certificate"]["radius"] > 0
            assert found["certificate"]["label"] == found["label"]


def test_sound_of_another_form_is_refused_with_what_was_expected(trained, tmp_path):
    samples, _ = tones(16, 2)
    bundle = own_model.from_torch(
        trained, samples / np.float32(2**15), name="tones", sigma=0.1, rate=RATE, out=tmp_path, faults=faults
    )
    for wrong, said in ((samples[0][:100], "100 samples; expected 1 channels of 16 bits at 8000 Hz, 256 samples"),):
        with pytest.raises(InvalidInput, match=said):
            registry.row(wav(wrong), None, bundle.manifest.input)
