"""`certserve quantize`: a bundle's noisy graph in 8 bits, as a version of its own, with what each precision is worth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from serving.commands import check
from serving.commands.console import given


def add(commands: Any) -> None:
    """The command, for the parser of the command line."""
    quantize = commands.add_parser("quantize", help="put a bundle's noisy graph into 8 bits, as a version of its own")
    quantize.add_argument("bundle", type=Path, help="a bundle's folder")
    quantize.add_argument("--data", type=Path, required=True, help="labelled rows that scales are taken from")
    quantize.add_argument(
        "--calibration",
        type=Path,
        metavar="DATA",
        help="rows that nothing has seen, for the detector; a part of --data if left out",
    )
    quantize.add_argument("--test", type=Path, metavar="DATA", help="rows to measure on; those of --data if left out")
    quantize.add_argument("--label", help="the column, or array, of the labels (label, or y)")
    quantize.add_argument("--version", type=int, metavar="N", help="of the new bundle; the next one if left out")
    quantize.add_argument("--rows", type=int, default=100, help="that are measured (%(default)s)")
    quantize.add_argument("--draws", type=int, default=250, help="that bound each of these (%(default)s)")
    quantize.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from export.precision import quantize

    found = quantize(options.bundle, faults=check.faults, **given(options, "bundle"))
    print(f"{found.table}\n\nwrote {found.folder} {found.bundle.digest}; every proof that serving runs holds")
