"""A torch module from `package.module:factory` and weights that hold numbers alone: safetensors, or a state dict."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from export.sources import torch_module
from export.sources.source import Source, SourceError


def read(module: str, factory: str, weights: Path | None, shape: tuple[int, ...] | None) -> Source:
    """The module that `factory()` makes, with these weights, in evaluation mode. Raises `SourceError`."""
    made = _made(module, factory)
    if weights is not None:
        _load(made, weights)
    if shape is None:
        raise SourceError(f"{module}:{factory} does not say what it takes; give --samples, or --shape")
    return torch_module.source(made.eval(), shape, name=f"{module}:{factory}", weights=weights)


def _made(module: str, factory: str) -> nn.Module:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # a user's own module lies where the command is run
    try:
        found = getattr(importlib.import_module(module), factory)
    except (Exception, SystemExit) as error:  # a user's module may raise anything while it is imported
        raise SourceError(
            f"{module}:{factory} cannot be imported ({_said(error)}); run this where the module lies"
        ) from error
    try:
        made = found()
    except (Exception, SystemExit) as error:
        raise SourceError(
            f"{module}:{factory}() raised {_said(error)}; expected a function without arguments that makes the module"
        ) from error
    if not isinstance(made, nn.Module):
        raise SourceError(f"{module}:{factory} makes a {type(made).__name__}; expected a torch.nn.Module")
    return made


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _load(made: nn.Module, weights: Path) -> None:
    if not weights.is_file():
        raise SourceError(
            f"--weights: {weights} is no file; expected safetensors, or a state dict as torch.save writes it"
        )
    try:
        state = load_file(weights) if weights.suffix == ".safetensors" else _state(weights)
        made.load_state_dict(_unwrapped(state, made))
    except (SafetensorError, RuntimeError, TypeError, AttributeError, EOFError) as error:
        text = " ".join(str(error).split())[:300]
        raise SourceError(f"{weights} does not hold the weights of this module ({text})") from error


def _unwrapped(state: Mapping[str, Tensor], made: nn.Module) -> Mapping[str, Tensor]:
    """The names without a prefix that all of them have before the module's own, as modules around it put there."""
    wanted = set(made.state_dict())
    some = min(wanted, default="")
    for prefix in {name.removesuffix(some) for name in state if some and name.endswith(some)}:
        if {prefix + name for name in wanted} == set(state):
            return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _state(weights: Path) -> Mapping[str, Tensor]:
    """Tensors alone: `weights_only` refuses whatever could run code."""
    try:
        found: Any = torch.load(weights, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises its own kinds and pickle's
        raise SourceError(
            f"{weights} holds more than numbers, or is damaged; save the state dict alone (torch.save(module.state_dict()))"
            " or safetensors"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise SourceError(f"{weights} is no state dict (names to tensors); save module.state_dict()")
    return found
