"""What is said when the server is ready: of the models that are served, and commands that work."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from export.bundle import Manifest, manifests
from serving.commands import banner
from serving.config import Limits, Settings
from serving.wires.kserve_v1 import instances_json
from tests.half_space import write_half_space
from tests.servers import ROOT

BUNDLED = manifests(ROOT / "models")[0]
SETTINGS = Settings(models=Path("m"), http_port=81, grpc_port=82, metrics_port=83)


def kind(shape: tuple[int, ...]) -> dict[str, object]:
    """What has such a shape: numbers, or a picture whose channels stand at either end."""
    if len(shape) == 1:
        return {"kind": "features"}
    layout, channels = ("HWC", shape[-1]) if shape[-1] in (1, 3) else ("CHW", shape[0])
    return {"kind": "image", "layout": layout, "mode": "RGB" if channels == 3 else "L"}


def other(name: str, **spec: object) -> Manifest:
    changed = BUNDLED.model_dump(by_alias=True)
    changed["name"] = name
    changed["input"] |= spec
    return Manifest.model_validate(changed)


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_where_it_listens_and_what_it_serves_is_named():
    said = banner.text(SETTINGS, [BUNDLED, other("second")], "certserve")
    assert said.startswith("ready: HTTP http://127.0.0.1:81, gRPC 127.0.0.1:82, metrics http://127.0.0.1:83/metrics. ")
    assert "It serves fashion-mnist/1, second/1." in said
    assert said.endswith("Ctrl-C stops it.")
    many = banner.text(SETTINGS, [other(f"m{number}") for number in range(20)], "certserve")
    assert "m7/1 and 12 more." in many
    everywhere = Settings(models=Path("m"), host="::", http_port=81, grpc_port=82, metrics_port=83)
    assert "HTTP http://[::1]:81, gRPC [::1]:82" in banner.text(everywhere, [BUNDLED], "certserve")


def test_a_picture_is_advised_for_a_model_that_takes_this_one(monkeypatch, tmp_path):
    said = banner.text(SETTINGS, [other("a", shape=(1, 32, 32)), BUNDLED], "'bin/my certserve'")
    assert "@examples/sneaker.png" in said
    assert "/v1/models/fashion-mnist/versions/1:predict" in said
    assert "'bin/my certserve' predict examples/sneaker.png --model fashion-mnist --grpc 127.0.0.1:82" in said
    for shape in ((1, 32, 32), (3, 28, 28), (32, 32, 1)):
        assert "sneaker" not in banner.text(SETTINGS, [other("a", shape=shape, kind=kind(shape))], "certserve")
    monkeypatch.chdir(tmp_path)  # where there is no such file
    assert "sneaker" not in banner.text(SETTINGS, [BUNDLED], "certserve")
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "sneaker.png").write_bytes(b"\x89PNG")
    assert "sneaker" not in banner.text(SETTINGS, [BUNDLED], "certserve")


@pytest.mark.parametrize("shape", [(4,), (32,), (33,), (1, 2, 2), (1, 28, 28), (3, 32, 32)])
def test_the_rows_that_are_advised_are_inputs_of_the_model(shape, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    model = other("rows", shape=shape, kind=kind(shape))
    said = banner.text(SETTINGS, [model], "certserve")
    assert "/v1/models/rows/versions/1:predict" in said
    assert "fashion" not in said
    if "python3" in said:
        code = re.search(r"python3 -c '(.+)' \|", said)[1]
        body = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    else:
        body = shlex.split(said.split("Try\n\n")[1].split("\\")[0])[3].encode()
    rows, _ = instances_json.decode(body, model.input, Limits().max_rows, {})
    assert rows.shape == (1, *shape)
    assert json.loads(body)["instances"]
    assert not rows.any()


def test_the_manifests_of_a_repository_are_read_without_the_rest(tmp_path):
    write_half_space(tmp_path, name="b")
    write_half_space(tmp_path, name="a", version="2")
    (tmp_path / "a" / "2" / "noisy.onnx").unlink()
    assert [(each.name, each.version) for each in manifests(tmp_path)] == [("a", "2"), ("b", "1")]
