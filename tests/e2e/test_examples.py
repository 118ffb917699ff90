"""The examples run as they are written, each in a process of its own, against one server that was started for them."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.servers import ROOT, command_line

pytestmark = pytest.mark.e2e
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    key = tmp_path_factory.mktemp("key") / "signing-key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(32))
    with command_line(ROOT / "models", "--signing-key-file", str(key), local=True) as address:
        yield address


def ran(*command, status=0):
    """What a command says when it is started from the root of the repository; on failure, what it complains of."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


def python(name, *arguments, status=0):
    return ran(sys.executable, EXAMPLES / name, *arguments, status=status)


def host_of(server):
    return server.http.removeprefix("http://")


def test_curl_asks_for_a_picture_and_for_rows_and_is_told_what_is_wrong(server):
    said = ran("sh", EXAMPLES / "ask.sh", server.http)
    ready, picture, rows, wrong = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert ready == {"ready": True}
    (first,) = picture["predictions"]
    assert (first["certificate"]["label"], first["certificate"]["status"]) == ("Sneaker", "certified")
    assert first["certificate"]["radius"] >= 0.5
    (second,) = rows["predictions"]
    assert (second["certificate"]["procedure"], second["draws"]) == ("best", 320)
    assert "unknown query parameter 'colour'" in wrong["error"]


def test_curl_watches_a_certificate_tighten(server):
    blocks = ran("sh", EXAMPLES / "watch.sh", server.http).strip().split("\n\n")
    found = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    assert [each["event"] for each in (found[0], found[-1])] == ["base", "final"]
    assert {each["event"] for each in found[1:-1]} <= {"certificate"}
    said = [json.loads(each["data"])["prediction"] for each in found]
    assert [str(each["draws"]) for each in said] == [each["id"] for each in found]
    assert (said[0]["label"], said[0]["certificate"]) == ("Sneaker", None)
    assert (said[-1]["certificate"]["label"], said[-1]["draws"]) == ("Sneaker", 2_000)
    assert "receipt" not in said[-1]


def test_tritonclient_watches_a_certificate_tighten(server):
    lines = python("watch_triton.py", server.grpc).splitlines()
    found = [re.fullmatch(r"(\w+): radius (\S+) proven by (\d+) draws", line).groups() for line in lines]
    assert (found[0], found[-1][0], found[-1][2]) == (("base", "0.000", "0"), "final", "2000")
    assert {kind for kind, _, _ in found[1:-1]} <= {"certificate"}
    counted = [int(draws) for _, _, draws in found]
    assert counted[:-1] == sorted(set(counted[:-1]))
    assert float(found[-1][1]) > 0.5


def test_tritonclient_over_http_gets_plain_answers_and_certificates(server):
    said = python("ask_triton_http.py", host_of(server))
    found = dict(line.split(": ") for line in said.splitlines())
    assert (found["most probable class"], found["certified class"]) == ("7", "7")
    assert float(found["radius"]) >= 0.5


def test_tritonclient_over_grpc_gets_a_certificate_and_a_verdict_for_each_row(server):
    lines = python("ask_triton_grpc.py", server.grpc).splitlines()
    verdicts = {line.split()[0]: line.endswith("ood_in_distribution=True") for line in lines}
    assert verdicts == {"sneaker.png": True, "trouser.png": True, "digit_seven.png": False}


def test_the_typed_service_is_asked_from_the_stubs_alone(server):
    said = python("ask_typed.py", server.grpc)
    assert float(re.search(r"certified: Sneaker within (.+)", said)[1]) >= 0.5
    assert "NOT_FOUND" in said
    imported = re.findall(r"^(?:from|import) (\w+)", (EXAMPLES / "ask_typed.py").read_text(), re.M)
    assert set(imported) == {"sys", "pathlib", "grpc", "protos"}


@pytest.fixture(scope="module")
def public_key(server):
    return re.search(r"public key ([0-9a-f]{64})", server.log.read_text())[1]


def receipt(server, picture, **options):
    answer = httpx.post(
        f"{server.http}/v1/models/fashion-mnist:predict",
        params={"receipt": "true", "deadline_ms": 60_000, **options},
        content=(EXAMPLES / picture).read_bytes(),
        headers={"Content-Type": "image/png"},
        timeout=120,
    )
    return answer.json()["predictions"][0]["receipt"]


@pytest.mark.parametrize(
    ("picture", "options"),
    [
        ("sneaker.png", {"certify": "target"}),
        ("shirt.png", {"certify": "target", "target_radius": 0.9, "max_draws": 64}),
        ("digit_seven.png", {"certify": "best", "max_draws": 320, "alpha": 0.1}),
        ("trouser.png", {"certify": "precision", "radius_tolerance": 0.3, "max_draws": 1_000}),
    ],
    ids=["target", "undecided", "best", "precision"],
)
def test_true_receipts_pass_the_audit(server, public_key, tmp_path, picture, options):
    (tmp_path / "receipt.json").write_text(json.dumps(receipt(server, picture, **options)))
    said = python("audit_receipt.py", tmp_path / "receipt.json", public_key)
    assert said.startswith("signed by key ")


def test_the_audit_needs_no_code_of_ours():
    imported = re.findall(r"^(?:from|import) (\w+)", (EXAMPLES / "audit_receipt.py").read_text(), re.M)
    assert not set(imported) & {path.name for path in ROOT.iterdir() if path.is_dir()}


def test_altered_receipts_and_other_keys_fail_the_audit(server, public_key, tmp_path):
    path = tmp_path / "receipt.json"
    document = receipt(server, "sneaker.png")
    path.write_text(json.dumps(document))
    assert "another key" in python("audit_receipt.py", path, "9d" + public_key[2:], status=1)
    document["receipt"]["votes"][7] -= 1
    path.write_text(json.dumps(document))
    assert "altered" in python("audit_receipt.py", path, public_key, status=1)


@pytest.mark.parametrize(("field", "said"), [("p_a_lower", "p_a_lower is not proven"), ("radius", "is larger than")])
def test_claims_that_the_counts_do_not_prove_fail_the_audit_even_if_they_are_signed(server, tmp_path, field, said):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    document, key = receipt(server, "sneaker.png"), Ed25519PrivateKey.generate()
    claim = document["receipt"]["claims"]["certificate"]
    claim[field] = (float.fromhex(claim[field]) * 1.001).hex()
    text = json.dumps(document["receipt"], sort_keys=True, separators=(",", ":"))
    document["signature"]["value"] = key.sign(b"certserve receipt\0" + text.encode()).hex()
    (tmp_path / "receipt.json").write_text(json.dumps(document))
    assert said in python(
        "audit_receipt.py", tmp_path / "receipt.json", key.public_key().public_bytes_raw().hex(), status=1
    )


def test_the_tutorial_s_commands_do_what_it_says(server, public_key, tmp_path):
    """Its `sh` blocks as they are written, in their order; addresses, key and interpreter are those of this server."""
    for name in ("examples", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    said = []
    for block in re.findall(r"```sh\n(.+?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.S):
        for written, here in (
            ("http://127.0.0.1:8000", server.http),
            (".venv/bin/", f"{Path(sys.executable).parent}/"),
            (next(iter(re.findall("[0-9a-f]{64}", block)), public_key), public_key),
        ):
            block = block.replace(written, here)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            ["sh", "-euc", block], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, block + done.stdout + done.stderr
        said.append(done.stdout)
    sneaker, digit, shirt, _, verified, replayed, audited = said
    certificate = json.loads(sneaker)["predictions"][0]["certificate"]
    assert (certificate["label"], certificate["status"]) == ("Sneaker", "certified")
    assert 0.5 <= certificate["radius"] < 0.51
    assert json.loads(digit)["predictions"][0]["ood"]["in_distribution"] is False
    assert json.loads(shirt)["prediction"]["certificate"]["status"] in ("refuted", "undecided")
    assert "its counts prove its claims" in verified
    assert "gave these counts again" in replayed
    assert audited.startswith("signed by key ")


def test_every_example_is_run_here():
    """By its name in this file; pictures are what they send."""
    text = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh") and path.name not in text] == []
