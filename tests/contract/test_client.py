"""The client against the real server: both drivers, live certificates, receipts, the command, and without the server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from certify.receipts.receipt import ReceiptError
from serving.client import AsyncClient, Client, verify
from serving.commands.cli import main
from serving.errors import InvalidInput, NotFound, Unavailable
from serving.security.signing import Signer
from tests.contract.picture_bundle import NAME
from tests.contract.server import SIGNING_KEY
from tests.contract.test_wire_parity import png

PUBLIC = Signer(SIGNING_KEY).public.hex()
ROW = np.array([[[150, 1], [2, 3]]])


async def test_both_clients_give_the_same_answers_whatever_form_the_input_has(server, tmp_path):
    picture = png(ROW)
    (tmp_path / "a.png").write_bytes(picture)
    np.save(tmp_path / "a.npy", ROW.astype(np.uint8))
    (tmp_path / "a.csv").write_text("150,1,2,3\n")
    (tmp_path / "a.json").write_text(json.dumps([ROW.tolist()]))
    forms = [picture, ROW, ROW.tolist(), *map(str, sorted(tmp_path.iterdir()))]
    with Client(server.http, NAME) as client:
        answers = [client.predict(form, target_radius=4) for form in forms]
        whole = client.document(picture, "image/png", target_radius=4)
    async with AsyncClient(server.http, NAME) as client:
        answers += await client.predict_many(forms, target_radius=4)
    assert len(answers) == 14
    assert all(each == answers[0] for each in answers)
    assert whole["predictions"][0] == answers[0].document
    assert (answers[0].certificate.label, answers[0].certificate.status) == ("above", "certified")


async def test_a_live_certificate_ends_with_the_answer_and_its_best_radius_never_falls(server):
    with Client(server.http, NAME) as client:
        events = list(client.watch(ROW, certify="best", max_draws=20_000))
        assert events[-1].prediction == client.predict(ROW, certify="best", max_draws=20_000)
    assert (events[0].kind, events[-1].kind) == ("base", "final")
    assert all(one.best_radius <= other.best_radius for one, other in pairwise(events))
    async with AsyncClient(server.http, NAME) as client:
        watched = [event async for event in client.watch(ROW, certify="best", max_draws=20_000)]
    assert watched[-1] == events[-1]


def test_a_receipt_is_verified_and_an_altered_one_is_not(server):
    with Client(server.http, NAME) as client:
        answer = client.predict(ROW, receipt=True)
    assert {each.field for each in answer.verify(PUBLIC)} >= {"signature", "claims.certificate.radius"}
    altered = json.loads(json.dumps(answer.receipt))
    altered["receipt"]["votes"] = altered["receipt"]["votes"][::-1]
    for receipt, key in ((altered, PUBLIC), (answer.receipt, "00" * 32), (answer.receipt, "key"), ({}, PUBLIC)):
        with pytest.raises(ReceiptError):
            verify(receipt, key)


async def test_refusals_are_those_of_the_server_and_a_server_that_is_not_there_is_unavailable(server):
    with Client(server.http, "other") as client, pytest.raises(NotFound, match="other"):
        client.predict(png(ROW))
    with (
        Client(server.http) as client,
        pytest.raises(InvalidInput, match=f"the server has 3 models; name one of {NAME}"),
    ):
        client.predict(png(ROW))
    with Client(server.http, NAME) as client:
        for given in ([1, 2, 3], np.zeros((2, *ROW.shape), int)):
            with pytest.raises(InvalidInput):
                client.predict(given)
        with pytest.raises(InvalidInput, match="max_draws"):
            list(client.watch(ROW, max_draws=0))
    with Client("http://127.0.0.1:9", NAME, retries=1) as client:
        for ask in (client.predict, lambda given: list(client.watch(given))):
            with pytest.raises(Unavailable, match="is the server up"):
                ask(png(ROW))
    async with AsyncClient("http://127.0.0.1:9", NAME, retries=0) as client:
        with pytest.raises(Unavailable, match="is the server up"):
            await client.predict(png(ROW))


def test_the_command_prints_a_line_of_json_or_of_a_table_for_each_row(server, tmp_path, capsys):
    np.save(tmp_path / "rows.npy", np.stack([ROW, ROW, ROW]))
    (tmp_path / "a.png").write_bytes(png(ROW))
    files = [str(tmp_path / "a.png"), str(tmp_path / "rows.npy")]
    assert main(["predict", *files, "--url", server.http, "--model", NAME]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["file"], each["row"]) for each in found] == [(files[0], 0), *((files[1], row) for row in range(3))]
    assert {each["prediction"]["certificate"]["label"] for each in found} == {"above"}
    assert main(["predict", *files, "--url", server.http, "--model", NAME, "--table"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["file", "row", "label"]
    assert [line.split()[:3] for line in lines] == [
        ["a.png", "0", "above"],
        *(["rows.npy", str(n), "above"] for n in range(3)),
    ]


def test_the_command_s_receipt_is_of_one_row(server, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(png(ROW))
    np.save(tmp_path / "rows.npy", np.stack([ROW, ROW]))
    picture, receipt = str(tmp_path / "a.png"), tmp_path / "receipt"
    assert main(["predict", picture, "--url", server.http, "--model", NAME, "--receipt", str(receipt)]) == 0
    assert main(["verify", str(receipt), "--key", PUBLIC]) == 0
    receipt.unlink()
    for files in ([picture, picture], [str(tmp_path / "rows.npy")]):
        assert main(["predict", *files, "--url", server.http, "--model", NAME, "--receipt", str(receipt)]) == 1
        assert "--receipt is for one" in capsys.readouterr().err
    assert not receipt.exists()


def test_a_wrong_file_ends_the_command_with_one_line_that_names_it(server, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(png(ROW))
    (tmp_path / "b.csv").write_text("1,2\n")
    assert (
        main(["predict", str(tmp_path / "a.png"), str(tmp_path / "b.csv"), "--url", server.http, "--model", NAME]) == 1
    )
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    assert captured.err.count("\n") == 1
    assert str(tmp_path / "b.csv") in captured.err


ALONE = """
import sys
OURS = {"certify", "export", "protos", "serving", "httpx", "numpy", "scipy", "cryptography"}
OURS |= {"httpcore", "h11", "anyio", "certifi", "idna", "sniffio", "typing_extensions", "cffi", "pycparser"}
class Nothing:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in OURS and top not in sys.stdlib_module_names and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Nothing())
from serving.commands.cli import main
sys.exit(main(sys.argv[1:]))
"""


def alone(*words):
    """The command where nothing can be imported but what the project itself requires."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, words)], capture_output=True, text=True, env=environment, timeout=60
    )


def test_without_the_server_files_are_predicted_and_receipts_verified(server, tmp_path):
    (tmp_path / "a.png").write_bytes(png(ROW))
    asked = alone(
        "predict", tmp_path / "a.png", "--url", server.http, "--model", NAME, "--receipt", tmp_path / "receipt"
    )
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["prediction"]["label"] == "above"
    judged = alone("verify", tmp_path / "receipt", "--key", PUBLIC)
    assert judged.returncode == 0, judged.stderr
    serve = alone("serve", "models")
    assert (serve.returncode, serve.stdout) == (1, "")
    assert "install certserve[cpu]" in serve.stderr
