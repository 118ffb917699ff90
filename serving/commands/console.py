"""What the command line says when something goes wrong: one line and an exit code, never a trace.

0    done
1    a wrong input, or a claim that does not hold; also a defect of ours, which says where it lies
2    wrong arguments
130  Ctrl-C, 141 the reader of the output has gone (`| head`), as a shell counts signals
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

_OURS = {"certify", "export", "serving"}
SERVER = (
    *("google", "grpc", "grpc_health", "grpc_reflection", "grpc_status", "httptools", "jwt", "msgspec", "multipart"),
    *("numba", "onnx", "PIL", "prometheus_client", "psutil", "pydantic", "ray", "safetensors", "simplejpeg"),
    *("starlette", "uvicorn"),
)
"""Modules that the client does without."""
EXTRA_OF = {
    **dict.fromkeys(("mpmath", "tqdm"), "export"),
    "skl2onnx": "export,sklearn",
    **dict.fromkeys(("torch", "onnxscript"), "export,torch"),
    "pyarrow": "data",
    "matplotlib": "plot",
    **dict.fromkeys(("onnxruntime", *SERVER), "cpu] or, for a machine with a GPU, certserve[gpu"),
}
"""Modules that only an optional set of requirements brings, and its name."""


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments, where argparse would print all options first."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.register("type", Path, _path)

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"{self.prog}: {one_line(message)}; see {self.prog} --help\n")


def _path(text: str) -> Path:
    """The path that an argument names. An empty one is a variable of the shell that is not set, not this folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected the path of a file or folder; got {text!r:.60}")
    return Path(text)


def given(options: argparse.Namespace, *others: str) -> dict[str, Any]:
    """What a command was given, for the function of the same arguments: all but `others`, and what every command has."""
    return {name: value for name, value in vars(options).items() if name not in ("run", "typed", *others)}


def guarded(command: Callable[[], int | None]) -> int:
    """Run a command to its exit code."""
    try:
        code = command() or 0
        sys.stdout.flush()  # here, where it can still be told that the disk is full
        return code
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except BrokenPipeError:
        _forget_output()
        return 141
    except Exception as error:
        say(explained(error))
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            return 1
        _forget_output()
        return 1


def say(text: str) -> None:
    """Tell the user, on standard error."""
    print(f"certserve: {text}", file=sys.stderr, flush=True)


def write(file: Path, text: str) -> None:
    """One output file, with a line break at its end. Raises `OSError` that says what was tried."""
    try:
        file.write_text(text + "\n")
    except OSError as error:
        raise OSError(error.errno, f"cannot be written ({error.strerror})", str(file)) from error


def explained(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, ModuleNotFoundError):
        return _missing(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory for this"
    if isinstance(error, UnicodeEncodeError):  # the shell hands on any bytes
        return one_line(f"{error.object!r:.200} is no text in UTF-8")
    if isinstance(error, OSError) and error.strerror:
        return one_line(f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror)
    # Whatever class of ours is raised was written to be read; RuntimeError and OSError come from libraries with a reason.
    if type(error).__module__.split(".")[0] in _OURS or isinstance(error, RuntimeError | OSError | ImportError):
        return one_line(str(error)) or type(error).__name__
    return f"this is a defect of certserve, please report it: {type(error).__name__}: {one_line(str(error))} {_where(error)}"


def one_line(text: str) -> str:
    """The text without line breaks, without what moves a terminal's cursor, and with bytes that are no text written out."""
    written = text.encode("utf-8", "backslashreplace").decode()
    return " ".join("".join(each if each.isprintable() else " " for each in written).split())


def _missing(error: ModuleNotFoundError) -> str:
    name = (error.name or str(error)).split(".")[0]
    if name not in EXTRA_OF:
        return f"the Python module {name!r} is missing: this installation is not whole; install certserve again"
    return f"this needs the Python module {name!r}, which is not installed; install certserve[{EXTRA_OF[name]}]"


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _forget_output() -> None:
    """Point standard output at nothing: what could not be written would be tried, and complained of, again at the end."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
