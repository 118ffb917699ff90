"""The training loop: each step a pure function of its number, kept every half minute, so that a stopped run goes on.

A run that was broken off and taken up again ends where an uninterrupted one does.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional

from export.bundle import InputSpec
from export.progress import ProgressBar, progress
from export.robust.networks import Voter
from export.robust.objective import Average, consistency, precision
from export.robust.rows import StoredRows, values

KEEP_EVERY_S = 30.0
_NEXT = 1_000_003  # a prime, so that no two (seed, step) of use collide
_LONGEST = 1.0
"""The largest norm of a step's gradient, a common remedy against rare large ones."""


class LearningError(ValueError):
    """A training cannot begin, or be taken up again; the message says how to mend it."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How the weights move. `identity` is what else the run depends on: data, network and grid."""

    sigma_steps: float
    epochs: int
    rate: float
    identity: str
    seed: int = 1
    batch: int = 128
    warm_up: float = 0.1
    weight_decay: float = 1e-4
    weight: float = 10.0
    entropy: float = 0.5
    restoring: float = 1.0
    averaging: float = 0.995

    def steps(self, rows: int) -> int:
        """Of the whole run."""
        return self.epochs * (rows // self.batch)

    def rate_at(self, step: int, steps: int) -> float:
        """Up from zero, then down to it along a cosine."""
        rising = max(1, round(self.warm_up * steps))
        if step < rising:
            return self.rate * (step + 1) / rising
        return self.rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def learn(plan: Learning, voter: Voter, rows: StoredRows, spec: InputSpec, path: Path) -> None:
    """Train what is trained of `voter`, in place, resuming from the file `path`; it ends averaged, in evaluation mode."""
    if len(rows) < plan.batch:
        plan = dataclasses.replace(plan, batch=len(rows))
    voter.training_mode()
    optimiser = _optimiser(plan, voter.trained)
    average = Average(voter.trained, plan.averaging)
    steps = plan.steps(len(rows))
    if not steps:
        raise LearningError(f"expected one epoch or more of two rows or more; got {plan.epochs} of {len(rows)}")
    done = _resumed(path, plan, voter.trained, optimiser, average)
    kept = time.monotonic()
    bar: ProgressBar[object] = progress(what="training", total=steps, initial=done, unit="step")
    with bar, torch.random.fork_rng(devices=[]):
        for step, places in _batches(plan, len(rows), done, steps):
            loss = _step(plan, voter, rows, places, spec, optimiser, step, plan.rate_at(step, steps))
            average.follow(voter.trained, step)
            bar.set_postfix(loss=f"{loss:.3f}")
            bar.update()
            if time.monotonic() - kept > KEEP_EVERY_S or step + 1 == steps:
                _keep(path, plan, step + 1, voter.trained, optimiser, average)
                kept = time.monotonic()
    voter.trained.load_state_dict(average.state)
    voter.eval().requires_grad_(False)


def _batches(plan: Learning, rows: int, done: int, steps: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Every step that is left with its rows: an order of its own for each epoch."""
    each = rows // plan.batch
    for step in range(done, steps):
        epoch, place = divmod(step, each)
        if step == done or place == 0:
            order = np.random.default_rng([plan.seed, epoch]).permutation(rows)
        yield step, order[place * plan.batch : (place + 1) * plan.batch]


def _step(
    plan: Learning,
    voter: Voter,
    rows: StoredRows,
    places: NDArray[np.int64],
    spec: InputSpec,
    optimiser: torch.optim.Optimizer,
    step: int,
    rate: float,
) -> float:
    seed = plan.seed * _NEXT + step
    torch.manual_seed(seed)  # dropout draws from the global generator
    lattice, labels = rows.batch(np.sort(places))
    for group in optimiser.param_groups:
        group["lr"] = rate
    loss = _loss(plan, voter, lattice, labels, spec, Generator().manual_seed(seed))
    if not bool(torch.isfinite(loss)):
        raise LearningError(f"the loss is not finite at step {step + 1}; try a smaller --rate, in a folder of its own")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(voter.trained.parameters(), _LONGEST)
    optimiser.step()
    return float(loss.detach())


def _loss(
    plan: Learning, voter: Voter, lattice: Tensor, labels: Tensor, spec: InputSpec, generator: Generator
) -> Tensor:
    both = lattice.repeat(2, *[1] * (lattice.ndim - 1))
    noisy = both + torch.round(torch.randn(both.shape, generator=generator) * plan.sigma_steps)
    entered = voter.entered(values(spec, noisy))
    with precision():
        cleaned = voter.cleaned(entered)
        logits = voter.of_cleaned(cleaned)
    logits = logits.float()
    loss = functional.cross_entropy(logits, labels.repeat(2)) + consistency(logits, plan.weight, plan.entropy)
    if voter.denoiser is None or not plan.restoring:
        return loss
    clean = voter.entered(values(spec, both))
    return loss + plan.restoring * functional.mse_loss(cleaned, clean) / (clean - entered).square().mean()


def _optimiser(plan: Learning, network: nn.Module) -> torch.optim.Optimizer:
    weights = [each for each in network.parameters() if each.requires_grad]
    if not weights:
        raise LearningError("the network has no weights that can be trained; give --denoiser to put some before it")
    groups: list[dict[str, Any]] = [
        {"params": [each for each in weights if each.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [each for each in weights if each.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=plan.rate)


def _keep(
    path: Path, plan: Learning, done: int, network: nn.Module, optimiser: torch.optim.Optimizer, average: Average
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    saved = {"plan": _said(plan), "done": done, "network": network.state_dict(), "average": average.state}
    torch.save(saved | {"optimiser": optimiser.state_dict()}, partial)
    os.replace(partial, path)  # so that a run killed while it writes leaves what was kept before


def _resumed(path: Path, plan: Learning, network: nn.Module, optimiser: torch.optim.Optimizer, average: Average) -> int:
    if not path.exists():
        return 0
    try:
        saved = torch.load(path, weights_only=True)
        if saved["plan"] != _said(plan):
            raise LearningError(
                f"{path} was begun with other data, another network or other settings; name another --out, or delete this"
                " file to train anew"
            )
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        average.state, done = saved["average"], int(saved["done"])
    except LearningError:
        raise
    except Exception as error:  # torch raises its own kinds, pickle's and zip's
        raise LearningError(f"{path} is no whole checkpoint of this training; delete it to train anew") from error
    return done


def _said(plan: Learning) -> str:
    return json.dumps(dataclasses.asdict(plan), sort_keys=True)
