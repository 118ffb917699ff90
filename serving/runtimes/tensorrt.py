"""A bundle on a device by TensorRT: its plans, from the cache or built now, behind the runtime protocol."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from export.bundle import Bundle
from export.bundle.files import BASE, NOISY
from export.graphs.prepared import Prepared, prepare
from export.graphs.reading import place
from serving import cache
from serving.runtimes import plans, tensorrt_plan
from serving.runtimes.cuda_driver import CudaDriver
from serving.runtimes.device_driver import DeviceFacts, Driver
from serving.runtimes.device_program import compiled
from serving.runtimes.device_rate import neighbours
from serving.runtimes.device_runtime import DeviceRuntime, NotKept, open_on
from serving.runtimes.tensorrt_network import TensorRtNetwork
from serving.runtimes.whole_file import write_whole

_log = logging.getLogger("certserve.tensorrt")
Say = Callable[[str], None]


def open_tensorrt(bundle: Bundle, provider: str, base_rows: int) -> DeviceRuntime:
    """The bundle on the first device. Raises `ProviderError` where it, TensorRT or a package is missing, `GraphError` for a
    graph that is not to be served. A plan that is not kept is built first, which takes minutes.
    """
    trt, driver = tensorrt_plan.library(), CudaDriver()
    kernels = partial(compiled, architecture=driver.facts.architecture, folder=cache.folder("kernels"))
    return on_device(bundle, trt, driver, kernels, base_rows, cache.folder("plans"))


def on_device(
    bundle: Bundle, trt: Any, driver: Driver, kernels: Callable[[int], bytes], base_rows: int, folder: Path
) -> DeviceRuntime:
    """The bundle on this device, with the `kernels` for the type that its graph takes, and with plans kept in `folder`.

    For the sake of a measurement no plan is built: `build_plans` does that.
    """

    def network(file: str, rows: int) -> tuple[Prepared, TensorRtNetwork]:
        graph, where = prepare(bundle, file), place(bundle, file)
        if rows not in (bundle.manifest.batch_rows, base_rows) and not _kept(
            trt, driver.facts, graph.data, rows, folder
        ):
            raise NotKept
        plan = plan_of(trt, driver.facts, graph.data, rows, where, folder, _log.info)
        return graph, TensorRtNetwork(trt, driver, plan, where)

    return open_on(bundle, driver, kernels, network, base_rows, _library(trt))


def build_plans(bundle: Bundle, base_rows: int, say: Say) -> None:
    """Build and keep what `open_tensorrt` would, and what it would measure beside it, but nothing that is kept already.
    Raises as it does.
    """
    trt, driver, folder = tensorrt_plan.library(), CudaDriver(), cache.folder("plans")
    for file, rows in planned(bundle, base_rows):
        plan_of(trt, driver.facts, prepare(bundle, file).data, rows, place(bundle, file), folder, say)


def planned(bundle: Bundle, base_rows: int) -> list[tuple[str, int]]:
    """The file and the rows of each plan of a bundle: the two that serve, then those that are measured beside them."""
    declared = bundle.manifest.batch_rows
    beside = neighbours(declared, bundle.manifest.input.size)
    return [(NOISY, declared), (BASE, base_rows), *((NOISY, rows) for rows in beside)]


def _kept(trt: Any, facts: DeviceFacts, graph: bytes, rows: int, folder: Path) -> bool:
    return plans.read(folder, plans.PlanKey.of(graph, rows, tensorrt_plan.SETTINGS, _library(trt), facts)) is not None


def plan_of(trt: Any, facts: DeviceFacts, graph: bytes, rows: int, where: str, folder: Path, say: Say) -> bytes:
    """The plan of a graph for this device: the one that is kept, or a new one, which is kept then."""
    key = plans.PlanKey.of(graph, rows, tensorrt_plan.SETTINGS, _library(trt), facts)
    kept = plans.read(folder, key)
    if kept is not None:
        say(f"{where}: its plan is kept")
        return kept
    times = folder / plans.timing_name(key)
    plan, timing = tensorrt_plan.build(trt, graph, rows, where, say, _bytes(times))
    write_whole(times, timing)
    if not plans.keep(folder, key, plan):
        say(f"{where}: its plan cannot be kept in {folder}; it is built anew at each start")
    return plan


def _library(trt: Any) -> str:
    return f"tensorrt {trt.__version__}"


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
