"""The server of `schedules` while its bundles are exported anew and its replicas move between unlike processors.

The folder is read by whoever starts: so gateways and replicas that restart one by one hold different contents for a while.
What is served of both is equal but for its digest: whatever is mixed up shows in the names alone.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from serving.messages import Answer
from serving.models.identity import OtherRuntime, join
from serving.security.signing import Notary
from tests.simulation.device import Device
from tests.simulation.replica import Replica
from tests.simulation.schedules import KINDS, Step, World, _Clerk, simulated

PROCESSORS = ("virtual avx2", "virtual avx512f")
ALL_KINDS = KINDS + ("export", "renew", "move") * 4


@dataclass(eq=False)
class Rollout(World):
    """`contents` of the folder, of which the first is served in the beginning; `setting` is `Settings.runtime`."""

    contents: list = field(default_factory=list)
    setting: str = ""
    refused: list[str] = field(default_factory=list)
    _kept: dict[str, str] = field(default_factory=dict)
    _processors: int = 0

    def every_bundle(self) -> list:
        return [bundle for each in self.contents for bundle in each]

    def _start(self) -> Replica:
        """A replica on the processor that is next; one that may not serve is started again, on whichever is next then."""
        runtime = PROCESSORS[self._processors % len(PROCESSORS)]
        notaries = {each.key: Notary(signer=_Clerk(self.receipts), runtime=runtime) for each in self.bundles}
        replica = Replica(self.bundles, self.device, notaries, self.breaks, self._hung, self._together, runtime)
        try:
            join({each.key: runtime for each in self.bundles}, self._agree)
        except OtherRuntime as error:
            self.refused.append(str(error))
            replica.kill()
            asyncio.get_running_loop().call_soon(self._again_later, replica)
        return replica

    def _agree(self, key: str, runtime: str) -> str:
        return self.setting or self._kept.setdefault(key, runtime)

    def _export(self, pick: int) -> None:
        """The folder changes: nobody who runs notices."""
        self.bundles = self.contents[pick % len(self.contents)]

    def _renew(self, pick: int) -> None:
        """A new gateway, which reads the folder, takes the requests that come from now on."""
        self._gateway = self._new_gateway()

    def _move(self, pick: int) -> None:
        """Replicas that start from now on come to another kind of processor."""
        self._processors += pick % 2

    def answered(self) -> list[Answer | None]:
        """What came of each request, None for what was refused or cancelled."""
        found = [asked.answers[0][1] if asked.answers else None for asked in self.asked]
        return [each if isinstance(each, Answer) else None for each in found]


def roll_out(contents, steps, secret: bytes = b"s" * 32, replicas: int = 2, setting: str = "") -> Rollout:
    """The world after a schedule, and the invariants that broke on the way."""
    world = Rollout(contents[0], secret, Device(contents[0][0]), contents=contents, setting=setting)
    return simulated(world, steps, replicas)


def seeded(contents, seed: int) -> Rollout:
    """A schedule of 8 to 20 steps over one to three replicas, under a secret of its own."""
    chance = random.Random(seed)
    steps = [
        Step(chance.choice(ALL_KINDS), chance.randrange(4_096), chance.choice((0, 1, 50, 1_200)))
        for _ in range(chance.randrange(8, 21))
    ]
    setting = chance.choice(("", "", *PROCESSORS))
    return roll_out(contents, steps, seed.to_bytes(32, "big"), 1 + seed % 3, setting)
