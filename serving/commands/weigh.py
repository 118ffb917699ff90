"""`certserve weigh`: a weight of the mixture that is learnt by input, as a version of its own, beside fixed weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from serving.commands import check
from serving.commands.console import given


def add(commands: Any) -> None:
    """The command, for the parser of the command line."""
    weigh = commands.add_parser(
        "weigh", help="learn the weight of a bundle's mixture by input (needs certserve[export])"
    )
    weigh.add_argument("bundle", type=Path, help="a bundle's folder")
    weigh.add_argument("--data", type=Path, required=True, help="labelled rows that no network was trained on")
    weigh.add_argument("--test", type=Path, required=True, metavar="DATA", help="other rows, to measure on")
    weigh.add_argument("--label", help="the column, or array, of the labels (label, or y)")
    weigh.add_argument("--minimum", type=float, help="of the weight, by which is certified (the bundle's fixed weight)")
    weigh.add_argument("--maximum", type=float, default=1.0, help="of the weight (%(default)s)")
    weigh.add_argument("--version", type=int, metavar="N", help="of the new bundle; the next one if left out")
    weigh.add_argument("--fit-draws", type=int, default=32, help="of each row that is learnt from (%(default)s)")
    weigh.add_argument("--rows", type=int, default=200, help="that are measured (%(default)s)")
    weigh.add_argument("--draws", type=int, default=1_500, help="that bound each of these (%(default)s)")
    weigh.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw certified accuracy against accuracy, as SVG, PNG or PDF"
    )
    weigh.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from export.evaluation import plots
    from export.weighing import weigh

    if options.plot:
        plots.check(options.plot)
    found = weigh(options.bundle, faults=check.faults, **given(options, "bundle", "plot"))
    if options.plot:
        plots.clean_against_certified(options.plot, found.lines())
    print(f"{found.table}\n\nwrote {found.folder} {found.bundle.digest}; every proof that serving runs holds")
