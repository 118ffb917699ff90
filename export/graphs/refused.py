"""Operators that are refused wherever they stand, each with its reason."""

from __future__ import annotations

from onnx import AttributeProto, NodeProto

from export.graphs.facts import Mixes

_RANDOM = "draws at random, so an input would have no one answer; export the network in evaluation mode, without it"
_CONTROL = "runs a graph of its own, which is not followed; export the network without control flow"
_SEQUENCE = "keeps a sequence or another value that is no tensor; export the network without it"
_STATE = "keeps a state from call to call; export the network without it"
_REFUSED = {
    **dict.fromkeys(
        ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"), _RANDOM
    ),
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), _CONTROL),
    **dict.fromkeys(("CausalConvWithState", "LinearAttention", "TensorScatter"), _STATE),
    "DynamicQuantizeLinear": "takes its scale from the whole batch, which couples the rows; use static quantisation",
    "ZipMap": "gives dictionaries; convert the model without it (zipmap=False)",
    "DictVectorizer": "takes dictionaries; convert the model without it",
}


def check(node: NodeProto) -> None:
    """Raise `Mixes` for an operator that no graph may hold."""
    kind = node.op_type
    if kind in _REFUSED:
        raise Mixes(_REFUSED[kind])
    if kind.startswith(("Sequence", "Optional")) or kind in ("SplitToSequence", "ConcatFromSequence"):
        raise Mixes(_SEQUENCE)
    if any(each.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for each in node.attribute):
        raise Mixes(_CONTROL)
