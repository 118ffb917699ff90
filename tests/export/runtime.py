"""The smallest runtime that runs a graph: what the command line joins to the recipe, for tests of export alone."""

from __future__ import annotations

import onnxruntime


def open_graph(graph: bytes):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda lattice: session.run(None, {"lattice": lattice})
