"""The command line: `certserve inspect`, `export`, `check`, `serve`, `predict`, `verify`, `replay` and others.

The composition root: the commands alone join the server with `export`, which they import when they are asked to. Little is
imported here, so that Ctrl-C is heeded from the first moment on.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from serving import log
from serving.commands import console

_COMMANDS = {
    "inspect": ("inspect",),
    "export": ("export",),
    "robustify": ("robustify",),
    "quantize": ("quantize",),
    "weigh": ("weigh",),
    "check": ("check",),
    "build_plan": ("build-plan",),
    "serve": ("serve",),
    "keys": ("keys",),
    "predict": ("predict",),
    "audit": ("verify", "replay"),
    "recipe": ("recipe",),
    "evaluate": ("evaluate",),
    "attack": ("attack",),
}
"""Modules and the commands in them, in the order in which they are listed."""


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
    parser = console.Parser(prog="certserve", description="Inference whose every answer says what is guaranteed.")
    parser.add_argument("--version", action="version", version=f"certserve {_version()}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for module, names in _COMMANDS.items():
        try:
            found = importlib.import_module(f"serving.commands.{module}")
        except ModuleNotFoundError as missing:  # the client alone is installed
            for name in names:
                _absent(commands, name, missing)
        else:
            found.add(commands)
    return parser


def _version() -> str:
    try:
        return version("certserve")
    except PackageNotFoundError:
        return "of unknown version, for it is not installed"


def _absent(commands: Any, name: str, missing: ModuleNotFoundError) -> None:
    """A command that says what has to be installed for it, whatever follows."""

    def run(_: argparse.Namespace) -> None:
        raise missing

    absent = commands.add_parser(name, help="(not installed)", add_help=False)
    absent.add_argument("rest", nargs=argparse.REMAINDER)
    absent.set_defaults(run=run)


if __name__ == "__main__":
    sys.exit(main())
