"""`device_kernels.cu` built by the C compiler of this machine: the very source that a device runs, on the host."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import lru_cache
from pathlib import Path

import numpy as np

from serving.runtimes import device_batch
from serving.runtimes.noise_kernel import Draws

_ONE_LAUNCH = threading.Lock()


def compiler() -> list[str]:
    """The C compiler that CC names or the machine has, else the one that the `ziglang` package brings."""
    found = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    return found.split() if found else [sys.executable, "-m", "ziglang", "cc"]


@lru_cache
def library(element: int = 0) -> ctypes.CDLL:
    """The kernels for one kind of element."""
    folder = Path(tempfile.mkdtemp(prefix="kernels-"))
    try:
        target = folder / f"kernels-{element}.so"
        flags = [
            "-std=c99",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pedantic",
            "-O2",
            "-shared",
            "-fPIC",
            f"-DELEMENT={element}",
        ]
        subprocess.run(
            [*compiler(), "-x", "c", *flags, "-o", str(target), str(device_batch.SOURCE)], check=True, timeout=120
        )
        return ctypes.CDLL(str(target))  # it stays mapped when the file is gone
    finally:
        shutil.rmtree(folder)


def launch(element: int, kernel: str, grid: tuple[int, int], *arguments: int | ctypes._SimpleCData) -> None:
    """What a launch on a device does: every block of the grid once. Plain integers are addresses.

    One launch at a time, whatever devices there are: which block it is stands in a variable of the library.
    """
    kernels = library(element)
    function = getattr(kernels, kernel)
    block = (ctypes.c_uint * 2).in_dll(kernels, "block_of_the_grid")
    given = [ctypes.c_void_p(each) if isinstance(each, int) else each for each in arguments]
    with _ONE_LAUNCH:
        for block[1] in range(grid[1]):
            for block[0] in range(grid[0]):
                function(*given)


def add_noise(law, parts: list[Draws], rows: int, kind=np.int32):
    """A batch of `rows` rows as the kernels fill it, those of nobody included."""
    tables, coordinates = device_batch.NoiseTables.of(law), device_batch._around(parts[0]).shape[1]
    described, lattices = np.empty((rows, 4), np.uint64), np.zeros((rows, coordinates), np.int32)
    device_batch.check(parts, rows, coordinates)
    device_batch.describe(parts, described, lattices)
    out = np.full((rows, coordinates), 77, kind)
    launch(
        device_batch._ELEMENTS[np.dtype(kind)][0],
        "add_noise",
        device_batch.grid(rows, coordinates),
        *(each.ctypes.data for each in (described, lattices, tables.values, tables.above, tables.edges)),
        ctypes.c_uint(tables.largest),
        ctypes.c_uint(coordinates),
        out.ctypes.data,
    )
    return out
