"""The training loop: seeded by epoch, resumable at every epoch, its weights averaged.

A run is a pure function of its plan and the data: each epoch draws from a generator seeded by (seed, epoch), so a run
that was stopped and taken up again ends where an uninterrupted one does.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from export.progress import ProgressBar, progress
from export.recipes import augment
from export.robust.objective import Average, consistency, precision

_KEPT = {"settings", "done", "network", "optimiser", "schedule", "average"}
_NEXT_EPOCH = 1_000_003  # a prime, so that no two (seed, epoch) of use collide


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How one network is trained. `sigma_steps` 0 means no noise; `consistency` 0 means one draw a picture."""

    name: str
    seed: int
    epochs: int
    sigma_steps: float = 0.0
    shift: int = 0
    erase: bool = False
    label_smoothing: float = 0.0
    consistency: float = 0.0
    entropy: float = 0.0
    batch: int = 256
    peak_rate: float = 0.15
    warm_up: float = 0.2
    weight_decay: float = 5e-4
    averaging: float = 0.995

    @property
    def settings(self) -> str:
        """All of it in one line, which a checkpoint carries."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


class TrainingError(ValueError):
    """A training cannot be taken up again; the message names the checkpoint and how to mend it."""


def train(plan: TrainingPlan, network: nn.Module, images: Tensor, labels: Tensor, work: Path) -> nn.Module:
    """Train `network` on pictures uint8 [n, 1, h, w], resuming from `work`; returns it averaged, in evaluation mode."""
    optimiser = _optimiser(plan, network)
    steps = len(labels) // plan.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, plan.peak_rate, total_steps=plan.epochs * steps, pct_start=plan.warm_up
    )
    average = Average(network, plan.averaging)
    path = work / f"{plan.name}.pt"
    done = _resume(path, plan, network, optimiser, schedule, average)
    network = cast(nn.Module, network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    for epoch in range(done, plan.epochs):
        _epoch(plan, epoch, network, optimiser, schedule, average, images, labels)
        _save(path, plan, epoch + 1, network, optimiser, schedule, average)
    network.load_state_dict(average.state)
    network = cast(nn.Module, network.to(memory_format=torch.contiguous_format))  # type: ignore[call-overload]
    return network.eval()


def _epoch(
    plan: TrainingPlan,
    epoch: int,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    average: Average,
    images: Tensor,
    labels: Tensor,
) -> None:
    seed = plan.seed * _NEXT_EPOCH + epoch
    generator = Generator().manual_seed(seed)
    network.train()
    batches = list(_batches(len(labels), plan.batch, generator))
    with torch.random.fork_rng(devices=[]), _bar(plan, epoch, batches) as bar:
        torch.manual_seed(seed)  # dropout draws from the global generator
        for rows in bar:
            loss = _loss(plan, network, images[rows], labels[rows], generator)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            average.follow(network)
        bar.set_postfix(loss=f"{loss.item():.3f}")


def _bar(plan: TrainingPlan, epoch: int, batches: Sequence[Tensor]) -> ProgressBar[Tensor]:
    return progress(batches, what=f"{plan.name}, epoch {epoch + 1} of {plan.epochs}", unit="batch")


def _batches(count: int, size: int, generator: Generator) -> Iterator[Tensor]:
    order = torch.randperm(count, generator=generator)
    return (order[start : start + size] for start in range(0, count - size + 1, size))


def _loss(plan: TrainingPlan, network: nn.Module, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
    pictures = augment.flip(images, generator)
    if plan.shift:
        pictures = augment.shift(pictures, generator, most=plan.shift)
    if plan.erase:
        pictures = augment.erase(pictures, generator, least=4, most=12)
    copies = 2 if plan.consistency else 1
    lattice = pictures.float().repeat(copies, 1, 1, 1)
    if plan.sigma_steps:
        lattice = lattice + augment.rounded_gaussian(lattice.shape, plan.sigma_steps, generator)
    with precision():
        logits = network(lattice.contiguous(memory_format=torch.channels_last))
    logits = logits.float()
    loss = functional.cross_entropy(logits, labels.repeat(copies), label_smoothing=plan.label_smoothing)
    return loss + consistency(logits, plan.consistency, plan.entropy) if copies == 2 else loss


def _optimiser(plan: TrainingPlan, network: nn.Module) -> torch.optim.Optimizer:
    matrices = [value for value in network.parameters() if value.ndim > 1]
    vectors = [value for value in network.parameters() if value.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=plan.peak_rate, momentum=0.9, nesterov=True)


def _save(
    path: Path,
    plan: TrainingPlan,
    done: int,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    average: Average,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(
        {
            "settings": plan.settings,
            "done": done,
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "average": average.state,
        },
        partial,
    )
    os.replace(partial, path)  # so that a run killed while it writes leaves the epoch before


def _resume(
    path: Path,
    plan: TrainingPlan,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    average: Average,
) -> int:
    if not path.exists():
        return 0
    saved = _checkpoint(path)
    if saved["settings"] != plan.settings:
        raise TrainingError(
            f"{path} was begun with other settings ({saved['settings']}, now {plan.settings});"
            " name another work folder, or delete this file to train anew"
        )
    try:
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    schedule.load_state_dict(saved["schedule"])
    average.state = saved["average"]
    return int(saved["done"])


def _checkpoint(path: Path) -> dict[str, Any]:
    """What `_save` wrote, whole. Raises `TrainingError` for anything else."""
    try:
        saved = torch.load(path, weights_only=True)
        if saved.keys() == _KEPT:
            return cast(dict[str, Any], saved)
    except (EOFError, IsADirectoryError, RuntimeError, ValueError, AttributeError, KeyError, UnpicklingError):
        pass  # each of them is how torch says that this is none of its files
    raise _damaged(path)


def _damaged(path: Path) -> TrainingError:
    return TrainingError(f"{path} is no whole checkpoint of this recipe; delete it to train anew")
