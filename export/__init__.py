"""Making a bundle, offline: `inspect`, `export`, `check`, `from_scikit_learn` and `from_torch` are those of `own_model`.

They are imported when they are asked for, since a server reads bundles and needs nothing that makes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.own_model import check, export, from_scikit_learn, from_torch, inspect

__all__ = ["check", "export", "from_scikit_learn", "from_torch", "inspect"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from export import own_model

    return getattr(own_model, name)
