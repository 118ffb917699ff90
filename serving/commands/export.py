"""`certserve export`: your own model to a bundle that is proven as it would be served."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from serving.commands.console import given
from serving.commands.inspect import add_model


def add(commands: Any) -> None:
    """The command, for the parser of the command line."""
    export = commands.add_parser("export", help="make a bundle of your own model (needs certserve[export])")
    add_model(export)
    export.add_argument("--name", required=True, help="the model's name on the server")
    rows = export.add_mutually_exclusive_group(required=True)
    rows.add_argument(
        "--data", type=Path, help="labelled rows: pictures, IDX, NPZ, CSV or Parquet; for every guarantee"
    )
    rows.add_argument(
        "--samples", type=Path, metavar="FILE", help="inputs as .npy [rows, ...], in your units; for certificates only"
    )
    export.add_argument(
        "--calibration",
        type=Path,
        metavar="DATA",
        help="rows that nothing has seen, as --data; a third of those if left out",
    )
    export.add_argument(
        "--outside", type=Path, action="append", default=[], metavar="DATA", help="foreign rows, to choose the score by"
    )
    export.add_argument("--label", help="the column, or array, of the labels (label, or y)")
    export.add_argument(
        "--score", metavar="NAME", help="of the detector; the one that is measured to be best if left out"
    )
    export.add_argument(
        "--foresee",
        action="store_true",
        help="fit, on the held-out rows, what the plain prediction tells of the votes: draws are saved where it is right",
    )
    export.add_argument(
        "--also",
        type=names,
        default=(),
        metavar="CLAIM,...",
        help="claims beside the usual ones, each for a share of alpha: joint (the class and in distribution, as one label)",
    )
    export.add_argument("--work", type=Path, metavar="FOLDER", help="where long walks over the data go on")
    export.add_argument(
        "--sigma", type=float, help="the noise, in the units of the samples; measured on --data if left out"
    )
    export.add_argument("--labels", type=labels, default=(), metavar="A,B,C", help="names, or a file with one a line")
    export.add_argument("--out", type=Path, default=Path("models"), help="the repository to write to (%(default)s)")
    export.add_argument("--expected", type=Path, metavar="FILE", help="the original's own outputs on the samples, .npy")
    export.add_argument(
        "--low", type=numbers, help="the least value of the grid, or one a column; found in the samples"
    )
    export.add_argument("--step", type=numbers, help="the step of the grid, or one a column; found in the samples")
    export.add_argument(
        "--high", type=numbers, help="the largest value of the grid, or one a column; found in the samples"
    )
    export.add_argument(
        "--columns",
        action="store_true",
        help="find a step for each column; --sigma is then a share of each column's range",
    )
    export.add_argument(
        "--batch-rows", type=int, metavar="N", help="of noisy passes; chosen by time and memory if left out"
    )
    export.add_argument("--rate", type=int, metavar="HZ", help="the samples are sound: one channel of 16 bits")
    export.add_argument("--units", default="units of the samples", help="what a value is measured in (%(default)s)")
    export.add_argument("--layout", choices=("CHW", "HWC", "features"), help="found by the axis of 1 or 3 colours")
    export.add_argument("--mean", type=numbers, default=(), help="subtracted inside: one number, or one a colour")
    export.add_argument("--std", type=numbers, default=(), help="divided by inside, after the mean")
    export.add_argument("--mode", choices=("RGB", "BGR"), default="RGB", help="the order of the samples' colours (RGB)")
    export.add_argument(
        "--resize",
        default="",
        metavar="METHOD",
        help="of pictures of another size: bilinear, or bilinear,centre,256",
    )
    export.add_argument(
        "--pictures",
        default="",
        metavar="A=B,...",
        help="of files of other forms: alpha=dropped, orientation=applied, ...",
    )
    export.add_argument("--channels", choices=("as given", "reversed"), default="as given", help="reversed: RGB to BGR")
    export.add_argument(
        "--robust",
        type=Path,
        metavar="FILE",
        help="the network that votes, of certserve robustify; the same if left out",
    )
    export.set_defaults(run=_run)


def labels(text: str) -> tuple[str, ...]:
    """Names of labels, or a file with one a line."""
    file = Path(text)
    named = file.read_text().splitlines() if file.is_file() else text.split(",")
    return tuple(label.strip() for label in named if label.strip())


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(part.strip() for part in text.split(","))


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    return tuple(float(part) for part in text.split(","))


def _run(options: argparse.Namespace) -> None:
    from export import own_model
    from serving.commands import check

    bundle = own_model.export(options.model, faults=check.faults, command=options.typed, **given(options, "model"))
    manifest = bundle.manifest
    print(
        f"wrote {options.out / manifest.name / manifest.version} {bundle.digest}\n{_guarantees(bundle)}: sigma"
        f" {manifest.law.sigma:g} ({manifest.input.units}) is {manifest.law.sigma_steps:g} steps {_steps(manifest.input)};"
        f" every proof that serving runs holds\nserve it: certserve serve --local {options.out}"
    )


def _steps(spec: Any) -> str:
    if spec.grid.columns is not None:
        return f"of each of {spec.grid.columns} columns; values beyond a column's low and high are refused"
    return f"of {spec.length:g}, from {spec.grid.low:g} to {spec.grid.high:g}; values beyond are refused"


def _guarantees(bundle: Any) -> str:
    ood, mixture, detector = bundle.manifest.ood, bundle.manifest.mixture, bundle.detector
    parts = ["certificates"]
    if bundle.manifest.claims.joint is not None:
        parts.append("joint labels")
    if ood is not None:
        parts.append(f"detector ({ood.name}, {len(detector.calibration):,} held-out rows)")
    if mixture is not None:
        parts.append(f"mixture ({mixture.robust_weight:g} smoothed)")
    return ", ".join(parts) if len(parts) > 1 else "certificates only"
