from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def p_value(calibration: NDArray[np.float64], score: float) -> float:
    """Placeholder"""
    return float((1 + calibration.size - np.searchsorted(calibration, score, side="left")) / (calibration.size + 1))
