"""What a network learns to vote well under noise: to be right, and to say the same of every draw, firmly."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional


def consistency(logits: Tensor, weight: float, entropy: float) -> Tensor:
    """Consistency regularisation (Jeong and Shin 2020) of logits [2 * n, classes], the first draws of all rows and then
    the second ones.

    `weight * mean KL(mean || draw) + entropy * H(mean)`, the mean being that of the two draws' probabilities.
    """
    each = functional.log_softmax(logits, dim=1).view(2, -1, logits.shape[1])
    mean = each.exp().mean(0)
    log_mean = mean.clamp_min(1e-12).log()
    apart = (mean * (log_mean - each)).sum(-1).mean()
    return weight * apart - entropy * (mean * log_mean).sum(-1).mean()


class Average:
    """The running mean of weights and batch statistics; it is what is kept."""

    def __init__(self, network: nn.Module, rate: float) -> None:
        self._rate = rate
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def follow(self, network: nn.Module, step: int | None = None) -> None:
        """Take in the network as it is after a step; of the first steps, by their number, the mean is over few."""
        rate = self._rate if step is None else min(self._rate, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - rate)
            else:
                self.state[name].copy_(value)


def precision() -> AbstractContextManager[object]:
    """bfloat16 where the processor multiplies in it, which doubles the speed; float32 elsewhere."""
    fast = torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.autocast("cpu", dtype=torch.bfloat16) if fast else nullcontext()
