"""What is trained: a network from the caller's values to logits, its own entrance before it, and a denoiser if asked for."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from export.build.compose import Entrance
from export.inspection.outputs import Kind, Output
from export.sources.torch_module import by_name

_TINY = 1e-12
_CHANNELS, _LAYERS, _WIDTH = 32, 5, 256


class Voter(nn.Module):
    """Values [n, *shape] in the caller's units to logits [n, labels]: entrance, denoiser if there is one, network."""

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, network: nn.Module, denoiser: nn.Module | None, entrance: Entrance, output: Output, axes: int
    ) -> None:
        super().__init__()
        self.network, self.denoiser, self._output = network, denoiser, output
        self._axis = 1 if entrance.layout == "CHW" else axes
        self._reverse = entrance.reverse
        for name, values, without in (("mean", entrance.mean, 0.0), ("deviation", entrance.deviation, 1.0)):
            wide = [1] * (axes + 1)
            wide[self._axis] = len(values) or 1
            self.register_buffer(name, torch.tensor(values or (without,)).reshape(wide), persistent=False)

    def entered(self, values: Tensor) -> Tensor:
        """The values as the network takes them."""
        values = values.flip(self._axis) if self._reverse else values
        return (values - self.mean) / self.deviation

    def cleaned(self, entered: Tensor) -> Tensor:
        """What the denoiser makes of them."""
        return entered if self.denoiser is None else self.denoiser(entered)

    def of_cleaned(self, cleaned: Tensor) -> Tensor:
        """Logits of what the network takes."""
        if cleaned.ndim == 4:
            cleaned = cleaned.contiguous(memory_format=torch.channels_last)
        return logits(self.numbers(cleaned), self._output.kind or "logits")

    def numbers(self, cleaned: Tensor) -> Tensor:
        """What the network itself gives in the output that classifies."""
        found = by_name(self.network(cleaned))
        return found[self._output.name] if len(found) > 1 else next(iter(found.values()))

    def forward(self, values: Tensor) -> Tensor:
        """Logits."""
        return self.of_cleaned(self.cleaned(self.entered(values)))

    @property
    def trained(self) -> nn.Module:
        """The part whose weights move."""
        return self.network if self.denoiser is None else self.denoiser

    def training_mode(self) -> None:
        """What is frozen stays in evaluation mode."""
        self.eval()
        self.network.requires_grad_(self.denoiser is None)
        self.trained.train()


class Denoiser(nn.Module):
    """A small residual network before a frozen one (Salman et al. 2020): what it takes away from its input is the noise.

    Values are scaled by the noise's size inside, so that what is learnt has the size of one.
    """

    def __init__(self, shape: tuple[int, ...], layout: Literal["CHW", "HWC", "features"], scale: float) -> None:
        super().__init__()
        self._scale, self._shape, self._last = scale, shape, layout == "HWC"
        if layout == "features":
            size = int(torch.Size(shape).numel())
            parts: list[nn.Module] = [nn.Flatten(), nn.Linear(size, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH)]
            parts += [nn.ReLU(), nn.Linear(_WIDTH, size)]
        else:
            colours = shape[2] if self._last else shape[0]
            widths = [colours, *[_CHANNELS] * (_LAYERS - 1), colours]
            parts = []
            for before, after in pairwise(widths):
                parts += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            parts.pop()
        self.body = nn.Sequential(*parts)
        nn.init.zeros_(parts[-1].weight)  # type: ignore[arg-type]  # it begins as the identity

    def forward(self, values: Tensor) -> Tensor:
        """The values without noise, of the same shape."""
        scaled = values / self._scale
        noise = self.body(scaled.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) if self._last else self.body(scaled)
        cleaned: Tensor = values - self._scale * noise.reshape(values.shape)
        return cleaned


def logits(numbers: Tensor, kind: Kind) -> Tensor:
    """Logits [n, labels] of a network's own numbers: probabilities by their logarithm, a single number beside 0."""
    flat = numbers.flatten(1).float()
    if kind == "softmax":
        flat = flat.clamp_min(_TINY).log()
    elif kind in ("sigmoid", "scores"):
        flat = flat.clamp_min(_TINY).log() - (1 - flat).clamp_min(_TINY).log()
    return torch.cat([torch.zeros_like(flat), flat], 1) if flat.shape[1] == 1 else flat
