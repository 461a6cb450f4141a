"""Handlers of Caffe layers that compute: convolutions, poolings, normalisation, sums, functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.graph.ir import Tensor
from openkpu.importers.caffe_call import Call, handles
from openkpu.importers.message import Message

UNARY: Final = {"Sigmoid": "Sigmoid", "TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus", "Swish": "Swish",
                "HardSwish": "HardSwish", "HSwish": "HardSwish", "Mish": "Mish"}  # fmt: skip


def _pair(call: Call, p: Message, name: str, default: int, plain: str = "") -> list[int]:
    """Return (height, width) of a field that is written once, twice, or as ``_h`` and ``_w``."""
    short = plain or name
    if p.has(f"{name}_h") or p.has(f"{name}_w"):
        pair = [p.integer(f"{name}_h", default), p.integer(f"{name}_w", default)]
    else:
        values = p.integers(short) or [default]
        pair = values * 2 if len(values) == 1 else values
    if len(pair) != 2 or min(pair) < (0 if name == "pad" else 1) or max(pair) > 1 << 15:
        raise call.damaged(f"{short} {pair}", "two positive sizes are needed")
    return pair


def _bias(call: Call, i: int, outputs: int) -> list[Tensor]:
    b = call.blob(i, "bias values").reshape(-1)
    if b.size != outputs:
        raise call.damaged(f"{b.size} bias values for {outputs} outputs")
    return [call.const(b, "bias")]


@handles("Convolution", "DepthwiseConvolution", "ConvolutionDepthwise", "DepthwiseConv", "ConvolutionDepthWise",
         "Deconvolution", "DeconvolutionDepthwise")  # fmt: skip
def conv(call: Call) -> None:
    """Convolution and transposed convolution; depthwise variants take their groups from the weights."""
    p, x = call.param("convolution_param"), call.x
    w = call.blob(0, "weights")
    turned = call.layer.type.startswith("Deconvolution")
    kernel = _pair(call, p, "kernel", 0, "kernel_size")
    if p.integer("axis", 1) != 1 or len(x.shape) != 4:
        raise call.refuse(f"a {call.layer.type} over other axes than height and width")
    per_group = w.size // (w.shape[0] * kernel[0] * kernel[1]) if w.ndim and w.shape[0] else 0
    if per_group == 0 or w.size != w.shape[0] * per_group * kernel[0] * kernel[1]:
        raise call.damaged(f"weights of shape {w.shape} for a {kernel[0]}x{kernel[1]} kernel")
    w = w.reshape(w.shape[0], per_group, *kernel)
    group = p.integer("group", 1)
    if "epth" in call.layer.type:
        group = x.shape[1] if turned else max(1, x.shape[1] // per_group)
    pad = _pair(call, p, "pad", 0)
    outputs = per_group * group if turned else w.shape[0]
    if p.has("num_output") and p.integer("num_output") != outputs:
        raise call.damaged(f"num_output {p.integer('num_output')}, and weights for {outputs}")
    operands = [x, call.const(w, "weights"), *(_bias(call, 1, outputs) if p.flag("bias_term", True) else [])]
    y = call.add(
        "ConvTranspose" if turned else "Conv", operands, strides=_pair(call, p, "stride", 1), pads=pad * 2,
        dilations=_pair(call, p, "dilation", 1), group=group,
    )  # fmt: skip
    call.done(y)


@handles("Pooling")
def pool(call: Call) -> None:
    """Sizes are rounded up as Caffe does; padding counts in an average, what hangs over the far edge does not."""
    p, x = call.param("pooling_param"), call.x
    kind = p.string("pool", "MAX")
    op = {"MAX": "MaxPool", "AVE": "AveragePool"}.get(kind)
    if op is None or len(x.shape) != 4 or len(call.layer.tops) > 1:
        raise call.refuse(f"{kind} pooling", "maximum and average of pictures are taken, without positions")
    if p.flag("global_pooling"):
        call.done(call.add("GlobalMaxPool" if op == "MaxPool" else "GlobalAveragePool", [x]))
        return
    pad = _pair(call, p, "pad", 0)
    up = p.string("round_mode", "CEIL") != "FLOOR" and p.flag("ceil_mode", True)
    attrs: dict[str, Any] = {"count_include_pad": 1} if op == "AveragePool" else {}
    y = call.add(
        op, [x], kernel_shape=_pair(call, p, "kernel", 0, "kernel_size"), strides=_pair(call, p, "stride", 1),
        pads=pad * 2, ceil_mode=int(up), **attrs,
    )  # fmt: skip
    call.done(y)


@handles("InnerProduct")
def inner_product(call: Call) -> None:
    """Everything from ``axis`` on is one vector."""
    p, x = call.param("inner_product_param"), call.x
    axis = call.axis(p.integer("axis", 1), len(x.shape))
    w = call.blob(0, "weights")
    rows, k = math.prod(x.shape[:axis]), math.prod(x.shape[axis:])
    if w.size % k:
        raise call.damaged(f"weights of shape {w.shape} for {k} inputs")
    n = w.size // k
    w = w.reshape(k, n).T if p.flag("transpose") else w.reshape(n, k)
    flat = x if x.shape == (rows, k) else call.reshape(x, (rows, k), "flat")
    operands = [flat, call.const(w, "weights"), *(_bias(call, 1, n) if p.flag("bias_term", True) else [])]
    y = call.add("Gemm", operands, "" if axis == 1 else "rows", transB=1)
    call.done(y if axis == 1 else call.reshape(y, (*x.shape[:axis], n)))


@handles("BatchNorm")
def batch_norm(call: Call) -> None:
    """Mean and variance are stored times a factor, which is the third blob."""
    p, x = call.param("batch_norm_param"), call.x
    if p.has("use_global_stats") and not p.flag("use_global_stats"):
        raise call.refuse("a BatchNorm that takes the mean of each batch", fix="use_global_stats: true")
    mean, variance = call.blob(0, "means").reshape(-1), call.blob(1, "variances").reshape(-1)
    factor = float(call.blob(2, "scale factors").reshape(-1)[0]) if len(call.layer.blobs) > 2 else 1.0
    factor = 0.0 if factor == 0 else 1 / factor
    c = x.shape[1] if len(x.shape) > 1 else 0
    if mean.size != c or variance.size != c:
        raise call.damaged(f"{mean.size} means and {variance.size} variances for {c} channels")
    parts = [np.ones(c), np.zeros(c), mean * factor, variance * factor]
    names = ("scale", "offset", "mean", "variance")
    operands = [x, *(call.const(a, n) for a, n in zip(parts, names, strict=True))]
    call.done(call.add("BatchNormalization", operands, epsilon=p.number("eps", 1e-5)))


def _spread(call: Call, a: NDArray[np.float32], axis: int, stem: str) -> Tensor:
    """Return weights as a constant that lies along the dimensions of the input from ``axis`` on."""
    rank = len(call.x.shape)
    shape = [d for d in a.shape if d != 1] or [1]
    if a.size == 1:
        return call.const(a.reshape(()), stem)
    if tuple(shape) != call.x.shape[axis : axis + len(shape)]:
        raise call.damaged(f"{stem} of shape {a.shape} from axis {axis} on")
    return call.const(a.reshape([1] * axis + shape + [1] * (rank - axis - len(shape))), stem)


def _second(call: Call, axis: int) -> Tensor:
    """Return the second bottom, which lies along the dimensions from ``axis`` on."""
    t, rank = call.input(1), len(call.x.shape)
    if len(t.shape) == rank and axis == 0:
        return t
    rest = rank - axis - len(t.shape)
    if rest < 0:
        raise call.damaged(f"{len(t.shape)} dimensions from axis {axis} on")
    return call.reshape(t, [1] * axis + list(t.shape) + [1] * rest, "factors")


@handles("Scale", "Bias")
def scale(call: Call) -> None:
    """Factors (and offsets) along the dimensions from ``axis`` on, learned or from a second bottom."""
    kind = call.layer.type
    p = call.param("scale_param" if kind == "Scale" else "bias_param")
    axis = call.axis(p.integer("axis", 1), len(call.x.shape))
    op = "Mul" if kind == "Scale" else "Add"
    offset = kind == "Scale" and p.flag("bias_term")
    learned = len(call.inputs) == 1
    factors = _spread(call, call.blob(0, "factors"), axis, "factors") if learned else _second(call, axis)
    y = call.add(op, [call.x, factors], "scaled" if offset else "")
    if offset:
        y = call.add("Add", [y, _spread(call, call.blob(1 if learned else 0, "offsets"), axis, "offsets")])
    call.done(y)


@handles("Axpy")
def axpy(call: Call) -> None:
    """``a * x + y`` with a number for each channel."""
    a, x, y = (call.input(i) for i in range(3))
    factors = call.reshape(a, (*a.shape[:2], 1, 1), "factors") if len(a.shape) == 2 else a
    call.done(call.add("Add", [call.add("Mul", [x, factors], "scaled"), y]))


@handles("Eltwise")
def eltwise(call: Call) -> None:
    """A sum with coefficients, a product or a maximum of blobs of one shape."""
    p = call.param("eltwise_param")
    kind, coefficients = p.string("operation", "SUM"), p.numbers("coeff")
    parts = list(call.inputs)
    if len(parts) < 2 or any(t.shape != parts[0].shape for t in parts) or len(coefficients) not in (0, len(parts)):
        raise call.damaged(f"Eltwise of {call.shapes()} with {len(coefficients)} coefficients")
    if kind not in ("SUM", "PROD", "MAX"):
        raise call.damaged(f"Eltwise with operation '{kind}'")
    if kind == "SUM" and coefficients == [1.0, -1.0]:
        call.done(call.add("Sub", parts))
        return
    if kind == "SUM":
        parts = [call.affine(t, c, 0.0, f"term{i}") for i, (t, c) in
                 enumerate(zip(parts, coefficients or [1.0] * len(parts), strict=True))]  # fmt: skip
    op = {"SUM": "Add", "PROD": "Mul", "MAX": "Max"}[kind]
    result = parts[0]
    for i, t in enumerate(parts[1:], 2):
        result = call.add(op, [result, t], "" if i == len(parts) else f"sum{i}")
    call.done(result)


@handles("ReLU")
def relu(call: Call) -> None:
    """With a slope for negative numbers, if it has one."""
    slope = call.param("relu_param").number("negative_slope")
    call.done(call.add("LeakyRelu", [call.x], alpha=slope) if slope else call.add("Relu", [call.x]))


@handles("ReLU6", "Clip")
def clip(call: Call) -> None:
    """Limits from clip_param; 0 and 6 for ReLU6."""
    p = call.param("relu6_param" if call.layer.type == "ReLU6" else "clip_param")
    low, high = p.number("min", 0.0), p.number("max", 6.0)
    call.done(call.add("Clip", [call.x, call.const(low, "min"), call.const(high, "max")]))


@handles("PReLU")
def prelu(call: Call) -> None:
    """A slope for each channel, or one for all."""
    slope = call.blob(0, "slopes").reshape(-1)
    channels = call.x.shape[1]
    if slope.size == 1:
        call.done(call.add("LeakyRelu", [call.x], alpha=float(slope[0])))
        return
    if slope.size != channels:
        raise call.damaged(f"{slope.size} slopes for {channels} channels")
    shape = (channels, *[1] * (len(call.x.shape) - 2))
    call.done(call.add("PRelu", [call.x, call.const(slope.reshape(shape), "slopes")]))


@handles("ELU")
def elu(call: Call) -> None:
    """Caffe's default alpha is 1."""
    call.done(call.add("Elu", [call.x], alpha=call.param("elu_param").number("alpha", 1.0)))


@handles(*UNARY)
def unary(call: Call) -> None:
    """Functions of one input without parameters."""
    call.done(call.add(UNARY[call.layer.type], [call.x]))


@handles("Power")
def power(call: Call) -> None:
    """``(shift + scale * x) ** power``."""
    p = call.param("power_param")
    exponent, factor, shift = p.number("power", 1.0), p.number("scale", 1.0), p.number("shift")
    y = call.affine(call.x, factor, shift, "" if exponent == 1 else "base")
    call.done(y if exponent == 1 else call.add("Pow", [y, call.const(exponent, "exponent")]))


@handles("Exp", "Log")
def exponential(call: Call) -> None:
    """``base ** (shift + scale * x)``, or the logarithm of ``shift + scale * x`` to the base; -1 stands for e."""
    exp = call.layer.type == "Exp"
    p = call.param("exp_param" if exp else "log_param")
    base, factor, shift = p.number("base", -1.0), p.number("scale", 1.0), p.number("shift")
    if base != -1 and (base <= 0 or base == 1):
        raise call.damaged(f"{call.layer.type} to the base {base}")
    natural = 1.0 if base == -1 else math.log(base)
    if exp:
        call.done(call.add("Exp", [call.affine(call.x, factor * natural, shift * natural, "exponent")]))
    else:
        y = call.add("Log", [call.affine(call.x, factor, shift, "inner")], "" if natural == 1 else "natural")
        call.done(call.affine(y, 1 / natural, 0.0))


@handles("Softmax")
def softmax(call: Call) -> None:
    """Along one axis, by default the channels."""
    axis = call.axis(call.param("softmax_param").integer("axis", 1), len(call.x.shape))
    call.done(call.add("Softmax", [call.x], axis=axis))


@handles("LRN")
def local_response(call: Call) -> None:
    """Over neighbouring channels; Caffe's defaults are 5 channels, alpha 1, beta 0.75, k 1."""
    p = call.param("lrn_param")
    size, region = p.integer("local_size", 5), p.string("norm_region", "ACROSS_CHANNELS")
    if region != "ACROSS_CHANNELS" or size % 2 == 0:
        raise call.refuse(f"LRN over {region}, size {size}", "an odd number of neighbouring channels is taken")
    alpha, beta, bias = p.number("alpha", 1.0), p.number("beta", 0.75), p.number("k", 1.0)
    call.done(call.add("LRN", [call.x], size=size, alpha=alpha, beta=beta, bias=bias))


@handles("Normalize")
def normalize(call: Call) -> None:
    """Each pixel's channels become a vector of length 1, then a learned factor for each channel."""
    p, x = call.param("norm_param"), call.x
    if p.flag("across_spatial", True):
        raise call.refuse("a Normalize over the whole picture", fix="across_spatial: false")
    y = call.add("LpNormalization", [x], "unit", axis=1, p=2)
    factors = call.blob(0, "factors").reshape(-1)
    shape: Sequence[int] = () if factors.size == 1 else (factors.size, *[1] * (len(x.shape) - 2))
    if factors.size not in (1, x.shape[1]):
        raise call.damaged(f"{factors.size} factors for {x.shape[1]} channels")
    call.done(call.add("Mul", [y, call.const(factors.reshape(shape), "factors")]))


@handles("Reduction")
def reduction(call: Call) -> None:
    """Over all dimensions from ``axis`` on; a sum, a mean, or a sum of magnitudes or squares."""
    p, x = call.param("reduction_param"), call.x
    axis = call.axis(p.integer("axis", 0), len(x.shape))
    kind = p.string("operation", "SUM")
    axes = list(range(axis, len(x.shape)))
    if kind == "ASUM":
        x = call.add("Abs", [x], "magnitude")
    elif kind == "SUMSQ":
        x = call.add("Mul", [x, x], "square")
    coefficient = p.number("coeff", 1.0)
    stem = "" if coefficient == 1 else "sum"
    if kind == "MEAN":
        y = call.add("ReduceMean", [x], stem, axes=axes, keepdims=0)
    else:
        y = call.add("ReduceSum", [x, call.ints(axes, "axes")], stem, keepdims=0)
    call.done(call.affine(y, coefficient, 0.0))


@handles("ArgMax")
def arg_max(call: Call) -> None:
    """Where the largest number along an axis is."""
    p = call.param("argmax_param")
    if not p.has("axis") or p.flag("out_max_val") or p.integer("top_k", 1) != 1:
        raise call.refuse("an ArgMax without an axis, of several, or with values", fix="end the model before it")
    call.done(call.add("ArgMax", [call.x], axis=call.axis(p.integer("axis"), len(call.x.shape)), keepdims=1))
