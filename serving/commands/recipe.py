"""`certserve recipe`: a bundled model made anew. What trains it is imported when the command runs, for it may be missing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """The command, for the parser of the command line."""
    recipe = commands.add_parser(
        "recipe", help="train, export, fit and calibrate a bundled model (needs certserve[export,torch])"
    )
    recipe.add_argument("name", choices=("fashion-mnist",))
    recipe.add_argument("--data", type=Path, required=True, help="a folder of the four IDX files")
    recipe.add_argument(
        "--work", type=Path, default=Path("work"), help="checkpoints; training resumes here (%(default)s)"
    )
    recipe.add_argument("--out", type=Path, default=Path("models"), help="the repository to write to (%(default)s)")
    recipe.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from export.recipes import fashion_mnist
    from serving.runtimes.onnx_runtime import open_graph

    bundle = fashion_mnist.run(options.data, options.work, options.out, open_graph)
    print(f"wrote {bundle.manifest.name}/{bundle.manifest.version} {bundle.digest}")
