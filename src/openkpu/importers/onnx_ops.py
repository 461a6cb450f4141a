"""Handlers of the operators that compute: convolutions, matrix products, normalisation, element-wise functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.graph.ir import Tensor
from openkpu.importers.onnx_call import Call, handles
from openkpu.importers.onnx_fold import keep_name
from openkpu.importers.onnx_window import kernel_of, window


@handles("Conv")
def conv(call: Call) -> None:
    """2-D convolution with constant weights; auto_pad becomes explicit pads."""
    x, (oc, per_group, *kernel), group = _conv_parts(call)
    if x.shape[1] != per_group * group or oc % group:
        raise call.damaged(
            f"weights for {per_group * group} input channels in {group} group(s), {oc} outputs",
            f"the input has {x.shape[1]} channels",
        )
    strides, pads, _, dilations, (oh, ow) = window(call, kernel_of(call, (kernel[0], kernel[1])), x.shape[2:4])  # type: ignore[arg-type]
    call.emit(
        "Conv", _weights(call, oc), (x.shape[0], oc, oh, ow),
        strides=strides, pads=pads, dilations=dilations, group=group,
    )  # fmt: skip


@handles("ConvTranspose")
def conv_transpose(call: Call) -> None:
    """2-D transposed convolution. Output size: stride*(in-1) + output_padding + reach - pads."""
    x, (ic, per_group, *kernel), group = _conv_parts(call)
    if x.shape[1] != ic or ic % group:
        raise call.damaged(f"weights for {ic} input channels in {group} group(s)", f"the input has {x.shape[1]}")
    kh, kw = kernel_of(call, (kernel[0], kernel[1]))
    strides = call.ints("strides", [1, 1], 2)
    dilations = call.ints("dilations", [1, 1], 2)
    extra = call.ints("output_padding", [0, 0], 2)
    pads = call.ints("pads", [0] * 4, 4)
    if min(strides + dilations) < 1 or min(extra + pads) < 0:
        raise call.damaged("strides, dilations, pads or output_padding out of range")
    full = [strides[i] * (x.shape[2 + i] - 1) + extra[i] + ((kh, kw)[i] - 1) * dilations[i] + 1 for i in range(2)]
    auto = call.string("auto_pad", "NOTSET")
    wanted: list[int] | None = call.ints("output_shape", count=None) if "output_shape" in call.attrs else None
    if wanted is not None:
        wanted = wanted[-2:]
    elif auto.startswith("SAME"):
        wanted = [x.shape[2 + i] * strides[i] for i in range(2)]
    elif auto == "VALID":
        pads = [0] * 4
    if wanted is not None:
        for i in range(2):
            total = full[i] - wanted[i]
            if total < 0:
                raise call.refuse(f"ConvTranspose to {wanted}", f"without padding it gives only {full}")
            half = total // 2
            pads[i] = half if auto == "SAME_UPPER" else total - half
            pads[i + 2] = total - pads[i]
    oc = per_group * group
    call.emit(
        "ConvTranspose", _weights(call, oc),
        (x.shape[0], oc, full[0] - pads[0] - pads[2], full[1] - pads[1] - pads[3]),
        strides=tuple(strides), pads=tuple(pads), dilations=tuple(dilations), group=group, output_padding=tuple(extra),
    )  # fmt: skip


def _conv_parts(call: Call) -> tuple[Tensor, tuple[int, ...], int]:
    x, w, group = call.x, call.const(1, "weights"), call.integer("group", 1)
    if len(x.shape) != 4:
        raise call.refuse(
            f"{len(x.shape) - 2}-D {call.op}", f"the input is {call.shapes()}; (1, C, H, W) and (1, C, L) are taken",
            "take the other dimensions apart, or end the model before it (outputs=...)",
        )  # fmt: skip
    if w.ndim != 4 or group < 1:
        raise call.damaged(f"{call.op} with weights of {w.ndim} dimensions and group {group}")
    if 0 in w.shape:
        raise call.refuse(f"the weights '{call.input(1).name}' are empty", f"shape {w.shape}", code="E265")
    return x, w.shape, group


def _weights(call: Call, outputs: int) -> list[Tensor]:
    operands = [call.x, call.input(1)]
    if call.has(2):
        b = call.const(2, "bias values")
        if b.shape != (outputs,):
            raise call.damaged(f"bias of shape {b.shape}", f"{outputs} output channels")
        operands.append(call.input(2))
    return operands


@handles("BatchNormalization")
def batch_normalization(call: Call) -> None:
    """Inference form; the parameters must be constants of one value a channel."""
    if call.integer("training_mode", 0) or call.integer("spatial", 1) == 0:
        raise call.refuse("BatchNormalization in training mode or not spatial", fix="model.eval() before the export")
    x = call.x
    if len(x.shape) < 2:
        raise call.damaged("BatchNormalization needs an input with channels")
    for i, what in enumerate(("scales", "offsets", "means", "variances"), 1):
        p = call.const(i, what)
        if p.shape != (x.shape[1],):
            raise call.damaged(f"{what} of shape {p.shape}", f"the input has {x.shape[1]} channels")
    call.emit(
        "BatchNormalization", [call.input(i) for i in range(5)], x.shape, epsilon=call.real("epsilon", 1e-5)
    )  # fmt: skip


@handles("Gemm")
def gemm(call: Call) -> None:
    """``alpha * A' @ B' + beta * C``; transposes and factors go into the constants where B and C are constant."""
    a, b = call.x, call.input(1)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise call.damaged("Gemm needs matrices")
    alpha, beta = call.real("alpha", 1.0), call.real("beta", 1.0)
    trans_a, trans_b = bool(call.integer("transA", 0)), bool(call.integer("transB", 0))
    rows, inner = a.shape[::-1] if trans_a else a.shape
    inner_b, columns = b.shape[::-1] if trans_b else b.shape
    if inner != inner_b:
        raise call.damaged("the matrices of Gemm do not fit together")
    c = call.input(2) if call.has(2) and beta != 0 else None
    if c is not None and np.broadcast_shapes(c.shape, (rows, columns)) != (rows, columns):
        raise call.damaged(f"C of shape {c.shape} does not fit the product {rows}x{columns}")
    if trans_a:
        a = call.step("Reshape" if 1 in a.shape else "Transpose", [a], (rows, inner),
                      **({"shape": (rows, inner)} if 1 in a.shape else {"perm": (1, 0)}))  # fmt: skip
    if rows == 1 and b.data is not None:
        w = b.data if trans_b else b.data.T
        weights = b if trans_b and alpha == 1 else call.number(_scaled(w, alpha), "weight")
        operands = [a, weights]
        if c is not None and c.data is not None:
            bias = np.broadcast_to(c.data.reshape(-1), (columns,))
            same = c.shape == (columns,) and beta == 1
            call.emit("Gemm", [*operands, c if same else call.number(_scaled(bias, beta), "bias")], (1, columns))
            return
        if c is None:
            call.emit("Gemm", operands, (1, columns))
            return
        product = call.step("Gemm", operands, (1, columns))
    else:
        if b.data is not None:
            b = call.number(_scaled(b.data.T if trans_b else b.data, alpha), "weight")
            alpha = 1.0
        elif trans_b:
            b = call.step("Transpose", [b], (inner, columns), perm=(1, 0))
        if c is None and alpha == 1:
            call.emit("MatMul", [a, b], (rows, columns))
            return
        product = call.step("MatMul", [a, b], (rows, columns))
        if alpha != 1:
            factor = call.number(np.float32(alpha))
            if c is None:
                call.emit("Mul", [product, factor], (rows, columns))
                return
            product = call.step("Mul", [product, factor], (rows, columns))
    assert c is not None
    if beta != 1:
        c = (call.number(_scaled(c.data, beta), "bias") if c.data is not None
             else call.step("Mul", [c, call.number(np.float32(beta))], c.shape))  # fmt: skip
    call.emit("Add", [product, c], (rows, columns))


@handles("MatMul")
def matmul(call: Call) -> None:
    """A row times a constant matrix becomes Gemm; anything else stays."""
    a, b = call.x, call.input(1)
    if not a.shape or not b.shape:
        raise call.damaged("MatMul of a scalar")
    if len(a.shape) == 2 and a.shape[0] == 1 and b.data is not None and b.data.ndim == 2:
        if b.shape[0] != a.shape[1]:
            raise call.damaged("the matrices do not fit together")
        call.emit("Gemm", [a, call.number(_scaled(b.data.T, 1.0), "weight")], (1, b.shape[1]))
        return
    left = a.shape if len(a.shape) > 1 else (1, *a.shape)
    right = b.shape if len(b.shape) > 1 else (*b.shape, 1)
    if left[-1] != right[-2]:
        raise call.damaged("the matrices do not fit together")
    shape = [*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1]]
    if len(a.shape) == 1:
        del shape[-2]
    if len(b.shape) == 1:
        del shape[-1]
    call.emit("MatMul", [a, b], shape)


def _scaled(data: NDArray[Any], factor: float) -> NDArray[np.float32]:
    array = np.ascontiguousarray(data, np.float32)
    return array if factor == 1 else np.asarray(array * np.float32(factor), np.float32)


@handles(
    "Relu", "Sigmoid", "Tanh", "HardSwish", "Softplus", "Mish", "Abs", "Neg", "Exp", "Log", "Sqrt", "Floor", "Ceil",
    "Erf", "Reciprocal", "Sin", "Cos", "Round", "Sign",
)  # fmt: skip
def unary(call: Call) -> None:
    """Functions of one input without parameters."""
    call.emit(call.op, [call.x], call.x.shape)


@handles("Swish")
def swish(call: Call) -> None:
    """``x * sigmoid(alpha * x)``."""
    x, alpha = call.x, call.real("alpha", 1.0)
    if alpha == 1:
        call.emit("Silu", [x], x.shape)
        return
    scaled = call.step("Mul", [x, call.number(np.float32(alpha))], x.shape)
    call.emit("Mul", [x, call.step("Sigmoid", [scaled], x.shape)], x.shape)


@handles("Gelu")
def gelu(call: Call) -> None:
    """Written out: ``x * (0.5 + 0.5 * erf(x / sqrt 2))``, or with tanh where the file says so."""
    x, shape = call.x, call.x.shape

    def times(t: Tensor, factor: float) -> Tensor:
        return call.step("Mul", [t, call.number(np.float32(factor))], shape)

    approximate = call.string("approximate", "none")
    if approximate == "tanh":
        cube = times(call.step("Mul", [call.step("Mul", [x, x], shape), x], shape), 0.044715)
        inner = call.step("Tanh", [times(call.step("Add", [x, cube], shape), math.sqrt(2 / math.pi))], shape)
    elif approximate == "none":
        inner = call.step("Erf", [times(x, math.sqrt(0.5))], shape)
    else:
        raise call.damaged(f"Gelu with approximation '{approximate}'")
    gate = call.step("Add", [times(inner, 0.5), call.number(np.float32(0.5))], shape)
    call.emit("Mul", [x, gate], shape)


@handles("Selu")
def selu(call: Call) -> None:
    """``gamma * elu(x, alpha)``; ONNX's defaults are those of the paper."""
    curve = call.step("Elu", [call.x], call.x.shape, alpha=call.real("alpha", 1.67326319217681884765625))
    gamma = call.number(np.float32(call.real("gamma", 1.05070102214813232421875)))
    call.emit("Mul", [curve, gamma], call.x.shape)


@handles("LeakyRelu")
def leaky_relu(call: Call) -> None:
    """ONNX's default slope is 0.01."""
    call.emit("LeakyRelu", [call.x], call.x.shape, alpha=call.real("alpha", 0.01))


@handles("Elu")
def elu(call: Call) -> None:
    """ONNX's default alpha is 1."""
    call.emit("Elu", [call.x], call.x.shape, alpha=call.real("alpha", 1.0))


@handles("HardSigmoid")
def hard_sigmoid(call: Call) -> None:
    """``clip(alpha * x + beta, 0, 1)``; ONNX's defaults are 0.2 and 0.5."""
    call.emit(
        "HardSigmoid", [call.x], call.x.shape, alpha=call.real("alpha", 0.2), beta=call.real("beta", 0.5)
    )  # fmt: skip


@handles("Clip")
def clip(call: Call) -> None:
    """Limits as attributes (before opset 11) or inputs; limits computed at run time become Max and Min."""
    limits: list[float | Tensor] = []
    for i, (name, open_end) in enumerate((("min", -math.inf), ("max", math.inf)), 1):
        if call.has(i) and call.opset >= 11:
            t = call.input(i)
            limits.append(t if t.data is None else _limit(float(t.data.reshape(-1)[0])))
        else:
            value = call.attrs.get(name, open_end) if call.opset < 11 else open_end
            limits.append(_limit(float(value)))
    low, high = limits
    if isinstance(low, float) and isinstance(high, float):
        if math.isnan(low) or math.isnan(high):
            raise call.refuse("Clip with a limit that is not a number", code="E264")
        call.emit("Clip", [call.x], call.x.shape, min=low, max=high)
        return
    lows = low if isinstance(low, Tensor) else call.number(np.float32(max(low, -3e38)))
    highs = high if isinstance(high, Tensor) else call.number(np.float32(min(high, 3e38)))
    call.emit("Min", [call.step("Max", [call.x, lows], call.x.shape), highs], call.x.shape)


def _limit(value: float) -> float:
    """Largest and smallest float32 are how ONNX files write an open end."""
    return math.copysign(math.inf, value) if abs(value) > 3.4e38 else value


@handles("PRelu")
def prelu(call: Call) -> None:
    """The slope broadcasts to the input."""
    x, slope = call.x, call.input(1)
    if np.broadcast_shapes(x.shape, slope.shape) != x.shape:
        raise call.damaged("the slopes of PRelu do not fit the input")
    call.emit("PRelu", [x, slope], x.shape)


@handles("Add", "Sub", "Mul", "Div", "Pow")
def binary(call: Call) -> None:
    """Two inputs that broadcast; an integer exponent becomes a float one; ``x + 0`` and ``x * 1`` vanish."""
    a, b = call.x, call.input(1)
    swapped = (b, a) if call.op in ("Add", "Mul") and a.data is not None else (a, b)
    if swapped[1].data is not None and np.broadcast_shapes(a.shape, b.shape) == swapped[0].shape:
        neutral = 0 if call.op in ("Add", "Sub") else 1
        if swapped[1].data.size and (swapped[1].data == neutral).all():
            call.alias(swapped[0])
            return
    if call.op == "Pow" and a.dtype == "float32" and b.data is not None and b.data.dtype.kind in "iu":
        b = call.number(b.data.astype(np.float32))
    call.emit(call.op, [a, b], np.broadcast_shapes(a.shape, b.shape))


@handles("Where")
def where(call: Call) -> None:
    """PyTorch's softplus, ``where(x > 20, x, softplus(x))``, is Softplus in float32; others keep their name.

    For x >= 15, softplus(x) - x = log(1 + exp(-x)) < 3.1e-7 is less than half a step of float32 there (4.8e-7).
    """
    asked, x, other = call.x.producer, call.input(1), call.input(2).producer
    if (
        asked is not None
        and other is not None
        and (asked.op, other.op) == ("Greater", "Softplus")
        and asked.inputs[0] is x
        and other.inputs[0] is x
        and asked.inputs[1].data is not None
        and asked.inputs[1].data.size == 1
        and float(asked.inputs[1].data.reshape(-1)[0]) >= 15
    ):
        call.alias(call.input(2))
    else:
        keep_name(call)


@handles("Sum", "Max", "Min", "Mean")
def variadic(call: Call) -> None:
    """Any number of inputs: a chain of two-input operators."""
    inputs = [call.input(i) for i in range(len(call.inputs))]
    op = {"Sum": "Add", "Mean": "Add"}.get(call.op, call.op)
    last = _chain(call, op, inputs[:-1])
    if call.op == "Mean" and len(inputs) > 1:
        total = call.step(op, [last, inputs[-1]], np.broadcast_shapes(last.shape, inputs[-1].shape))
        call.emit("Mul", [total, call.number(np.float32(1 / len(inputs)))], total.shape)
    elif len(inputs) > 1:
        call.emit(op, [last, inputs[-1]], np.broadcast_shapes(last.shape, inputs[-1].shape))
    else:
        call.alias(inputs[0])


def _chain(call: Call, op: str, inputs: Sequence[Tensor]) -> Tensor:
    if not inputs:
        return call.x
    result = inputs[0]
    for t in inputs[1:]:
        result = call.step(op, [result, t], np.broadcast_shapes(result.shape, t.shape))
    return result


@handles("Softmax", "LogSoftmax")
def softmax(call: Call) -> None:
    """Before opset 13 everything from ``axis`` on is one distribution: written with Reshape where that matters."""
    x = call.x
    old = call.opset < 13
    axis = call.axis(call.integer("axis", 1 if old else -1), len(x.shape))
    log = call.op == "LogSoftmax"

    def one(source: Tensor, at: int, last: bool) -> Tensor:
        if log:
            p = call.step("Softmax", [source], source.shape, axis=at)
            return (call.emit if last else call.step)("Log", [p], source.shape)
        return (call.emit if last else call.step)("Softmax", [source], source.shape, axis=at)

    if not old or all(d == 1 for d in x.shape[axis + 1 :]):
        one(x, axis, True)
        return
    flat = (math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    result = one(call.step("Reshape", [x], flat, shape=flat), 1, False)
    call.emit("Reshape", [result], x.shape, shape=x.shape)


@handles("Dropout")
def dropout(call: Call) -> None:
    """Vanishes: nothing is dropped at inference."""
    if call.has(2) and bool(call.const(2, "training_mode").reshape(-1)[0]):
        raise call.refuse("Dropout in training mode", fix="model.eval() before the export")
    call.alias(call.x)


@handles("Identity")
def identity(call: Call) -> None:
    """Vanishes."""
    call.alias(call.x)
