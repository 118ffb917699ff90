"""`certserve build-plan`: TensorRT's plans of a repository, built before anything is served."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """The command, for the parser of the command line."""
    build = commands.add_parser(
        "build-plan", help="build TensorRT's plans of all bundles of a repository, for this GPU"
    )
    build.add_argument("models", type=Path, help="a folder of models/<name>/<version>/")
    build.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from export.bundle.repository import load_repository
    from serving.deployments.assembly import base_rows
    from serving.runtimes.tensorrt import build_plans

    for bundle in load_repository(options.models):
        build_plans(bundle, base_rows("tensorrt"), lambda said: print(said, flush=True))
    return 0
