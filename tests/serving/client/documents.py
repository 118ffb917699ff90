"""A row of an answer, as the server gives it."""

from __future__ import annotations

ROW = {
    "label": "<b>bag</b>",
    "class_index": 1,
    "probabilities": [0.25, 0.75],
    "certificate": {
        "status": "certified",
        "label": "bag",
        "radius": 0.50009,
        "reaches_others": True,
        "norm": "l2",
        "sigma": 0.25,
        "p_a_lower": 0.97,
        "p_b_upper": 0.03,
        "procedure": "target",
        "target_radius": 0.5,
        "radius_tolerance": None,
        "of_a_later_version": 1,
    },
    "ood": {"score": 1.5, "p_value": 0.25, "in_distribution": True, "threshold": 3.0, "certified": None},
    "mixture": {
        "label": "bag",
        "probabilities": [0.1, 0.9],
        "robust_weight": 0.9,
        "radius": 0.0,
        "reaches_others": False,
    },
    "alpha": 0.001,
    "alpha_split": {"class": 0.5, "upper": 0.2, "threshold": 0.1, "interval": 0.2},
    "draws": 384,
    "lost_draws": 0,
    "model": {"name": "a", "version": "1", "digest": "sha256:0", "runtime": "r"},
}
