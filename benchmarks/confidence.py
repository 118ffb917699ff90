"""How large the confidence is that is proven on the bundled model, beside the plain mean of the same noisy passes.

    python -m benchmarks.confidence

Every other of 80 test pictures chooses thresholds, the others are answered as by `certify=best`: 4,000 draws, alpha .001,
a tenth of it for confidence. The graph is the bundled one with the softmax of the logits that it votes by. How many
thresholds are enough, and whether those that were chosen are better than equal steps, is seen on the same draws.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.clients import demo_pictures
from benchmarks.measure import main
from benchmarks.networks import DEMO, bundle
from benchmarks.row import Row
from certify.claims.certificate import Terms
from certify.claims.confidence import confidence
from certify.claims.counts import Counts
from certify.claims.procedures import Best, RunningProcedure
from export.build.grades import THRESHOLDS, chosen
from export.build.passes import noisy_lattice, row_key
from export.build.score_graph import ending
from export.bundle import with_further
from export.sources.running import open_graph

PICTURES, DRAWS, FEWER, ALPHA = 80, 4_000, 1_000, 0.001
COUNTS = (1, 2, 4, THRESHOLDS, 16)


def rows() -> list[Row]:
    model = bundle(DEMO)
    run, pictures = _probabilities(model), demo_pictures(PICTURES)
    fit = [_drawn(run, model, pictures[row], row, 64) for row in range(0, PICTURES, 2)]
    seen = np.concatenate([numbers.max(axis=1) for numbers in fit])
    given = [_drawn(run, model, pictures[row], row, DRAWS) for row in range(1, PICTURES, 2)]
    sets = {f"{count} chosen": chosen(seen, count) for count in COUNTS}
    sets |= {f"{count} equal steps": tuple(np.arange(1, count + 1) / (count + 1)) for count in (7, 15)}
    for draws in (FEWER, DRAWS):
        for name, thresholds in sets.items():
            in_ball, here, plain = _proven(model, [each[:draws] for each in given], thresholds)
            print(
                f"{draws:6} draws, {name:14}: at the input {here:.4f} of {plain:.4f}, in the ball {in_ball:.4f}",
                flush=True,
            )
    print(f"thresholds {sets[f'{THRESHOLDS} chosen']}", flush=True)
    in_ball, here, plain = _proven(model, given, sets[f"{THRESHOLDS} chosen"])
    what = f"confidence proven at the input, {DRAWS} draws (in the ball {in_ball:.3f})"
    return [Row(what, f"{here:.3f}", f"plain mean {plain:.3f}", here / plain)]


def _probabilities(model):
    """The noisy graph as far as its logits, and their softmax."""
    graph = onnx.load_from_string(model.noisy)
    (largest,) = (node for node in graph.graph.node if node.op_type == "ArgMax")
    graph.graph.node.append(helper.make_node("Softmax", [largest.input[0]], ["probabilities"], axis=1))
    labels = len(model.manifest.labels)
    return open_graph(ending(graph, {"probabilities": (TensorProto.FLOAT, (labels,))}), "the graph of confidences")


def _drawn(run, model, picture, row, draws):
    """Probabilities of noisy passes, [draws, labels]."""
    key, together = row_key("confidence", row), 250
    parts = [range(start, min(draws, start + together)) for start in range(0, draws, together)]
    return np.concatenate(
        [run(noisy_lattice(picture, model.law, key, each.start, each.stop))["probabilities"] for each in parts]
    )


def _proven(model, given, thresholds):
    """Means over the pictures with a certified class: in the ball, at the input, and of `v_c` itself."""
    spec, found = model.manifest, []
    shares = {"of_class": 0.5, "upper": 0.2, "threshold": 0.1, "interval": 0.2}
    split = replace(spec.alpha_split, of_class=with_further(shares, ["confidence"])["of_class"], of_confidence=0.1)
    terms = Terms(
        law=model.law.at(np.zeros(spec.input.shape, np.int32)).guarantee,
        alpha=ALPHA,
        split=split,
        classes=len(spec.labels),
    )
    for numbers in given:
        votes = numbers.argmax(axis=1)
        counts = Counts(draws=len(votes), votes=tuple(np.bincount(votes, minlength=terms.classes).tolist()))
        certificate = RunningProcedure(Best(), terms, DRAWS).conclude(counts)
        if certificate.class_index is None:
            continue
        own = numbers[:, certificate.class_index]
        mine = own[votes == certificate.class_index]
        hits = [int(np.sum(mine > each)) for each in thresholds]
        said = confidence(certificate, hits, thresholds, terms)
        found.append((said.lower, said.lower_at_input, float(own.mean())))
    return np.mean(found, axis=0)


if __name__ == "__main__":
    main("confidence", rows)
