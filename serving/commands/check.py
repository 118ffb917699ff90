"""`certserve check`: every proof that serving would run on a bundle, and one line for each fault."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from export.bundle import Bundle, BundleError, load
from export.bundle.manifest import MANIFEST


def add(commands: Any) -> None:
    """The command, for the parser of the command line."""
    check = commands.add_parser("check", help="prove a bundle as serving would, and print each fault on a line")
    check.add_argument("bundle", type=Path, help="a bundle's folder")
    check.add_argument("--provider", default="cpu", help="cpu, cuda, tensorrt or onnx-tensorrt (%(default)s)")
    check.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    found = faults(options.bundle, options.provider)
    for fault in found:
        print(fault)
    if not found:
        print(f"{options.bundle}: every proof holds")
    return 1 if found else 0


def faults(folder: Path, provider: str = "cpu") -> list[str]:
    """One line for each fault. Files come first, then what the nodes of each graph say, then what running them shows."""
    wrong = damaged(folder)
    if wrong:
        return wrong
    try:
        bundle = load(folder)
    except BundleError as error:
        return [_line(error)]
    return _of_graphs(bundle) or _of_running(bundle, provider)


def damaged(folder: Path) -> list[str]:
    """What is wrong with each file by itself."""
    from export.bundle import files

    if folder.is_dir() and not (folder / MANIFEST).exists():
        inside = sorted(each.parent for each in folder.glob(f"*/*/{MANIFEST}"))
        example = inside[0] if inside else folder / "<name>" / "1"
        return [f"{folder} is no bundle, for it has no {MANIFEST}; give the folder of one version, such as {example}"]
    try:
        manifest = files.read_manifest(folder)
    except BundleError as error:
        return [_line(error)]
    return _tried([partial(files.checked, folder, name, digest) for name, digest in manifest.files.items()])


def _of_graphs(bundle: Bundle) -> list[str]:
    from export.bundle.files import BASE, NOISY
    from export.graphs.prepared import prepare

    one = bundle.base == bundle.noisy
    return _tried([partial(prepare, bundle, file) for file in ([BASE] if one else [BASE, NOISY])])


def _of_running(bundle: Bundle, provider: str) -> list[str]:
    from serving.deployments.assembly import base_rows
    from serving.models.proof import prove
    from serving.runtimes.open import open_runtime

    rows = base_rows(provider)
    return _tried([lambda: prove(bundle, open_runtime(bundle, provider, rows), rows)])


def _tried(proofs: Sequence[Callable[[], object]]) -> list[str]:
    wrong = []
    for proof in proofs:
        try:
            proof()
        except (ValueError, RuntimeError) as error:
            wrong.append(_line(error))
    return wrong


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
