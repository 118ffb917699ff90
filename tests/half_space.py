"""A bundle whose smoothed probabilities are known exactly: the oracle for the whole server.

The noisy network votes "above" where the first of four coordinates exceeds `CUT`, and scores an input by that
coordinate. So `P(above)` at an input is a single entry of the noise table, and the smoothed median score is the
coordinate itself.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper
from scipy.special import ndtr

from certify.ood.conformal import pac_rank
from export.build.noise_table import rounded_gaussian_tails
from export.bundle import (
    FORMAT,
    AlarmSpec,
    ArgmaxRule,
    Bundle,
    ClaimsSpec,
    Defaults,
    Golden,
    Manifest,
    MixtureSpec,
    OodSpec,
    claims,
    graphs,
    with_further,
    write,
)
from tests.declared import gaussian, spec

CUT = 127
SIGMA = 16.0
COORDINATES = 4
THRESHOLD = 160.0
TARGET_TPR, ETA = 0.95, 0.01
SPLIT = claims(of_class=0.5, upper=0.2, threshold=0.1, interval=0.2)
THRESHOLDS = (0.5625, 0.75, 0.90625, 0.984375)
LABELS = ("below", "above")


def probability_above(lattice: NDArray[np.integer]) -> float:
    """The exact `P(X_0 + Z > CUT)` of an input, to double precision."""
    return float(ndtr((int(lattice[0]) - CUT - 0.5) / SIGMA))


def true_radius(lattice: NDArray[np.integer]) -> tuple[int, float]:
    """The smoothed class and the exact radius of its certificate: the half-space attains the bound."""
    distance = int(lattice[0]) - CUT - 0.5
    return (1 if distance > 0 else 0), abs(distance)


def confidence(column: NDArray[np.floating]) -> NDArray[np.float32]:
    """What the network gives the label that it votes for: a logistic of how far its first coordinate lies from the cut."""
    return (1 / (1 + np.exp(-0.1 * np.abs(np.asarray(column, np.float64) - CUT)))).astype(np.float32)


def graded_votes(column: NDArray[np.floating]) -> NDArray[np.int64]:
    """The votes of noisy first coordinates, with their grades."""
    grades = np.searchsorted(THRESHOLDS, confidence(column), side="left")
    return (column > CUT).astype(np.int64) + (len(LABELS) + 1) * grades


def write_half_space(
    folder: Path,
    name: str = "half-space",
    version: str = "1",
    description: str = "",
    class_alone: bool = False,
    joint: bool = False,
    alarm: AlarmSpec | None = None,
    confident: bool = False,
    **declared: object,
) -> Bundle:
    """Write the bundle to `folder/<name>/<version>`; `class_alone`: alpha is the class's alone, and there is no score;
    `joint`: the joint label is declared as well; `alarm`: that one; `confident`: the confidence in the class.

    `declared` are further fields of the manifest.
    """
    noisy, base = _noisy(graded=confident), _base()
    grid = np.array([[x, 1, 2, 3] for x in (60, 100, 120, 135, 150, 250)], dtype=np.int32)
    logits = np.stack([CUT - grid[:, 0], grid[:, 0] - CUT], axis=1).astype(np.float32) * np.float32(0.05)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    manifest = Manifest(
        format=FORMAT,
        name=name,
        version=version,
        description=description or "a half-space with exactly known probabilities",
        labels=LABELS,
        input=spec((COORDINATES,), name="features"),
        law=gaussian(SIGMA),
        graphs=graphs(score=True),
        decision=ArgmaxRule(rule="argmax"),
        claims=claims(of_class=1.0) if class_alone else _claims(joint=joint, confident=confident),
        ood=None
        if class_alone
        else OodSpec(
            score="md",
            normalised=False,
            score_draws=32,
            target_tpr=TARGET_TPR,
            eta=ETA,
            threshold=THRESHOLD,
            radius=SIGMA / 2,
            alarm=alarm,
        ),
        mixture=MixtureSpec(robust_weight=0.9),
        defaults=Defaults(target_radius=SIGMA / 2),
        **declared,
    )
    return write(
        folder / name / version,
        manifest,
        base=base,
        noisy=noisy,
        noise={"tails": _tails()},
        golden=Golden(
            base_input=grid,
            base_probabilities=(shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32),
            noisy_input=grid,
            votes=graded_votes(grid[:, 0]) if confident else (grid[:, 0] > CUT).astype(np.int64),
            scores=grid[:, 0].astype(np.float32),
        ),
        calibration=None if class_alone else calibration(),
    )


@cache
def _tails() -> NDArray[np.uint64]:
    return rounded_gaussian_tails(SIGMA)


def _claims(*, joint: bool, confident: bool) -> ClaimsSpec:
    also = [name for name, wanted in (("joint", joint), ("confidence", confident)) if wanted]
    shares = with_further({"of_class": 0.5, "upper": 0.2, "threshold": 0.1, "interval": 0.2}, also)
    return claims(**shares, thresholds=THRESHOLDS)


def calibration() -> NDArray[np.float64]:
    """999 scores from 0 to 180 that put the threshold at `THRESHOLD`."""
    rank = pac_rank(999, 1 - TARGET_TPR, ETA)
    return np.concatenate([np.linspace(0.0, THRESHOLD, rank), np.linspace(THRESHOLD, 180.0, 999 - rank)])


def first_coordinate(graph_input: str, output: str) -> list[object]:
    """The nodes and the constant that make a column of the first coordinates."""
    weights = helper.make_tensor("first", TensorProto.FLOAT, [COORDINATES, 1], [1.0] + [0.0] * (COORDINATES - 1))
    return [
        [helper.make_node("Cast", [graph_input], ["values"], to=TensorProto.FLOAT)],
        [helper.make_node("MatMul", ["values", "first"], [output])],
        weights,
    ]


def _noisy(*, graded: bool = False) -> bytes:
    cast, dot, weights = first_coordinate("lattice", "column")
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    cut = helper.make_tensor("cut", TensorProto.FLOAT, [], [float(CUT)])
    nodes = [
        *cast,
        *dot,
        helper.make_node("Squeeze", ["column", "axis"], ["score"]),
        helper.make_node("Greater", ["score", "cut"], ["above"]),
        helper.make_node("Cast", ["above"], ["label" if graded else "vote"], to=TensorProto.INT64),
    ]
    constants = [weights, axis, cut]
    if graded:
        more, others = _grades()
        nodes, constants = [*nodes, *more], [*constants, *others]
    outputs = [("vote", TensorProto.INT64, ["n"]), ("score", TensorProto.FLOAT, ["n"])]
    return model_of(nodes, constants, outputs)


def _grades() -> tuple[list[object], list[object]]:
    """From the score and the label to a vote with its grade."""
    constants = [
        helper.make_tensor("middle", TensorProto.FLOAT, [], [float(CUT)]),
        helper.make_tensor("slope", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("thresholds", TensorProto.FLOAT, [1, len(THRESHOLDS)], THRESHOLDS),
        helper.make_tensor("steps", TensorProto.FLOAT, [len(THRESHOLDS), 1], [3.0] * len(THRESHOLDS)),
        helper.make_tensor("last axis", TensorProto.INT64, [1], [1]),
    ]
    nodes = [
        helper.make_node("Sub", ["column", "middle"], ["off"]),
        helper.make_node("Abs", ["off"], ["far"]),
        helper.make_node("Mul", ["far", "slope"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["number"]),
        helper.make_node("Greater", ["number", "thresholds"], ["exceeded"]),
        helper.make_node("Cast", ["exceeded"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["ones", "steps"], ["grades"]),
        helper.make_node("Squeeze", ["grades", "last axis"], ["grade of a row"]),
        helper.make_node("Cast", ["grade of a row"], ["grade"], to=TensorProto.INT64),
        helper.make_node("Add", ["label", "grade"], ["vote"]),
    ]
    return nodes, constants


def _base() -> bytes:
    cast, dot, weights = first_coordinate("lattice", "column")
    signs = helper.make_tensor("signs", TensorProto.FLOAT, [1, 2], [-0.05, 0.05])
    shift = helper.make_tensor("shift", TensorProto.FLOAT, [2], [0.05 * CUT, -0.05 * CUT])
    nodes = [
        *cast,
        *dot,
        helper.make_node("MatMul", ["column", "signs"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    return model_of(nodes, [weights, signs, shift], [("probabilities", TensorProto.FLOAT, ["n", 2])])


def model_of(nodes: list[object], constants: list[object], outputs: list[tuple[str, int, list[object]]]) -> bytes:
    """A graph of the grid input `lattice`."""
    graph = helper.make_graph(
        nodes,
        "half_space",
        [helper.make_tensor_value_info("lattice", TensorProto.INT32, ["n", COORDINATES])],
        [helper.make_tensor_value_info(*output) for output in outputs],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


assert math.isclose(probability_above(np.array([CUT + 1])), float(ndtr(0.5 / SIGMA)))
