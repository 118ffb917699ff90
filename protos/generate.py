"""Regenerate the stubs: `python -m protos.generate`, or with `--check` compare them with what is committed.

It needs grpcio-tools 1.80.0, whose stubs run under protobuf 6.33 as well as 7; a newer generator would bind the house
to a newer protobuf than the official clients allow. Nothing that serves needs the generator.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

GENERATOR = "1.80.0"
HERE = Path(__file__).resolve().parent
SOURCES = ("protos/inference/open_inference.proto", "protos/certserve/v1/certserve.proto")
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


def generate(target: Path) -> None:
    """Write the stubs of all sources below `target`."""
    from grpc_tools import _proto, protoc

    arguments = [
        "protoc",
        f"-I{HERE.parent}",
        f"-I{Path(next(iter(_proto.__path__)))}",
        f"--python_out={target}",
        f"--pyi_out={target}",
        f"--grpc_python_out={target}",
        *SOURCES,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc refused a source; its message is above")


def stale() -> list[str]:
    """The committed stubs that differ from newly generated ones."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        return [path for path in stubs() if _text(Path(folder) / path) != _text(HERE.parent / path)]


def stubs() -> list[str]:
    """Every generated file, relative to the repository."""
    return [source.removesuffix(".proto") + suffix for source in SOURCES for suffix in SUFFIXES]


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _check_generator() -> None:
    try:
        found = version("grpcio-tools")
    except PackageNotFoundError:
        found = "none"
    if found != GENERATOR:
        raise SystemExit(
            f"the stubs need grpcio-tools {GENERATOR}, found {found}: pip install grpcio-tools=={GENERATOR}"
        )


def main() -> None:
    """Generate in place, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check: bool = parser.parse_args().check
    _check_generator()
    if not check:
        generate(HERE.parent)
    elif different := stale():
        sys.exit(f"not as generated: {', '.join(different)}; run python -m protos.generate and commit")


if __name__ == "__main__":
    main()
