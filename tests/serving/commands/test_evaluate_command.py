"""`certserve evaluate` on a model whose radii are known exactly: an engine answers, records are kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from export import own_model
from export.evaluation.records import EvaluationError
from serving.commands.cli import main
from tests.half_space import CUT, SIGMA, true_radius, write_half_space

ROOT = Path(__file__).parents[3]
FIRSTS = np.linspace(0, 255, 24).astype(int)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the bundle, labelled rows as CSV, and foreign ones without labels."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_half_space(folder)
    lines = [f"{first},1,2,3,{'above' if first > CUT else 'below'}" for first in FIRSTS]
    (folder / "test.csv").write_text("\n".join(["a,b,c,d,label", *lines]) + "\n")
    np.save(folder / "foreign.npy", np.full((5, 4), 255))
    return folder


@pytest.fixture
def evaluate(place, capsys):
    def evaluate(*words, code=0):
        data = str(place / "test.csv")
        assert main(["evaluate", str(place / "half-space" / "1"), "--data", data, *map(str, words)]) == code
        return capsys.readouterr()

    return evaluate


@pytest.fixture(scope="module")
def once(place):
    """One run that keeps its records and writes everything."""
    foreign = ["--outside", str(place / "foreign.npy")]
    kept = ["--records", place / "records", "--json", place / "figures.json", "--attack", 6, "--attack-radius", 20]
    words = ["--data", place / "test.csv", *foreign, "--draws", 640, "--radii", 0, 30, *kept]
    assert main(["evaluate", str(place / "half-space" / "1"), *map(str, words)]) == 0
    return json.loads((place / "figures.json").read_text())


def test_what_the_engine_certifies_is_right_and_within_the_truth(place, once):
    lines = [json.loads(line) for line in (place / "records").read_text().splitlines()[1:]]
    rows = [each for each in lines if each["of"] == "test"]
    assert [each["row"] for each in rows] == list(range(24))
    assert {each["draws"] for each in lines} == {640}
    for each, first in zip(rows, FIRSTS, strict=True):
        label, radius = true_radius(np.array([first]))
        assert each["certified"] in (label, -1)
        assert each["radius"] <= radius + 1e-9
        if radius > 3 * SIGMA:
            assert each["radius"] > 1.5 * SIGMA


def test_the_figures_are_written(once):
    assert once["accuracy"]["share"] == 1.0
    assert once["radii"] == [0.0, 30.0]
    certified = [each["share"] for each in once["smoothed"]["certified"]]
    assert certified[0] >= certified[1] > 0.5
    names = {each["name"].rpartition("/")[2]: each for each in once["detection"]["outside"]}
    assert names["foreign.npy"]["auroc"] == pytest.approx(1.0, abs=0.05)
    assert {"inverted", "uniform"} < names.keys()
    assert once["attacked"]["radius"] == 20.0
    assert once["attacked"]["accuracy"]["share"] < 1.0
    assert once["run"]["asked"] == {"certify": "best", "max_draws": 640}


def test_the_same_run_takes_every_answer_from_its_records(place, once, evaluate, monkeypatch):
    monkeypatch.setattr("serving.deployments.in_process.build_engine", None)  # nobody is asked
    words = ["--outside", place / "foreign.npy", "--draws", 640, "--records", place / "records"]
    monkeypatch.setattr("serving.deployments.evaluate_on_ray.spread", None)
    said = evaluate(*words, "--radii", 0, 30, "--plot", place / "curve.svg", "--ray", 1).out
    assert f"| smoothed | - | {once['smoothed']['certified'][0]['share']:.3f} [" in said
    assert "<svg" in (place / "curve.svg").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--draws", 320], "another run: asked differ"),
        (["--draws", 640, "--seed", 1], "another run: seed differ"),
        (["--draws", 640, "--every", 2], "another run: data differ"),
    ],
)
def test_records_of_another_run_are_refused(place, once, evaluate, words, said):
    assert said in evaluate(*words, "--records", place / "records", code=1).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--every", 0], "--every must be 1 or more"),
        (["--label", "sort"], "no column 'sort' for the labels; name one of a, b, c, d, label"),
        (["--plot", "curve.gif"], "names no picture"),
        (["--confidence", 1], "a confidence between 0 and 1"),
        (["--sigmas", 0], "expected sigmas above 0"),
        (["--outside", "nowhere"], "nowhere is no data set, and does not exist"),
        (["--certify", "fixed", "--draws", 999], "1000, 10000, 100000"),
    ],
)
def test_what_cannot_be_measured_is_one_line(evaluate, words, said):
    err = evaluate(*words, code=1).err
    assert said in err
    assert len([line for line in err.splitlines() if line.startswith("certserve:")]) == 1


def test_from_python_it_is_the_same(place, once):
    bundle, options = place / "half-space" / "1", {"draws": 640, "records": place / "records"}
    found = own_model.evaluate(bundle, place / "test.csv", outside=[place / "foreign.npy"], radii=[0, 30], **options)
    assert {**found, "attacked": None} == {**once, "attacked": None}
    with pytest.raises(EvaluationError, match="another run: seed differ"):
        own_model.evaluate(bundle, place / "test.csv", seed=9, **options)


def test_sigma_is_suggested(place, evaluate):
    found = evaluate("--sigmas", 4, 32, "--radii", 5, 50, 500, "--draws", 200, "--plot", place / "sigma.png")
    assert found.out.count("\n| ") == 3
    assert "radius 500: none of these" in found.err
    assert "radius 50: sigma 32" in found.err
    assert (place / "sigma.png").stat().st_size > 1_000


def test_the_commands_of_the_page_run(tmp_path, monkeypatch, capsys):
    """On every 250th row, with few draws: what is tested is that they can be said, and write what they say."""
    page = (ROOT / "docs" / "how-to" / "evaluate.md").read_text()
    commands = re.findall(r"^\$ \.venv/bin/certserve (evaluate (?:.*\\\n)?.*)$", page, re.M)
    assert len(commands) == 2
    for name in ("models", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert main([*command.replace("\\\n", " ").split(), "--every", "250", "--draws", "32"]) == 0
        assert "| certified" in capsys.readouterr().out
    assert {each.name for each in (tmp_path / "work").iterdir()} == {"records", "figures.json", "curve.svg"}


@pytest.mark.slow
@pytest.mark.e2e
def test_over_ray_the_numbers_are_the_same(place, once, evaluate):
    """Workers that never saw each other, and the records of one of them begun before."""
    words = ["--outside", place / "foreign.npy", "--draws", 640, "--radii", 0, 30]
    kept = (place / "records").read_text().splitlines(keepends=True)
    (place / "begun").write_text("".join(kept[:6]))
    for name, workers in (("over-ray", 2), ("begun", 1)):
        evaluate(*words, "--records", place / name, "--json", place / f"{name}.json", "--ray", workers)
        assert (place / name).read_text().splitlines() == [line.rstrip("\n") for line in kept]
        found = json.loads((place / f"{name}.json").read_text())
        assert {**found, "attacked": None} == {**once, "attacked": None}
