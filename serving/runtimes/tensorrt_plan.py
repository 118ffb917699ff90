"""Plans built from the graphs of a bundle by TensorRT's own Python API: strongly typed, for one fixed batch.

The precision of every operator is the graph's: TensorRT is allowed no TF32 and no lower type. It is told that a row's result
must not depend on its place in the batch (`DISTRIBUTIVE_INDEPENDENCE`) and that NaN is compared as IEEE says
(`STRICT_NANS`); readiness tries the first bit for bit.

`trt` is the module: `tensorrt` where it serves, `tensorrt_rtx` in the tests, which has the same API and needs no GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from export.graphs.reading import one_line
from serving.runtimes.device_program import DeviceError

SETTINGS = "strongly typed, no TF32, distributive independence, strict NaN"
_SET, _CLEARED = ("DISTRIBUTIVE_INDEPENDENCE", "STRICT_NANS"), ("TF32",)


def library() -> Any:
    """The module of TensorRT. Raises `DeviceError` where it is not installed or not whole."""
    try:
        import tensorrt
    except Exception as error:  # absent, or its libraries are
        raise DeviceError(
            f"TensorRT cannot be imported ({one_line(error)}): pip install 'certserve[gpu]', which needs"
            " NVIDIA's own package index, or serve with --provider cuda or cpu"
        ) from error
    return tensorrt


def build(
    trt: Any, graph: bytes, rows: int, where: str, say: Callable[[str], None], timing: bytes = b""
) -> tuple[bytes, bytes]:
    """The plan of `graph` in batches of exactly `rows`, and what was timed, which makes the next build faster.

    `say` is told of each phase. Raises `DeviceError` with what TensorRT says against the graph.
    """
    log = _log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph):
        said = "; ".join(str(parser.get_error(place)) for place in range(parser.num_errors))
        raise _refused(where, said)
    for place in range(network.num_inputs):
        tensor = network.get_input(place)
        tensor.shape = (rows, *list(tensor.shape)[1:])
    config = builder.create_builder_config()
    _set_flags(trt, config)
    config.progress_monitor = _monitor(trt, where, say)
    cache = config.create_timing_cache(timing)
    config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _refused(where, "; ".join(log.said[-3:]))
    return bytes(plan), bytes(cache.serialize())


def _set_flags(trt: Any, config: Any) -> None:
    for name in _SET:
        config.set_flag(getattr(trt.BuilderFlag, name))
    for name in _CLEARED:
        config.clear_flag(getattr(trt.BuilderFlag, name))


def _refused(where: str, said: str) -> DeviceError:
    reason = " ".join(said.split())[:300] or "it does not say why"
    return DeviceError(f"TensorRT does not build {where}: {reason}; serve it with --provider cuda or cpu")


def _log(trt: Any) -> Any:
    """A logger that keeps what is wrong and prints nothing: errors are raised, in one line."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.said: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.said.append(message)

    return Log()


def _monitor(trt: Any, where: str, say: Callable[[str], None]) -> Any:
    """Tells of each outermost phase; nothing ever breaks a build off."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            say(f"{where}: {phase}")

        def step_complete(self, phase: str, step: int) -> bool:
            return True

        def phase_finish(self, phase: str) -> None:
            pass

    return Monitor()
