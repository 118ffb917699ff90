"""`certserve attack` as it is called: on the bundled model in this process, and against a server over HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json

import numpy as np
import pytest

from certify.claims.certificate import Certificate
from export.bundle import load
from serving.commands.cli import main
from tests.e2e.pictures import DATA
from tests.half_space import write_half_space
from tests.servers import ROOT, in_process

pytestmark = pytest.mark.e2e
FAST = ("--pictures", "2", "--draws", "1024", "--seed", "1")


def write_idx(folder, pictures):
    header = b"\0\0\x08" + bytes([pictures.ndim]) + b"".join(size.to_bytes(4, "big") for size in pictures.shape)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pictures.tobytes()))
    labels = b"\0\0\x08\x01" + len(pictures).to_bytes(4, "big") + bytes(len(pictures))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(labels)


def test_the_bundled_model_stands(tmp_path, capsys):
    bundle, file = ROOT / "models" / "fashion-mnist" / "1", tmp_path / "found.json"
    arguments = ["attack", str(bundle), "--data", str(DATA), "--split", "fashion_mnist_test_1000", *FAST]
    assert main([*arguments, "--simulate", "8", "--json", str(file)]) == 0
    document = json.loads(file.read_text())
    assert document["passed"]
    assert document["attack"]["answers"] == 2
    assert len(document["attack"]["attempts"]) >= 10
    assert document["attack"]["digest"] == load(bundle).digest
    assert "no counterexample was found" in capsys.readouterr().out


@pytest.mark.parametrize("inflated", [False, True])
async def test_a_server_over_http(tmp_path, capsys, monkeypatch, inflated):
    models = tmp_path / "models"
    write_half_space(models)
    write_idx(tmp_path, np.array([[[150, 1], [2, 3]], [[100, 9], [9, 9]]], dtype=np.uint8))
    if inflated:
        honest = Certificate.radius.fget
        monkeypatch.setattr(Certificate, "radius", property(lambda self: 1.5 * honest(self)))
    async with in_process(models) as address:
        command = ["attack", str(models / "half-space" / "1"), "--data", str(tmp_path), "--url", address.http, *FAST]
        status = await asyncio.to_thread(main, [*command, "--certify", "best", "--max-draws", "4096"])
    assert status == (1 if inflated else 0)
    assert ("COUNTEREXAMPLE" in capsys.readouterr().out) is inflated


async def test_another_bundle_than_the_served_one_is_refused(tmp_path, capsys):
    write_half_space(tmp_path / "served")
    write_half_space(tmp_path / "mine", description="another")
    write_idx(tmp_path, np.full((1, 2, 2), 150, dtype=np.uint8))
    async with in_process(tmp_path / "served") as address:
        command = [
            "attack",
            str(tmp_path / "mine" / "half-space" / "1"),
            "--data",
            str(tmp_path),
            "--url",
            address.http,
        ]
        assert await asyncio.to_thread(main, [*command, *FAST]) == 1
    assert "attack the bundle that is served" in capsys.readouterr().err


def test_a_wrong_call_is_said_in_one_line(tmp_path, capsys):
    bundle = str(ROOT / "models" / "fashion-mnist" / "1")
    for arguments, message in (
        ([], "expected a bundle with --data"),
        ([bundle], "expected a bundle with --data"),
        ([bundle, "--data", str(tmp_path)], "holds neither"),
        ([bundle, "--data", str(DATA), "--split", "digits_200", "--draws", "1"], "draws from 128"),
    ):
        assert main(["attack", *arguments]) == 1
        assert message in capsys.readouterr().err
