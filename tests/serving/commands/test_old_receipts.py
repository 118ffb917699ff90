"""Receipts that an earlier release signed are verified and drawn again by the rules of their versions.

Versions 1 and 2 spent alpha whole on each number of fixed draws, took the score from the draws of the votes, and had another
prior in upper bounds. The receipts are of the half-space, in every mode, some cut short, some with lost draws.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from certify.receipts.receipt import FIRST, WITH_TOLERANCE
from certify.receipts.replay import replay
from serving.commands.audit import verified
from serving.commands.cli import main
from serving.engine.record import undeclared
from serving.security.signing import parse
from tests.certify.gaussian import law_of_steps
from tests.half_space import CUT, SIGMA, calibration, write_half_space

DATA = Path(__file__).parents[2] / "data"
OLD = json.loads((DATA / "receipts_of_versions_1_and_2.json").read_text())
THIRD = json.loads((DATA / "receipts_of_version_3.json").read_text())
LAW = law_of_steps(SIGMA)
CALIBRATION = np.linspace(0.0, 180.0, 999)


def run(noisy):
    return (noisy[:, 0] > CUT).astype(np.int64), noisy[:, 0].astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("each", OLD["receipts"].values(), ids=OLD["receipts"])
def test_an_old_receipt_is_verified_and_drawn_again(each, bundle):
    findings = list(verified(each["signed"].encode(), bytes.fromhex(OLD["public_key"])))
    assert [finding.field for finding in findings if not finding.agrees] == []
    receipt = parse(each["signed"]).receipt
    assert receipt.schema == (WITH_TOLERANCE if receipt.procedure.name == "precision" else FIRST)
    assert receipt.to_bytes().decode() in each["signed"]
    again = replay(receipt, LAW, np.array(each["row"], dtype=np.int32), run, CALIBRATION)
    assert [finding.field for finding in again if not finding.agrees] == []
    assert [name for name in undeclared(bundle, receipt) if name != "model.digest"] == []


@pytest.mark.parametrize("each", THIRD["receipts"].values(), ids=THIRD["receipts"])
def test_a_receipt_of_version_3_is_verified_and_drawn_again(each, bundle):
    findings = list(verified(each["signed"].encode(), bytes.fromhex(THIRD["public_key"])))
    assert [finding.field for finding in findings if not finding.agrees] == []
    receipt = parse(each["signed"]).receipt
    assert receipt.to_bytes().decode() in each["signed"]
    again = replay(receipt, LAW, np.array(each["row"], dtype=np.int32), run, calibration())
    assert [finding.field for finding in again if not finding.agrees] == []
    assert [name for name in undeclared(bundle, receipt) if name != "model.digest"] == []


@pytest.mark.parametrize("old", [OLD, THIRD])
def test_every_procedure_is_among_them(old):
    names = {parse(each["signed"]).receipt.procedure.name for each in old["receipts"].values()}
    assert names == {"off", "target", "best", "precision", "fixed"}


@pytest.mark.parametrize("old", [OLD, THIRD])
def test_the_command_verifies_them(old, tmp_path, capsys):
    for each in old["receipts"].values():
        (tmp_path / "receipt.json").write_text(each["signed"])
        assert main(["verify", str(tmp_path / "receipt.json"), "--key", old["public_key"]]) == 0
    assert "DIFFERS" not in capsys.readouterr().out
