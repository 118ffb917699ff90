"""The Dockerfile, as far as it can be checked without building it: linted, complete, and what the chart expects."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib

from serving.commands import cli
from tests.helm.chart import ROOT, pod_templates, render
from tests.helm.chart_tools import tool

TEXT = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _copied() -> list[str]:
    """The sources of the COPY instructions that take files of the repository."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", TEXT, re.M)
    return [source for line in lines for source in line.split()[:-1]]


def test_it_is_linted() -> None:
    done = subprocess.run([tool("hadolint"), ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_it_copies_every_package_and_the_build_context_has_what_it_copies() -> None:
    packages = {name.split(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}
    build = {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"], "pyproject.toml", "constraints.txt"}
    assert packages | build | {"models"} == set(_copied())
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == set(_copied())


def test_one_variant_is_installed_and_cpu_is_the_default() -> None:
    assert re.search(r"^ARG VARIANT=cpu$", TEXT, re.M)
    for variant in re.findall(r"'\.\[(\w+)\]'", TEXT):
        assert variant in PROJECT["project"]["optional-dependencies"]
    assert sorted(re.findall(r"^ +(\w+)\) set --", TEXT, re.M)) == ["cpu", "gpu"]
    assert "pip install -c constraints.txt" in TEXT


def test_it_runs_as_the_user_of_the_chart(helm4) -> None:
    (user,) = re.findall(r"^USER (\d+):\1$", TEXT, re.M)
    for shape in ("local", "ray"):
        for template in pod_templates(render(helm4, {"shape": shape})).values():
            assert template["spec"]["securityContext"]["runAsUser"] == int(user)


def test_its_command_is_one_that_the_server_takes() -> None:
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", TEXT, re.M)
    (command,) = re.findall(r"^CMD (.+)$", TEXT, re.M)
    assert json.loads(entry) == list(PROJECT["project"]["scripts"])
    options = cli._parser().parse_args(json.loads(command))
    assert (str(options.models), options.local, options.host) == ("/models", True, "0.0.0.0")


def test_any_user_id_will_do() -> None:
    """OpenShift runs it as a number of its own, in group 0, without a name."""
    assert re.search(r"chgrp -R 0 /home/certserve .*chmod -R g=u /home/certserve$", TEXT.replace("\\\n", " "), re.M)
    assert re.search(r"^ +HOME=/home/certserve", TEXT, re.M)
    assert re.search(r"^ +USER=certserve", TEXT, re.M)
