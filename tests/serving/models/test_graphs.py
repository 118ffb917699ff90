"""The rows of a batch, followed through graphs of every kind: what could join them is refused, the rest is served."""

from __future__ import annotations

import re

import numpy as np
import pytest

from export.graphs.reading import GraphError
from serving.models.proof import prove
from serving.runtimes.onnx_runtime import OnnxRuntime
from tests.graphs import bundle_of, noisy

BAD = {
    "maximum": (
        "top = ReduceMax <keepdims = 1> (values, zero)  inner = Sub (values, top)",
        "ReduceMax",
        "reduces over",
    ),
    "mean": ("mean = ReduceMean (values, zero)  inner = Sub (values, mean)", "ReduceMean", "reduces over"),
    "sum of all": ("sum = ReduceSum (values)  inner = Add (values, sum)", "ReduceSum", "reduces over"),
    "dynamic quantisation": (
        "q, s, z = DynamicQuantizeLinear (values)  inner = DequantizeLinear (q, s, z)",
        "DynamicQuantizeLinear",
        "couples the rows",
    ),
    "a scale of the batch's own": (
        """size = Abs (values)  top = ReduceMax <keepdims = 0> (size, one)  q = QuantizeLinear <axis = 0> (values, top)
        inner = DequantizeLinear <axis = 0> (q, top)""",
        "QuantizeLinear",
        "computed from the rows",
    ),
    "softmax": ("inner = Softmax <axis = 0> (values)", "Softmax", "normalises over"),
    "running sum": ("inner = CumSum (values, start)", "CumSum", "adds up over"),
    "place of the maximum": (
        "top = ArgMax <axis = 0, keepdims = 1> (values)  t = Cast <to = 1> (top)  inner = Add (values, t)",
        "ArgMax",
        "compares over",
    ),
    "sorting": (
        "s, i = TopK <axis = 0> (values, one)  inner = Sub (values, s)",
        "TopK",
        "compares over",
    ),
    "rows joined": (
        "two_of = Concat <axis = 0> (values, values)  a, b = Split <axis = 0, num_outputs = 2> (two_of)  inner = Add (a, b)",
        "Concat",
        "beside others",
    ),
    "rows taken by number": (
        "first_row = Gather (values, zero)  inner = Add (values, first_row)",
        "Gather",
        "takes some",
    ),
    "rows cut off": (
        "head = Slice (values, zero, one, zero)  inner = Add (values, head)",
        "Slice",
        "takes some",
    ),
    "the last row": (
        "head = Slice (values, all, ends, zero)  inner = Add (values, head)",
        "Slice",
        "takes some",
    ),
    "rows turned over": (
        "inner = Slice (values, all, low, zero, all)",
        "Slice",
        "takes some",
    ),
    "rows split": (
        "a, b = Split <axis = 0, num_outputs = 2> (values)  inner = Concat <axis = 0> (b, a)",
        "Split",
        "takes some",
    ),
    "rows pushed on": ("inner = Pad (values, pushed)", "Pad", "adds rows"),
    "rows turned to columns": (
        "t = Transpose (values)  g = MatMul (t, values)  inner = MatMul (values, g)",
        "MatMul",
        "with each other",
    ),
    "attention over the batch": (
        """t = Transpose (values)  g = MatMul (values, t)  w = Softmax <axis = 1> (g)  inner = MatMul (w, values)""",
        "MatMul",
        "with each other",
    ),
    "product by letters": ('inner = Einsum <equation = "nd,md->nd"> (values, values)', "Einsum", "with each other"),
    "Gemm of columns": (
        "t = Gemm <transA = 1> (values, values)  inner = MatMul (values, t)",
        "Gemm",
        "with each other",
    ),
    "broadcast": (
        "s = ReduceSum <keepdims = 0> (values, one)  m = Add (values, s)  inner = Identity (m)",
        "Add",
        "each row with the others|at every size",
    ),
    "a fold into fours": (
        "f = Reshape (values, fold)  m = ReduceMean (f, zero)  inner = Add (values, m)",
        "Reshape",
        "among several axes|at every size",
    ),
    "a fold and a sum": (
        "f = Reshape (values, flat)  m = ReduceMean (f, zero)  inner = Add (values, m)",
        "ReduceMean",
        "reduces over",
    ),
    "a pool": (
        "p = Unsqueeze (values, front)  m = GlobalAveragePool (p)  f = Reshape (m, flat)  inner = Add (values, f)",
        "GlobalAveragePool",
        "pools over",
    ),
    "batch normalisation in training": (
        "inner, m, v = BatchNormalization <training_mode = 1> (values, weights, weights, weights, ones)",
        "BatchNormalization",
        "mean of the batch",
    ),
    "layer normalisation over all": (
        "inner = LayerNormalization <axis = 0> (values, whole)",
        "LayerNormalization",
        "normalises over|takes its input",
    ),
    "numbered rows": (
        """n = Shape <start = 0, end = 1> (values)  m = Squeeze (n)  r = Range (start, m, step)  f = Cast <to = 1> (r)
        c = Unsqueeze (f, one)  inner = Add (values, c)""",
        "Range",
        "depends on its slot",
    ),
    "the number of rows": (
        "n = Shape <start = 0, end = 1> (values)  f = Cast <to = 1> (n)  inner = Div (values, f)",
        "Div",
        "number of rows",
    ),
    "normal noise": ("r = RandomNormalLike (values)  inner = Add (values, r)", "RandomNormalLike", "at random"),
    "normal noise of a fixed shape": (
        "r = RandomNormal <shape = [1, 4]> ()  inner = Add (values, r)",
        "RandomNormal",
        "at random",
    ),
    "uniform noise": ("r = RandomUniformLike (values)  inner = Add (values, r)", "RandomUniformLike", "at random"),
    "coins": ("p = Sigmoid (values)  r = Bernoulli (p)  inner = Mul (values, r)", "Bernoulli", "at random"),
    "dice": ("r = Multinomial (values)  f = Cast <to = 1> (r)  inner = Add (values, f)", "Multinomial", "at random"),
    "dropout in training": ("inner = Dropout (values, half, yes)", "Dropout", "at random"),
    "another maker's operator": ("inner = com.microsoft.Gelu (values)", "Gelu", "not known"),
    "an unknown operator of ONNX": (
        "i = NonZero (values)  f = Cast <to = 1> (i)  m = ReduceMax (f)  inner = Add (values, m)",
        "NonZero",
        "not known|depends on the numbers",
    ),
    "a branch": (
        """inner = If (yes) <then_branch = a () => (float[n, 4] x) { x = Identity (values) },
        else_branch = b () => (float[n, 4] y) { y = Neg (values) }>""",
        "If",
        "a graph of its own",
    ),
    "a sequence": (
        "s = SequenceConstruct (values, values)  inner = SequenceAt (s, start)",
        "SequenceConstruct",
        "sequence",
    ),
    "tokens": (
        "i = Slice (lattice, zero, one, one)  g = Gather (weights, i)  inner = Add (values, g)",
        "Gather",
        "tokens",
    ),
    "tokens that went by floats": (
        "s = Mul (values, step_of)  i = Cast <to = 7> (s)  g = Gather (weights, i)  inner = Add (values, g)",
        "Gather",
        "tokens",
    ),
    "tokens by one-hot": (
        "o = OneHot (lattice, depth, from_to)  m = ReduceSum <keepdims = 0> (o, all)  inner = Add (values, m)",
        "OneHot",
        "tokens",
    ),
    "tokens by a table of comparisons": (
        "o = Equal (lattice, tokens)  f = Cast <to = 1> (o)  inner = Add (values, f)",
        "Equal",
        "tokens",
    ),
}
MORE = """, int64 start = {0}, int64 step = {1}, int64[1] ends = {9223372036854775807}, int64[1] low =
    {-9223372036854775807}, int64[4] pushed = {1, 0, -1, 0}, int64[2] fold = {-1, 3}, int64[1] flat = {-1},
    int64[2] front = {0, 1}, float half = {0.5}, bool yes = {1}, float step_of = {1.0}, int64 depth = {4},
    float[2] from_to = {0.0, 1.0}, int32[4] tokens = {1, 2, 3, 4}, float[4] whole = {1.0, 1.0, 1.0, 1.0},
    int64[2] keepfour = {-1, 4}, int64[1] four = {4}, float[1,1,4] cls = {1.0, 2.0, 3.0, 4.0}, int64[3] tok =
    {-1, 2, 2}, int64[1] minus = {-1}, float zero_f = {0.0}, float[1,8,2] lw = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6,
    0.7, 0.8, 0.9, 1.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6}, float[1,8,2] lr = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7,
    0.8, 0.9, 1.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6}, int64[1] topk = {4}, int64[4] pads = {0, 0, 0, 0}, int64
    four_s = {4}, int64 s0 = {0}, int64 s1 = {1}, int64[2] parts = {2, 2}, int64[3] folded = {2, -1, 1},
    int64[3] unfolded = {2, -1, 2}, float[1,1,1] ck = {0.5}, float qs = {0.5}, uint8 qz = {128}"""


@pytest.mark.parametrize("kind", BAD)
def test_what_could_join_rows_or_change_an_answer_is_refused_by_name(kind, tmp_path):
    body, operator, reason = BAD[kind]
    bundle = bundle_of(tmp_path, noisy=noisy(body, domains=', "com.microsoft" : 1', constants=MORE))
    with pytest.raises(GraphError, match=reason) as refusal:
        prove(bundle, OnnxRuntime(bundle), 8)
    assert re.match(rf"half-space/1: noisy\.onnx cannot be served: its node '.*' \({operator}\) ", str(refusal.value))
    assert "\n" not in str(refusal.value)


GOOD = {
    "identity": """inner = Identity (values)""",
    "shape reshape": """n = Shape <start=0,end=1> (values)
        s = Concat <axis=0> (n, four)
        f = Reshape (values, s)
        inner = Identity (f)""",
    "gather shape": """sh = Shape (values)
        n = Gather (sh, s0)
        m = Unsqueeze (n, zero)
        s = Concat <axis=0> (m, minus)
        inner = Reshape (values, s)""",
    "class token": """x = Reshape (values, tok)
        n = Shape <start=0,end=1> (values)
        one_two = Concat <axis=0> (n, one, two)
        c2 = Slice (cls, zero, two, two)
        c = Expand (c2, one_two)
        j = Concat <axis=1> (c, x)
        k = Slice (j, one, ends, one)
        inner = Reshape (k, keepfour)""",
    "folded attention": """x = Reshape (values, tok)
        t = Transpose <perm=[1,0,2]> (x)
        f = Reshape (t, folded)
        u = Transpose <perm=[1,0,2]> (f)
        v = Transpose <perm=[0,2,1]> (u)
        a = MatMul (u, v)
        w = Softmax <axis=-1> (a)
        o = MatMul (w, u)
        p = Transpose <perm=[1,0,2]> (o)
        q = Reshape (p, unfolded)
        r = Transpose <perm=[1,0,2]> (q)
        inner = Reshape (r, keepfour)""",
    "row softmax": """inner = Softmax (values)""",
    "norms": """a = LayerNormalization (values, weights, ones)
        inner = LpNormalization <axis=1> (a)""",
    "row quantisation": """m = ReduceMax <keepdims=1> (values, one)
        d = Div (values, m)
        inner = Mul (d, m)""",
    "split": """a,
        b = Split <axis=1> (values, parts)
        inner = Concat <axis=1> (b, a)""",
    "gemm": """inner = Gemm <transB=1> (values, square, weights)""",
    "transposed product": """t = Transpose (values)
        g = MatMul (square, t)
        inner = Transpose (g)""",
    "einsum": """inner = Einsum <equation="nd,de->ne"> (values, square)""",
    "conv": """x = Unsqueeze (values, one)
        c = Conv (x, ck)
        m = MaxPool <kernel_shape=[1]> (c)
        inner = Squeeze (m, one)""",
    "where": """a = Greater (values, zero_f)
        b = Neg (values)
        inner = Where (a, values, b)""",
    "lstm": """x = Reshape (values, tok)
        t = Transpose <perm=[1,0,2]> (x)
        y,
        h,
        c = LSTM <hidden_size=2> (t, lw, lr)
        s = Squeeze (y, one)
        r = Transpose <perm=[1,0,2]> (s)
        z = Reshape (r, keepfour)
        inner = Add (z, values)""",
    "lstm zeros": """x = Reshape (values, tok)
        t = Transpose <perm=[1,0,2]> (x)
        n = Shape <start=0,end=1> (values)
        hs = Concat <axis=0> (one, n, two)
        h0 = ConstantOfShape (hs)
        y,
        h,
        c = LSTM <hidden_size=2> (t, lw, lr, , , h0, h0)
        s = Squeeze (y, one)
        r = Transpose <perm=[1,0,2]> (s)
        z = Reshape (r, keepfour)
        inner = Add (z, values)""",
    "scaler": """inner = ai.onnx.ml.Scaler <offset=[1.0,2.0,3.0,4.0], scale=[0.5,1.0,1.0,1.0]> (values)""",
    "linear classifier": """l,
        p = ai.onnx.ml.LinearClassifier <classlabels_ints=[0,1,2,3], coefficients=[1.0,0.5,0.2,0.1,
        0.3,0.2,0.6,0.1,0.2,0.1,0.7,0.3,0.1,0.1,0.2,0.9], intercepts=[0.0,0.0,0.0,0.0],
        post_transform="NONE"> (values)
        inner = Add (p, values)""",
    "normalizer": """a = ai.onnx.ml.Normalizer <norm="L2"> (values)
        inner = Add (a, values)""",
    "regressor": """a = ai.onnx.ml.LinearRegressor <coefficients=[1.0,0.5,0.2,0.1], intercepts=[0.0]> (values)
        inner = Add (a, values)""",
    "tree": """a = ai.onnx.ml.TreeEnsembleRegressor <n_targets=1, nodes_treeids=[0,0,0], nodes_nodeids=[0,1,2],
        nodes_featureids=[0,0,0], nodes_values=[127.0,0.0,0.0],
        nodes_modes=["BRANCH_LEQ","LEAF","LEAF"], nodes_truenodeids=[1,0,0],
        nodes_falsenodeids=[2,0,0], target_treeids=[0,0], target_nodeids=[1,2],
        target_ids=[0,0], target_weights=[0.0,1.0]> (values)
        inner = Add (a, values)""",
    "topk": """s,
        i = TopK <axis=1> (values, topk)
        inner = Identity (s)""",
    "pad": """inner = Pad (values, pads)""",
    "full slice": """inner = Slice (values, zero, ends, zero)""",
    "slice to shape": """n = Shape <start=0,end=1> (values)
        inner = Slice (values, zero, n, zero)""",
    "gather features": """a = Gather <axis=1> (values, parts)
        b = Gather <axis=1> (values, zero)
        c = ReduceMax (a, one)
        inner = Add (values, c)""",
    "gather elements": """i = ArgMax <axis=1> (values)
        g = GatherElements <axis=1> (values, i)
        inner = Add (values, g)""",
    "dropout": """inner = Dropout (values)""",
    "scalar shape sqrt": """sh = Shape (values)
        d = Gather (sh, s1)
        f = Cast <to=1> (d)
        r = Sqrt (f)
        inner = Div (values, r)""",
    "cumsum row": """inner = CumSum (values, s1)""",
    "one hot of argmax": """i = ArgMax <axis=1, keepdims=0> (values)
        o = OneHot (i, four_s, from_to)
        inner = Add (values, o)""",
    "batch norm": """inner = BatchNormalization (values, weights, weights, weights, ones)""",
    "static quantisation": """q = QuantizeLinear (values, qs, qz)
        inner = DequantizeLinear (q, qs, qz)""",
    "double": """d = Cast <to=11> (values)
        e = Floor (d)
        inner = Cast <to=1> (e)""",
    "bfloat": """d = Cast <to=16> (values)
        i = Cast <to=7> (d)
        inner = Cast <to=1> (i)""",
    "half": """d = Cast <to=10> (values)
        inner = Cast <to=1> (d)""",
    "sum ones row": """s = ReduceSum <keepdims=1> (values, one)
        inner = Add (values, s)""",
    "expand batch": """n = Shape (values)
        e = Expand (weights, n)
        inner = Mul (values, e)""",
}


@pytest.mark.parametrize("kind", GOOD)
def test_what_keeps_rows_apart_is_served_and_does(kind, tmp_path):
    runtime = OnnxRuntime(bundle_of(tmp_path, noisy=noisy(GOOD[kind], constants=MORE)))
    rows = np.random.default_rng(0).integers(-60, 320, (8, 4)).astype(np.int32)
    together = runtime.noisy_evidence(rows)
    assert {"vote", "score"} <= set(together)
    for place, row in enumerate(rows):
        alone = runtime.noisy_evidence(row[None])
        for name, values in together.items():
            np.testing.assert_allclose(alone[name][0], values[place], rtol=1e-5, err_msg=name)
