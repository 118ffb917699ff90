"""A bundle of three classes between two half-spaces, without a score: the second oracle, of another kind than the first.

The noisy network votes "low", "middle" or "high" by where the first coordinate lies beside two cuts. The middle class is a
band: it has misses on both sides, and its true radius is larger than what its share proves.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from export.build.noise_table import rounded_gaussian_tails
from export.bundle import FORMAT, ArgmaxRule, Bundle, Defaults, Golden, Manifest, MixtureSpec, claims, graphs, write
from tests.declared import gaussian, spec
from tests.half_space import COORDINATES, SIGMA, first_coordinate, model_of

CUTS = (99, 155)
LABELS = ("low", "middle", "high")
SLOPES = np.array([-0.05, 0.0, 0.05], dtype=np.float32)
SHIFTS = np.array([0.05 * CUTS[0], 0.0, -0.05 * CUTS[1]], dtype=np.float32)


def write_three_classes(
    folder: Path, name: str = "three-classes", two_sided: bool = False, **declared: object
) -> Bundle:
    """Write the bundle to `folder/<name>/1`, `two_sided` or not; `declared` are further fields of the manifest."""
    grid = np.array([[x, 1, 2, 3] for x in (40, 90, 128, 165, 250)], dtype=np.int32)
    powers = np.exp(grid[:, :1].astype(np.float32) * SLOPES + SHIFTS)
    manifest = Manifest(
        format=FORMAT,
        name=name,
        version="1",
        description="three classes with exactly known probabilities",
        labels=LABELS,
        input=spec((COORDINATES,), name="features"),
        law=gaussian(SIGMA),
        graphs=graphs(score=False),
        decision=ArgmaxRule(rule="argmax"),
        claims=claims(of_class=0.8, upper=0.2, two_sided=two_sided),
        mixture=MixtureSpec(robust_weight=0.9),
        defaults=Defaults(target_radius=SIGMA / 2),
        **declared,
    )
    return write(
        folder / name / "1",
        manifest,
        base=_base(),
        noisy=_noisy(),
        noise={"tails": rounded_gaussian_tails(SIGMA)},
        golden=Golden(
            base_input=grid,
            base_probabilities=(powers / powers.sum(axis=1, keepdims=True)).astype(np.float32),
            noisy_input=grid,
            votes=np.searchsorted(CUTS, grid[:, 0]).astype(np.int64),
            scores=np.zeros(len(grid), dtype=np.float32),
        ),
    )


def _noisy() -> bytes:
    cast, dot, weights = first_coordinate("lattice", "column")
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    cuts = [helper.make_tensor(f"cut {place}", TensorProto.FLOAT, [], [float(cut)]) for place, cut in enumerate(CUTS)]
    nodes = [*cast, *dot, helper.make_node("Squeeze", ["column", "axis"], ["value"])]
    for place in range(len(CUTS)):
        nodes.append(helper.make_node("Greater", ["value", f"cut {place}"], [f"above {place}"]))
        nodes.append(helper.make_node("Cast", [f"above {place}"], [f"step {place}"], to=TensorProto.INT64))
    nodes.append(helper.make_node("Add", ["step 0", "step 1"], ["vote"]))
    return model_of(nodes, [weights, axis, *cuts], [("vote", TensorProto.INT64, ["n"])])


def _base() -> bytes:
    cast, dot, weights = first_coordinate("lattice", "column")
    slopes = helper.make_tensor("slopes", TensorProto.FLOAT, [1, len(SLOPES)], SLOPES.tolist())
    shifts = helper.make_tensor("shifts", TensorProto.FLOAT, [len(SHIFTS)], SHIFTS.tolist())
    nodes = [
        *cast,
        *dot,
        helper.make_node("MatMul", ["column", "slopes"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shifts"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    return model_of(nodes, [weights, slopes, shifts], [("probabilities", TensorProto.FLOAT, ["n", len(LABELS)])])
