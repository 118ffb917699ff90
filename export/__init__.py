"""Making a bundle, offline: the functions of `own_model`, `robustify` and `quantize`, each the command of its name.

They are imported when they are asked for, since a server reads bundles and needs nothing that makes them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.own_model import check, evaluate, export, from_scikit_learn, from_torch, inspect
    from export.precision import quantize
    from export.robust.robustify import robustify
    from export.weighing import weigh

__all__ = [
    "check",
    "evaluate",
    "export",
    "from_scikit_learn",
    "from_torch",
    "inspect",
    "quantize",
    "robustify",
    "weigh",
]
_ELSEWHERE = {"quantize": "export.precision", "robustify": "export.robust.robustify", "weigh": "export.weighing"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE.get(name, "export.own_model")), name)
