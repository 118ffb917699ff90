"""Random schedules of the server on a virtual clock: gateway, sending again, replicas with virtual devices, an exact model.

A schedule is a list of small numbers, so that hypothesis shrinks a failing one. Gateway, `Resending`, workload, scheduler
and procedures are those that are served; clients, network, threads and devices are virtual.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace

import numpy as np

from serving.config import Limits
from serving.engine.scheduler import one_at_a_time
from serving.errors import CertserveError
from serving.gateway.gateway import Gateway
from serving.gateway.retry import Resending
from serving.messages import Answer, Options, PredictRequest, Task
from serving.models.catalogue import Catalogue
from serving.security.signing import Notary
from tests.half_space import CUT
from tests.simulation.device import Device
from tests.simulation.invariants import check
from tests.simulation.replica import Replica, two_at_most
from tests.virtual_loop import Stuck, run_virtually

KINDS = ("arrive",) * 30 + ("cancel",) * 4 + ("fail", "slow") * 3 + ("lose", "freeze", "stop", "die")
ALPHA = 0.05
BOUNDARY = 18.5
"""Steps to the half-space whose target is claimed falsely most often in few draws."""
WIRE_S = 0.002
RESTART_S = 1.0
HEALTH_S = 10.0
"""Until a frozen process is missed."""
HUNG_S = 60.0
"""Until an engine is replaced whose batch never comes back."""


@dataclass(frozen=True)
class Step:
    """What happens after `pause` milliseconds: something of `KINDS`; `pick` says which one, or how much."""

    kind: str
    pick: int
    pause: int


@dataclass(eq=False)
class Asked:
    """A request, and what came of it."""

    request: PredictRequest
    arrived: float
    task: Task | None = None
    cancelled: bool = False
    frozen: bool = False
    answers: list[tuple[float, Answer | CertserveError]] = field(default_factory=list)


@dataclass(eq=False)
class World:
    """A gateway, replicas behind it, everything that was asked of them, and which invariants broke."""

    bundles: list
    secret: bytes
    device: Device
    asked: list[Asked] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    receipts: list = field(default_factory=list)
    runtimes: set = field(default_factory=set)

    def every_bundle(self) -> list:
        """All that any engine may hold."""
        return self.bundles

    def breaks(self, name: str, what: str) -> None:
        self.broken.setdefault(name, what)

    async def run(self, steps, replicas: int) -> None:
        self._clock = asyncio.get_running_loop().time
        self._current: dict[asyncio.Task, Asked] = {}
        self._turn = 0
        self._together = two_at_most if replicas > 1 else one_at_a_time
        self._replicas = [self._start() for _ in range(replicas)]
        self._sending = Resending(self._send)
        self._gateway = self._new_gateway()
        for step in steps:
            await asyncio.sleep(step.pause / 1_000)
            getattr(self, f"_{step.kind}")(step.pick)
        await asyncio.gather(*self._current, return_exceptions=True)
        await asyncio.sleep(0)
        if any(replica.left_over() for replica in self._replicas):
            self.breaks("answered_once", "something is in flight that nobody waits for")

    async def predict(self, task: Task):
        """The gateway's predictor: it notes the task that a request became."""
        self._current[asyncio.current_task()].task = task
        return await self._sending.predict(task)

    async def _send(self, task: Task):
        await asyncio.sleep(WIRE_S)
        self._turn += 1
        replica = self._replicas[self._turn % len(self._replicas)]
        self._current_asked(task).frozen |= replica.frozen
        outcome = await replica.predict(task)
        await asyncio.sleep(WIRE_S)
        return outcome

    def _current_asked(self, task: Task) -> Asked:
        return next(asked for asked in reversed(self.asked) if asked.task and asked.task.keys is task.keys)

    async def _client(self, asked: Asked) -> None:
        try:
            answer = await self._gateway.predict(asked.request)
        except CertserveError as error:
            answer = error
        asked.answers.append((self._clock(), answer))

    def _new_gateway(self) -> Gateway:
        return Gateway(Catalogue(self.bundles), self, self.secret, Limits(max_draws=1_000))

    def _start(self) -> Replica:
        notaries = {bundle.key: Notary(signer=_Clerk(self.receipts), runtime="virtual") for bundle in self.bundles}
        return Replica(self.bundles, self.device, notaries, self.breaks, self._hung, self._together)

    def _hung(self, replica: Replica) -> None:
        asyncio.get_running_loop().call_later(HUNG_S, self._replace, replica)

    def _arrive(self, pick: int) -> None:
        asked = Asked(request_number(pick), self._clock())
        self.asked.append(asked)
        self._current[asyncio.ensure_future(self._client(asked))] = asked

    def _cancel(self, pick: int) -> None:
        waiting = [(task, asked) for task, asked in self._current.items() if not task.done()]
        if waiting:
            task, asked = waiting[pick % len(waiting)]
            asked.cancelled = True
            task.cancel()

    def _replica(self, pick: int) -> Replica:
        return self._replicas[pick % len(self._replicas)]

    def _fail(self, pick: int) -> None:
        self._replica(pick).fates.extend([("fail", 1)] * (1 + pick // 8 % 3))

    def _slow(self, pick: int) -> None:
        self._replica(pick).fates.extend([("slow", 1 + pick % 50)] * 3)

    def _lose(self, pick: int) -> None:
        self._replica(pick).fates.append(("lose", 1))

    def _freeze(self, pick: int) -> None:
        """The process answers nothing any more, until its health check is missed."""
        replica = self._replica(pick)
        replica.frozen = True
        for asked in self.asked:
            asked.frozen |= not asked.answers
        asyncio.get_running_loop().call_later(HEALTH_S, self._replace, replica)

    def _stop(self, pick: int) -> None:
        replica = self._replica(pick)
        if replica.serving:
            replica.stop()
            self._again_later(replica)

    def _die(self, pick: int) -> None:
        self._replace(self._replica(pick))

    def _replace(self, replica: Replica) -> None:
        if replica.serving:
            replica.kill()
            self._again_later(replica)

    def _again_later(self, replica: Replica) -> None:
        place = self._replicas.index(replica)
        asyncio.get_running_loop().call_later(RESTART_S, self._restart, place)

    def _restart(self, place: int) -> None:
        self._replicas[place] = self._start()


@dataclass(frozen=True)
class _Clerk:
    """Signs nothing: keeps each receipt, which says exactly what was counted, and gives its number for it."""

    kept: list

    def sign(self, receipt):
        self.kept.append(receipt)
        return self

    def to_text(self) -> str:
        return str(len(self.kept) - 1)


def simulate(bundles, steps, secret: bytes = b"s" * 32, replicas: int = 2) -> World:
    """The world after a schedule, every request answered, and the invariants that broke on the way."""
    return simulated(World(bundles, secret, Device(bundles[0])), steps, replicas)


def simulated(world: World, steps, replicas: int) -> World:
    """The same of a world that is there."""
    try:
        run_virtually(world.run(steps, replicas))
    except Stuck:
        world.breaks("answered_once", "somebody waits for an answer that cannot come")
    check(world)
    return world


def seeded(bundles, seed: int) -> World:
    """A schedule of 4 to 10 steps over one to three replicas, under a secret of its own."""
    chance = random.Random(seed)
    steps = [
        Step(chance.choice(KINDS), chance.randrange(4_096), chance.choice((0, 0, 1, 10, 50)))
        for _ in range(chance.randrange(4, 11))
    ]
    return simulate(bundles, steps, seed.to_bytes(32, "big"), 1 + seed % 3)


def request_number(pick: int) -> PredictRequest:
    """One of some thousand requests: half of them at the boundary of their target, the others in every mode."""
    if pick % 2:
        first, model = CUT + 0.5 + BOUNDARY * (1 if pick % 4 == 1 else -1), "class-alone"
        options = Options(certify="target", target_radius=BOUNDARY + 1e-6, max_draws=64)
    else:
        first, model = CUT + pick // 2 % 60 - 30, "half-space"
        options = _options(pick)
    rows = np.array([[first, pick % 256, pick // 256, row] for row in range(1 + pick % 3 // 2)], dtype=np.float64)
    snapped = pick % 16 == 2
    deadline_ms = (50, 500, 5_000)[pick // 16 % 3]
    asked = replace(options, alpha=ALPHA, deadline_ms=deadline_ms, receipt=options.outputs is None, snap=snapped)
    return PredictRequest(model=model, version=None, inputs=rows + (0.25 if snapped else 0.0), options=asked)


def _options(pick: int) -> Options:
    draws = (64, 200, 640)[pick // 8 % 3]
    match pick // 2 % 6:
        case 0:
            return Options(certify="fixed", draws=1_000)
        case 1:
            return Options(certify="precision", radius_tolerance=20.0, max_draws=96)
        case 2:
            return Options(certify="off", outputs=("probabilities",))
        case 3 | 4:
            return Options(certify="best", max_draws=draws)
        case _:
            return Options(certify="target", target_radius=8.0, max_draws=draws)
