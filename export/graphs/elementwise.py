"""Operators that compute each number of their output from the numbers at the same place of their inputs."""

from __future__ import annotations

from export.graphs.facts import Call, Mixes, Place, Rule

_UNARY = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu"),
    *("Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity"),
    *("IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round"),
    *("Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish"),
    *("Tan", "Tanh", "ThresholdedRelu", "Binarizer", "Imputer", "Scaler", "LabelEncoder"),
)
_BROADCAST = (
    *("Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "CastLike", "Div", "Equal"),
    *("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or"),
    *("PRelu", "Pow", "Sub", "Sum", "Where", "Xor"),
)


def aligned(call: Call) -> Place | None:
    """The place of the rows under numpy's broadcasting: all inputs that carry rows have them on one axis."""
    rank = max(operand.rank for operand in call.inputs if operand is not None)
    found = {
        operand.place.on(operand.place.axis + rank - operand.rank)
        for operand in call.inputs
        if operand is not None and operand.place is not None
    }
    if len(found) > 1:
        raise Mixes(
            "brings together inputs whose rows lie on different axes, and so each row with the others; align them"
        )
    return next(iter(found))


def _clip(call: Call) -> Place | None:
    call.constant(1, 2)
    return call.place()


def _scaled(call: Call) -> Place | None:
    for index in (1, 2):
        if call.place(index) is not None:
            raise Mixes("quantises with a scale that is computed from the rows of the batch; use static quantisation")
    return call.place()


def _dropout(call: Call) -> Place | None:
    mode = call.operand(2)
    if mode is not None and (mode.values is None or bool(mode.values[0].any())):
        raise Mixes("draws at random (training_mode); export the network in evaluation mode")
    return call.place()


def _batch_normalization(call: Call) -> Place | None:
    if call.attributes.get("training_mode", 0) or len([name for name in call.node.output if name]) > 1:
        raise Mixes("normalises by the mean of the batch (training_mode); export the network in evaluation mode")
    call.constant(1, 2, 3, 4)
    return call.place()


RULES: dict[str, Rule] = {
    **dict.fromkeys(_UNARY, Call.place),
    **dict.fromkeys(_BROADCAST, aligned),
    "Clip": _clip,
    "QuantizeLinear": _scaled,
    "DequantizeLinear": _scaled,
    "Dropout": _dropout,
    "BatchNormalization": _batch_normalization,
}
