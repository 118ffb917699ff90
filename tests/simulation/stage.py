"""Adaptive clients, the gateway, two replicas that lose what they dislike, and an account of all that was claimed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from serving.config import Limits
from serving.errors import DeadlinePassed, Overloaded
from serving.gateway.gateway import Gateway
from serving.gateway.retry import Resending
from serving.messages import Options, PredictRequest
from serving.models.catalogue import Catalogue
from tests.simulation.clients import Client
from tests.simulation.losing import MAX_DRAWS, TOLERANCES, WISHES, LosingReplica, Noise
from tests.simulation.oracles import Oracle
from tests.virtual_loop import run_virtually

TOGETHER = 6
"""Inputs whose clients ask at the same time."""


@dataclass(eq=False)
class Account:
    """What came of some inputs: answers by mode, and inputs with something false by kind and by event."""

    inputs: int = 0
    answers: Counter = field(default_factory=Counter)
    false: Counter = field(default_factory=Counter)
    anytime: int = 0
    fixed: int = 0
    either: int = 0
    two_scores: int = 0
    dearest: float = 0.0
    """The most that the answers on one input say together of the alpha that they spend on either event, over alpha."""
    broken: list[str] = field(default_factory=list)

    def add(self, client: Client) -> None:
        """One input, of which everything was asked."""
        self.inputs += 1
        self.answers.update(client.answers)
        self.answers.update(lost=client.lost, cut=client.cut, refused=client.refused)
        self.false.update(client.anytime)
        self.false.update(f"fixed: {kind}" for kind in client.fixed)
        self.anytime += bool(client.anytime)
        self.fixed += bool(client.fixed)
        self.either += bool(client.anytime or client.fixed)
        self.two_scores += len(client.scores) > 1
        menu = sum(spent for draws, spent in client.budgets.items() if draws != "anytime")
        self.dearest = max(self.dearest, menu / client.alpha, client.budgets.get("anytime", 0.0) / client.alpha)

    def merge(self, other: Account) -> Account:
        """Both together."""
        for name in ("inputs", "anytime", "fixed", "either", "two_scores"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.answers.update(other.answers)
        self.false.update(other.false)
        self.dearest = max(self.dearest, other.dearest)
        self.broken += other.broken
        return self

    def every_answer(self) -> int:
        """How many answers there were, of every mode."""
        return sum(self.answers[mode] for mode in ("target", "best", "precision", "off", "fixed"))


def played(oracle: Oracle, alpha: float, seeds: range, client=Client, tolerances=TOLERANCES, wishes=WISHES) -> Account:
    """Some inputs for each seed: the secret, what is asked about them and what the device wishes follow from it."""
    account = Account()
    for seed in seeds:
        run_virtually(_play(oracle, alpha, seed, client, tolerances[seed % len(tolerances)], wishes, account))
    return account


async def _play(oracle: Oracle, alpha: float, seed: int, client, tolerance: float, wishes, account: Account) -> None:
    chance = random.Random(seed)
    rests = [np.array([n % 256, n // 256 % 256, n // 65_536]) for n in chance.sample(range(256**3), TOGETHER)]
    wishes = {tuple(rest.tolist()): chance.choice(wishes) for rest in rests}
    noise = Noise(oracle, lambda lattice: wishes[tuple(lattice[1:].tolist())])
    broken = account.broken
    replicas = [
        LosingReplica([oracle.bundle], noise, tolerance, lambda *what: broken.append(f"{seed}: {what}"))
        for _ in range(2)
    ]
    gateway = _gateway(oracle, replicas, seed.to_bytes(32, "big"))
    clients = [client(oracle, chance.choice(oracle.firsts), alpha, random.Random(chance.random())) for _ in rests]
    await asyncio.gather(
        *(each.ask_on(_asking(gateway, oracle, each.first, rest)) for each, rest in zip(clients, rests, strict=True))
    )
    for each in clients:
        account.add(each)


def _gateway(oracle: Oracle, replicas: list[LosingReplica], secret: bytes) -> Gateway:
    turns = 0

    async def send(task):
        nonlocal turns
        turns += 1
        return await replicas[turns % len(replicas)].predict(task)

    return Gateway(Catalogue([oracle.bundle]), Resending(send), secret, Limits(max_draws=MAX_DRAWS))


def _asking(gateway: Gateway, oracle: Oracle, first: int, rest: np.ndarray):
    async def ask(options: Options):
        lattice = np.array([[first, *rest.tolist()]])
        request = PredictRequest(model=oracle.bundle.manifest.name, version=None, inputs=lattice, options=options)
        try:
            return (await gateway.predict(request)).predictions[0]
        except (DeadlinePassed, Overloaded):
            return None

    return ask
