"""The command line: `certserve inspect`, `export`, `check`, `serve`, `predict`, `verify`, `replay` and others.

The composition root: the commands alone join the server with `export`, which they import when they are asked to. Little is
imported here, so that Ctrl-C is heeded from the first moment on.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from serving import log
from serving.commands import console


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what goes wrong is said in one line, with exit code 1, as is a proven counterexample."""
    return console.guarded(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int | None:
    options = _parser().parse_args(arguments)
    options.typed = shlex.join(["certserve", *(sys.argv[1:] if arguments is None else arguments)])
    log.start()
    code: int | None = options.run(options)
    return code


def _parser() -> argparse.ArgumentParser:
    from serving.commands import (
        attack,
        audit,
        build_plan,
        check,
        evaluate,
        export,
        inspect,
        keys,
        predict,
        quantize,
        recipe,
        robustify,
        serve,
        weigh,
    )

    parser = console.Parser(prog="certserve", description="Inference whose every answer says what is guaranteed.")
    parser.add_argument("--version", action="version", version=f"certserve {_version()}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for add in (
        inspect.add,
        export.add,
        robustify.add,
        quantize.add,
        weigh.add,
        check.add,
        build_plan.add,
        serve.add,
        keys.add,
        predict.add,
        audit.add_commands,
        recipe.add,
        evaluate.add,
        attack.add,
    ):
        add(commands)
    return parser


def _version() -> str:
    try:
        return version("certserve")
    except PackageNotFoundError:
        return "of unknown version, for it is not installed"


if __name__ == "__main__":
    sys.exit(main())
