"""`device_kernels.cu` compiled for one kind of device, by NVRTC through `cuda.core`: no GPU and no driver is needed.

A compiled kernel is kept in a folder of the user's own under a name that says all it depends on: source, options, kind of
device and compiler. Whatever differs is another name, so nothing that is kept is ever wrong.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from export.graphs.reading import one_line
from serving.runtimes.device_batch import SOURCE
from serving.runtimes.runtime import ProviderError
from serving.runtimes.whole_file import write_whole

PACKAGES = ("cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc")


class DeviceError(ProviderError):
    """The device cannot be used: what is missing, how to install it, what serves without it."""


def compiled(element: int, architecture: str, folder: Path) -> bytes:
    """The kernels for `architecture`, as "sm_90", writing elements of this kind: a cubin, from `folder` where it is there.

    Raises `DeviceError` where a package is missing or NVRTC refuses.
    """
    source = SOURCE.read_text()
    kept = folder / f"kernels-{architecture}-{element}-{_digest(source, architecture, element)}.cubin"
    try:
        found = kept.read_bytes()
    except OSError:
        found = b""
    if found.startswith(b"\x7fELF"):
        return found
    code = _compile(source, element, architecture)
    write_whole(kept, code)  # where nothing can be written it is compiled again at the next start
    return code


def versions() -> str:
    """Of all that takes part in compiling; raises `DeviceError` where one is missing."""
    try:
        return " ".join(f"{name} {version(name)}" for name in PACKAGES)
    except PackageNotFoundError as error:
        raise DeviceError(
            f"the package {error.name} is missing, which compiles the kernels of a GPU: pip install"
            f" 'certserve[gpu]', or serve with --provider cpu"
        ) from error


def _digest(source: str, architecture: str, element: int) -> str:
    return hashlib.sha256("\0".join([source, architecture, str(element), versions()]).encode()).hexdigest()[:32]


def _compile(source: str, element: int, architecture: str) -> bytes:
    from cuda.core import Program, ProgramOptions  # takes seconds to import, and only where there is a device

    options = ProgramOptions(arch=architecture, define_macro=[("ELEMENT", str(element))])
    try:
        return bytes(Program(source, "c++", options).compile("cubin").code)
    except Exception as error:  # its kinds are private
        raise DeviceError(
            f"NVRTC ({versions()}) does not compile the kernels for {architecture}: {one_line(error)}; install a release"
            " that knows the device, or serve with --provider cpu"
        ) from error
