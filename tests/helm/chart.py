"""The chart as its tests see it: rendered documents, and those of them that run the server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "certserve"
MONITORING = ("--api-versions", "monitoring.coreos.com/v1")
SECRET = {"noiseSecret": {"name": "noise"}}

Document = dict[str, Any]


def helm(binary: Path, command: str, values: Document, *more: str, chart: Path = CHART, release: str = "demo") -> Any:
    """The finished process of `helm COMMAND` on the chart with `values`."""
    name = [] if command == "lint" else [release]
    line = [str(binary), command, *name, str(chart), "--namespace", "place", "--values", "-", *more]
    return subprocess.run(line, input=json.dumps(values), capture_output=True, text=True, timeout=60)


def render(binary: Path, values: Document, *more: str, release: str = "demo") -> list[Document]:
    """The documents of the chart with `values`, noise secret included."""
    done = helm(binary, "template", SECRET | values, *more, release=release)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def one(documents: list[Document], kind: str, name: str | None = None) -> Document:
    """The document of this kind, and name if there are several."""
    (found,) = [d for d in documents if d["kind"] == kind and name in (None, d["metadata"]["name"])]
    return found


def pod_templates(documents: list[Document]) -> dict[str, Document]:
    """The pod templates by their component: server, and head in the ray shape."""
    found = [d["spec"]["template"] for d in documents if d["kind"] == "Deployment"]
    for document in documents:
        if document["kind"] == "RayService":
            cluster = document["spec"]["rayClusterConfig"]
            found += [cluster["headGroupSpec"]["template"], *(g["template"] for g in cluster["workerGroupSpecs"])]
    return {template["metadata"]["labels"]["app.kubernetes.io/component"]: template for template in found}


def container(template: Document) -> Document:
    """The only container of a pod template."""
    (only,) = template["spec"]["containers"]
    return dict(only)


def serve_config(documents: list[Document]) -> Document:
    """The Serve configuration of the ray shape."""
    return dict(yaml.safe_load(one(documents, "RayService")["spec"]["serveConfigV2"]))
