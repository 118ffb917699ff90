"""`certserve export`: your own model to a bundle that is proven as it would be served."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from export.options import add_flags
from serving.commands.console import given
from serving.commands.inspect import add_model, sizes


def add(commands: Any) -> None:
    """The command, for the parser of the command line."""
    export = commands.add_parser(
        "export", help="make a bundle of your own model (needs certserve[export]; --data: certserve[export,torch])"
    )
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
        "--shape", type=sizes, metavar="3x224x224", help="of one input, for --resize, where the model takes any size"
    )
    export.add_argument("--out", type=Path, default=Path("models"), help="the repository to write to (%(default)s)")
    add_flags(export)
    export.set_defaults(run=_run)


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
    parts = ["two-sided certificates" if bundle.manifest.two_sided else "certificates"]
    if bundle.manifest.claims.joint is not None:
        parts.append("joint labels")
    if bundle.manifest.thresholds:
        parts.append("confidence")
    if ood is not None:
        parts.append(f"detector ({ood.name}, {len(detector.calibration):,} held-out rows)")
    if mixture is not None:
        parts.append(f"mixture ({mixture.robust_weight:g} smoothed)")
    return ", ".join(parts) if len(parts) > 1 else "certificates only"
