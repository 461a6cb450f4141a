"""Handlers of TensorFlow Lite operators that compute number by number, or over whole dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from openkpu.graph.ir import Tensor
from openkpu.importers.tflite_call import PLANAR_AXIS, Call, Value, clip, handles

UNARY: Final = {
    "RELU": "Relu", "LOGISTIC": "Sigmoid", "TANH": "Tanh", "ABS": "Abs", "NEG": "Neg", "EXP": "Exp", "LOG": "Log",
    "SQRT": "Sqrt", "SIN": "Sin", "COS": "Cos", "FLOOR": "Floor", "CEIL": "Ceil", "HARD_SWISH": "HardSwish",
    "ELU": "Elu", "ROUND": "Round", "SIGN": "Sign",
}  # fmt: skip
LIMITS: Final = {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}
BINARY: Final = {
    "ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "MINIMUM": "Min", "MAXIMUM": "Max", "POW": "Pow",
    "SQUARED_DIFFERENCE": "Sub",
}  # fmt: skip
FUSED: Final = ("ADD", "SUB", "MUL", "DIV")
REDUCTIONS: Final = {
    "MEAN": "ReduceMean", "SUM": "ReduceSum", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin",
    "REDUCE_PROD": "ReduceProd",
}  # fmt: skip


@handles(*UNARY)
def unary(call: Call) -> None:
    """Functions of one input without parameters."""
    v = call.value(0)
    call.done(call.add(UNARY[call.op], [v.native]), planar=v.is_planar)


@handles(*LIMITS)
def limited(call: Call) -> None:
    """ReLU with limits."""
    v = call.value(0)
    call.done(clip(call, v.native, *LIMITS[call.op]), planar=v.is_planar)


@handles("LEAKY_RELU")
def leaky_relu(call: Call) -> None:
    """One slope for negative numbers."""
    v = call.value(0)
    call.done(call.add("LeakyRelu", [v.native], alpha=float(call.option(0, "f32"))), planar=v.is_planar)


@handles("SQUARE")
def square(call: Call) -> None:
    """``x * x``."""
    v = call.value(0)
    call.done(call.add("Mul", [v.native, v.native]), planar=v.is_planar)


@handles("RSQRT")
def rsqrt(call: Call) -> None:
    """``1 / sqrt(x)``."""
    v = call.value(0)
    root = call.add("Sqrt", [v.native], "root")
    call.done(call.add("Reciprocal", [root]), planar=v.is_planar)


@handles("GELU")
def gelu(call: Call) -> None:
    """With erf, or with tanh where the file says so."""
    v = call.value(0)
    y = call.add("Gelu", [v.native], approximate="tanh" if call.flag(0) else "none")
    call.done(y, planar=v.is_planar)


@handles("PRELU")
def prelu(call: Call) -> None:
    """Slopes for each channel, or each number."""
    (x, slope), planar = _together(call, [call.value(0), call.value(1)])
    call.done(call.add("PRelu", [x, slope]), planar=planar)


@handles(*BINARY)
def binary(call: Call) -> None:
    """Two inputs that broadcast."""
    (a, b), planar = _together(call, [call.value(0), call.value(1)])
    if call.op == "SQUARED_DIFFERENCE":
        d = call.add("Sub", [a, b], "difference")
        call.done(call.add("Mul", [d, d]), planar=planar)
    elif call.op in FUSED:
        call.activate(call.add(BINARY[call.op], [a, b], call.before(0)), 0, planar=planar)
    else:
        call.done(call.add(BINARY[call.op], [a, b]), planar=planar)


@handles("ADD_N")
def add_n(call: Call) -> None:
    """The sum of any number of inputs."""
    operands, planar = _together(call, [call.value(i) for i in range(len(call.operator.inputs))])
    call.done(call.add("Sum", operands), planar=planar)


@handles("BATCH_MATMUL")
def batch_matmul(call: Call) -> None:
    """Matrix product of the last two dimensions."""
    a, b = call.plain(0), call.plain(1)
    for i, name in ((0, "left"), (1, "right")):
        if call.flag(i):
            t = (a, b)[i]
            perm = [*range(len(t.shape) - 2), len(t.shape) - 1, len(t.shape) - 2]
            t = call.add("Transpose", [t], name, perm=perm)
            a, b = (t, b) if i == 0 else (a, t)
    call.done(call.add("MatMul", [a, b]))


@handles("CONCATENATION")
def concatenation(call: Call) -> None:
    """Inputs one after the other."""
    parts = [call.value(i) for i in range(len(call.operator.inputs))]
    rank = len(parts[0].shape)
    axis = call.axis(int(call.option(0)), rank)
    planar = rank == 4 and any(p.is_planar for p in parts)
    if any(len(p.shape) != rank for p in parts):
        raise call.damaged("CONCATENATION of different numbers of dimensions")
    operands = [p.planar if planar else p.plain for p in parts]
    y = call.add("Concat", operands, call.before(1), axis=PLANAR_AXIS[axis] if planar else axis)
    call.activate(y, 1, planar=planar)


@handles(*REDUCTIONS)
def reduce(call: Call) -> None:
    """Over some dimensions, which go or become 1."""
    v = call.value(0)
    rank, keep = len(v.shape), call.flag(0)
    axes = sorted({call.axis(a, rank) for a in call.const_ints(1, "axes")})
    rest = [PLANAR_AXIS[i] for i in range(rank) if i not in axes] if v.is_planar else []
    planar = v.is_planar and (keep or rest == sorted(rest) or all(v.planar.shape[p] == 1 for p in (2, 3)))
    x = v.planar if planar else v.plain
    at = [PLANAR_AXIS[a] for a in axes] if planar else axes
    if REDUCTIONS[call.op] == "ReduceSum":
        y = call.add("ReduceSum", [x, call.network.ints(at, f"{call.name}.axes")], keepdims=int(keep))
    else:
        y = call.add(REDUCTIONS[call.op], [x], axes=at, keepdims=int(keep))
    call.done(y, planar=planar and keep)


@handles("SOFTMAX", "LOG_SOFTMAX")
def softmax(call: Call) -> None:
    """Over the last dimension."""
    v = call.value(0)
    beta = float(call.option(0, "f32", 1.0)) if call.op == "SOFTMAX" else 1.0
    x = v.native
    if beta not in (0.0, 1.0):
        x = call.add("Mul", [x, call.number(np.float32(beta), "beta")], "scaled")
    op = "Softmax" if call.op == "SOFTMAX" else "LogSoftmax"
    call.done(call.add(op, [x], axis=1 if v.is_planar else len(v.shape) - 1), planar=v.is_planar)


@handles("L2_NORMALIZATION")
def l2_normalization(call: Call) -> None:
    """Each vector along the last dimension becomes 1 long."""
    v = call.value(0)
    axis = 1 if v.is_planar else len(v.shape) - 1
    y = call.add("LpNormalization", [v.native], call.before(0), axis=axis, p=2)
    call.activate(y, 0, planar=v.is_planar)


@handles("ARG_MAX", "ARG_MIN")
def arg_max(call: Call) -> None:
    """Where the largest (smallest) number along a dimension is."""
    v = call.value(0)
    axis = call.axis(call.const_ints(1, "axis")[0], len(v.shape))
    planar = v.is_planar and axis == 3
    x = v.planar if planar else v.plain
    op = "ArgMax" if call.op == "ARG_MAX" else "ArgMin"
    call.done(call.add(op, [x], axis=PLANAR_AXIS[axis] if planar else axis, keepdims=0))


@handles("DEQUANTIZE", "QUANTIZE", "FAKE_QUANT")
def alias(call: Call) -> None:
    """Vanish: the graph is float, and knows the quantisation of each tensor."""
    v = call.value(0)
    t = v.native
    if t.data is not None and t.dtype in ("float16", "float64"):
        t = call.number(np.asarray(t.data, np.float32), "real")
    call.done(t, planar=v.is_planar)


@handles("CAST")
def cast(call: Call) -> None:
    """Between float types (and from pixels): vanishes. To whole numbers is not taken."""
    v, to = call.value(0), call.results[0].dtype
    if to not in ("float32", "float16", "float64"):
        raise call.refuse(
            f"CAST to {to}", "the KPU computes with real numbers", "end the model before it (outputs=...)"
        )
    t = v.native
    if t.data is not None:
        t = call.number(np.asarray(t.data, np.float32), "real")
    call.done(t, planar=v.is_planar)


def _together(call: Call, values: Sequence[Value]) -> tuple[list[Tensor], bool]:
    """Return operands that broadcast, all in one order of dimensions, and whether that is the planar one."""
    planar = any(v.is_planar for v in values)
    if not planar:
        return [v.plain for v in values], False
    operands = []
    for v in values:
        if len(v.shape) == 4:
            operands.append(v.planar)
            continue
        if len(v.shape) > 4:
            raise call.refuse(f"{call.op} of a picture and {len(v.shape)} dimensions")
        if v.is_constant and np.asarray(v.plain.data).size == 1:
            operands.append(call.number(np.asarray(v.plain.data).reshape(()), "number"))
            continue
        # fewer dimensions broadcast from the last one on, which is the channels
        t = v.plain
        full = (1,) * (4 - len(t.shape)) + t.shape
        if t.data is not None:
            operands.append(call.number(np.ascontiguousarray(t.data.reshape(full).transpose(0, 3, 1, 2)), "planar"))
        else:
            operands.append(Value(call.network, v.stored, plain=call.reshape(t, full, "picture")).planar)
    return operands, True
