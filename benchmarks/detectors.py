"""Every score of `certify.ood.scores` on the bundled model: how well it tells digits and noise from ordinary pictures.

Fitted on one noisy draw of each of 5,000 training pictures. As served, a picture's score is the lower median of its first
32 draws. `far_at_tpr_ood95` are the false alarms where 95 % of the outside pictures are caught, `miss_at_tpr_id95` the
outside pictures missed where 95 % of the ordinary ones are kept. `GAUC` is the AUROC with each outside score replaced by
the lower end of its certified interval at the bundle's radius, from 128 draws, and the ordinary scores as they are: below
it no attack brings the smoothed scores of these outside pictures, each with the bundle's alpha.

    python -m benchmarks.detectors [--data /usr/share/datasets/fashion-mnist]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from certify.claims.certificate import Terms
from certify.ood.scores import Scorer, fitted_scorers
from certify.ood.verdict import fixed_interval, lower_median
from export.build.outside import auroc, far_at_tpr_ood95, miss_at_tpr_id95, outside_sets
from export.build.passes import BATCH, noisy_lattice, row_key
from export.bundle import Bundle, load
from export.data.idx import read_split
from serving.runtimes.onnx_runtime import open_graph

ROOT = Path(__file__).resolve().parent.parent
FIT_PICTURES, INSIDE, DRAWS = 5_000, 500, 128

Run = Callable[[NDArray[np.int32]], tuple[NDArray[np.float32], NDArray[np.float32]]]


def last_layer(graph: bytes) -> tuple[Run, NDArray[np.float32], NDArray[np.float32]]:
    """The graph up to its last layer, lattice to (features, logits), with that layer's weight and bias."""
    model = onnx.load_from_string(graph)
    (vote,) = (node for node in model.graph.node if node.op_type == "ArgMax")
    (layer,) = (node for node in model.graph.node if vote.input[0] in node.output)
    features, weight, bias = layer.input
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in (features, layer.output[0])
    )
    run = open_graph(model.SerializeToString())
    return lambda lattice: tuple(run(lattice)), stored[weight], stored[bias]


def draws(bundle: Bundle, run: Run, pictures: NDArray[np.integer], purpose: str, count: int):
    """Features [n * count, d] and logits of `count` noisy draws of each picture, keyed by its row, row after row."""
    parts = []
    for first in range(0, len(pictures), max(1, BATCH // count)):
        rows = range(first, min(first + max(1, BATCH // count), len(pictures)))
        lattice = [noisy_lattice(pictures[row], bundle.law, row_key(purpose, row), 0, count) for row in rows]
        parts.append(run(np.concatenate(lattice)))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def table(bundle: Bundle, scorers: dict[str, Scorer], inside, outside: dict[str, tuple]) -> str:
    spec = bundle.manifest
    terms = Terms(
        law=bundle.law.at(np.zeros(spec.input.shape, np.int32)).guarantee,
        alpha=spec.defaults.alpha,
        split=spec.alpha_split,
        classes=len(spec.labels),
    )
    lines = ["| score | outside | AUROC | far_at_tpr_ood95 | miss_at_tpr_id95 | GAUC |", "|-|-|-|-|-|-|"]
    for name, scorer in scorers.items():
        ordinary = medians(scorer.scores(*inside).reshape(INSIDE, -1), spec.ood.score_draws)
        for place, drawn in outside.items():
            each = scorer.scores(*drawn).reshape(-1, DRAWS)
            served = medians(each, spec.ood.score_draws)
            lowest = np.array([fixed_interval(row, terms, spec.ood.radius)[0] for row in each])
            lines.append(
                f"| {name} | {place} | {auroc(ordinary, served):.4f} | {far_at_tpr_ood95(ordinary, served):.4f}"
                f" | {miss_at_tpr_id95(ordinary, served):.4f} | {auroc(ordinary, lowest):.4f} |"
            )
    return "\n".join(lines)


def medians(scores, count: int):
    return np.array([lower_median(row[:count]) for row in scores])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    bundle = load(ROOT / "models" / "fashion-mnist" / "1")
    training = read_split(parser.parse_args().data, "train")[slice(0, FIT_PICTURES)]
    run, weight, bias = last_layer(bundle.noisy)
    features, _ = draws(bundle, run, training.images[:, None], "fit", 1)
    scorers = fitted_scorers(features, training.labels, weight, bias)
    kept = ROOT / "tests" / "data"
    ordinary = read_split(kept, "fashion_mnist_test_1000").images[:INSIDE, None]
    made = outside_sets(ordinary[:100], seed=1)
    foreign = {"digits": read_split(kept, "digits_200").images[:, None]}
    foreign |= {name: made[name] for name in ("uniform noise", "smooth noise")}
    inside = draws(bundle, run, ordinary, "inside", bundle.manifest.ood.score_draws)
    outside = {name: draws(bundle, run, pictures, name, DRAWS) for name, pictures in foreign.items()}
    print(f"radius {bundle.manifest.ood.radius}, sigma {bundle.law.sigma}, {INSIDE} ordinary pictures\n")
    print(table(bundle, scorers, inside, outside))


if __name__ == "__main__":
    main()
