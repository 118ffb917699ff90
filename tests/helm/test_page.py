"""The Kubernetes page: its helm commands are followed as written, with render in place of install."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.helm.chart import CHART, ROOT, pod_templates

PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.+?)```", PAGE, re.S) for line in block.splitlines()]
HELM = [line for line in COMMANDS if line.startswith("helm ")]


@pytest.mark.parametrize("line", HELM)
def test_its_helm_commands_render(helm_binary: Path, line: str) -> None:
    _, verb, release, chart, *options = shlex.split(line)
    if "--reuse-values" in options:  # those of the first command of the page
        options.remove("--reuse-values")
        options = [*shlex.split(HELM[0])[4:], *options]
    assert verb in ("install", "upgrade")
    assert (ROOT / chart).resolve() == CHART
    done = subprocess.run(
        [helm_binary, "template", release, chart, *options], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    documents = [document for document in yaml.safe_load_all(done.stdout) if document]
    (volume,) = [v for v in pod_templates(documents)["server"]["spec"]["volumes"] if v["name"] == "noise-secret"]
    secret = volume["secret"]
    made = [line for line in COMMANDS if "create secret generic" in line]
    assert [shlex.split(line)[-2:] for line in made] == [
        [secret["secretName"], f"--from-file={secret['items'][0]['key']}"]
    ]
    services = [d["metadata"]["name"] for d in documents if d["kind"] == "Service"]
    assert f"{release}-metrics" in services
    assert (release in services) == ("shape=ray" not in options)


def test_values_that_it_names_exist() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    named = set(re.findall(r"`([a-zA-Z]+(?:\.[a-zA-Z]+)*)(?:=[^`]*)?`", PAGE)) - {"local", "ray", "certserve"}
    known = {name for name in named if name.split(".")[0] in values}
    assert known >= {"shape", "replicas", "models.path", "networkPolicy.clients", "limits.maxDeadlineMs", "provider"}
    for name in known:
        found = values
        for part in name.split("."):
            found = found[part]


def test_it_says_what_has_not_been_tried() -> None:
    assert "has not been built" in " ".join(PAGE.split())
    assert "no part of this has run on a cluster" in " ".join(PAGE.split())
