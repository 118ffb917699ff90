"""`certserve robustify`: a network that votes well under noise, trained from your own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from export.options import labels, numbers
from serving.commands.console import given
from serving.commands.inspect import add_model


def add(commands: Any) -> None:
    """The command, for the parser of the command line."""
    robustify = commands.add_parser(
        "robustify", help="train a network, or a denoiser before it, under noise (needs certserve[export])"
    )
    add_model(robustify)
    robustify.add_argument("--data", type=Path, required=True, help="labelled rows to learn from, as export reads them")
    robustify.add_argument("--test", type=Path, metavar="DATA", help="rows to measure on; a part of --data if left out")
    robustify.add_argument("--label", help="the column, or array, of the labels (label, or y)")
    robustify.add_argument("--denoiser", action="store_true", help="train a denoiser before the network, which stays")
    robustify.add_argument("--epochs", type=int, default=5, help="walks over the data (%(default)s)")
    robustify.add_argument("--rate", type=float, default=1e-3, help="the largest learning rate (%(default)s)")
    robustify.add_argument("--rows", type=int, default=200, help="that are measured before and after (%(default)s)")
    robustify.add_argument("--draws", type=int, default=250, help="that bound each of these (%(default)s)")
    robustify.add_argument(
        "--out", type=Path, default=Path("robust"), help="what is written, and where a run goes on (%(default)s)"
    )
    robustify.add_argument("--sigma", type=float, required=True, help="the noise, in the units of the data")
    robustify.add_argument(
        "--labels", type=labels, default=(), metavar="A,B,C", help="names, or a file with one a line"
    )
    robustify.add_argument("--low", type=float, help="the least value of the grid; found in the data")
    robustify.add_argument("--step", type=float, help="the step of the grid; found in the data")
    robustify.add_argument("--high", type=float, help="the largest value of the grid; found in the data")
    robustify.add_argument("--layout", choices=("CHW", "HWC", "features"), help="found by the axis of 1 or 3 colours")
    robustify.add_argument("--mean", type=numbers, default=(), help="subtracted inside: one number, or one a colour")
    robustify.add_argument("--std", type=numbers, default=(), help="divided by inside, after the mean")
    robustify.add_argument(
        "--channels", choices=("as given", "reversed"), default="as given", help="reversed: RGB to BGR"
    )
    robustify.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from export.robust.robustify import robustify

    found = robustify(options.model, **given(options, "model"))
    print(
        f"{found.table}\n\nwrote {found.graph} and {found.weights}\nexport it beside the original: certserve export"
        f" {options.model} --robust {found.graph} --sigma {options.sigma:g} ..."
    )
