"""What a benchmark says: one ratio, and the bounds that it is to keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One ratio: `ours` and `beside` say in words and units what was divided; `gate` and `aim` are bounds of `ratio`."""

    figure: str
    ours: str
    beside: str
    ratio: float
    gate: float | None = None
    aim: float | None = None
    less_is_better: bool = False

    @property
    def verdict(self) -> str:
        for name, bound in (("aim", self.aim), ("gate", self.gate)):
            if bound is not None and (self.ratio <= bound if self.less_is_better else self.ratio >= bound):
                return name
        return "-" if self.gate is None else "missed"
