"""`certserve evaluate`: a bundle measured on a test set. What measures is imported when the command runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """The command, for the parser of the command line."""
    evaluate = commands.add_parser("evaluate", help="measure a bundle on a test set and print a table")
    evaluate.add_argument("bundle", type=Path, help="a bundle's folder")
    evaluate.add_argument("--data", type=Path, required=True, help="a folder with the IDX files t10k-*")
    evaluate.add_argument(
        "--outside", type=Path, action="append", default=[], metavar="FOLDER/NAME", help="a set of foreign pictures"
    )
    evaluate.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from export.build.outside import outside_sets
    from export.bundle import load
    from export.bundle.batches import in_batches
    from export.data.idx import read_split
    from export.evaluation.evaluate import evaluate, markdown, shaped
    from serving.runtimes.onnx_runtime import OnnxRuntime

    bundle, test = load(options.bundle), read_split(options.data, "t10k")
    images = shaped(test.images, bundle, str(options.data))
    outside = {
        each.name: shaped(read_split(each.parent, each.name).images, bundle, str(each)) for each in options.outside
    }
    runtime = OnnxRuntime(bundle)
    outside |= outside_sets(images[::4], seed=0)
    noisy = in_batches(runtime.noisy, bundle.manifest.batch_rows)
    print(markdown(evaluate(bundle, noisy, runtime.base, images, test.labels, outside)))
