"""Handlers of normalisations by the values themselves: over a picture, a layer, groups of channels, neighbours.

All are written out with means, differences and products, so that what follows needs to know only those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from openkpu.graph.ir import Tensor
from openkpu.importers.onnx_call import Call, handles


@handles("InstanceNormalization")
def instance(call: Call) -> None:
    """Each channel of a picture to mean 0 and variance 1, then scaled and shifted."""
    x = call.x
    column = (1, -1, *(1,) * (len(x.shape) - 2))
    if len(x.shape) < 3:
        raise call.damaged("InstanceNormalization needs a picture")
    scale, shift = (_channels(call, i, what).reshape(column) for i, what in ((1, "scales"), (2, "shifts")))
    _normal(call, x, range(2, len(x.shape)), call.real("epsilon", 1e-5), scale, shift)


@handles("LayerNormalization", "RMSNormalization")
def layer(call: Call) -> None:
    """Everything from ``axis`` on to mean 0 (not with RMS) and variance 1; scale and shift broadcast."""
    x, axis = call.x, call.axis(call.integer("axis", -1), len(call.x.shape))
    if any(name for name in call.outputs[1:]):
        raise call.refuse(f"{call.op} that also gives the mean", fix="end the model before what reads it")
    scale = call.const(1, "scales").astype(np.float32)
    shift = call.const(2, "shifts").astype(np.float32) if call.has(2) else np.zeros(1, np.float32)
    rest = x.shape[axis:]
    if np.broadcast_shapes(scale.shape, shift.shape, rest) != rest:
        raise call.damaged(f"the scales and shifts of {call.op} do not fit {rest}")
    _normal(call, x, range(axis, len(x.shape)), call.real("epsilon", 1e-5), scale, shift,
            centred=call.op == "LayerNormalization")  # fmt: skip


@handles("GroupNormalization")
def group(call: Call) -> None:
    """Groups of neighbouring channels to mean 0 and variance 1; before opset 21 one scale a group, then a channel."""
    x, groups = call.x, call.integer("num_groups", 0)
    if len(x.shape) < 3 or groups < 1 or x.shape[1] % groups:
        raise call.damaged(f"GroupNormalization of {x.shape[1:2]} channels in {groups} groups")
    each = x.shape[1] // groups
    scale, shift = (call.const(i, what).reshape(-1).astype(np.float32) for i, what in ((1, "scales"), (2, "shifts")))
    if len(scale) == len(shift) == groups and call.opset < 21:
        scale, shift = np.repeat(scale, each), np.repeat(shift, each)
    if not len(scale) == len(shift) == x.shape[1]:
        raise call.damaged("the scales and shifts of GroupNormalization do not fit its channels")
    column = (1, groups, each, 1)
    parted = (1, groups, each, math.prod(x.shape[2:]))
    t = call.step("Reshape", [x], parted, shape=parted)
    t = _normal(call, t, (2, 3), call.real("epsilon", 1e-5), scale.reshape(column), shift.reshape(column), last=False)
    call.emit("Reshape", [t], x.shape, shape=x.shape)


@handles("MeanVarianceNormalization")
def mean_variance(call: Call) -> None:
    """Mean 0 and variance 1 over the axes given (ONNX's default: batch and picture)."""
    x = call.x
    axes = sorted({call.axis(a, len(x.shape)) for a in call.ints("axes", (0, 2, 3))})
    _normal(call, x, axes, 1e-9, np.ones(1, np.float32), np.zeros(1, np.float32))


@handles("LRN")
def local_response(call: Call) -> None:
    """``x * (bias + alpha / size * s) ** -beta``, ``s`` the sum of squares over ``size`` neighbouring channels.

    The sum over neighbours is a 1x1 convolution, the power its activation.
    """
    x, size = call.x, call.integer("size", 0)
    if len(x.shape) != 4 or size < 1:
        raise call.refuse(f"LRN over {size} channels")
    alpha, beta, bias = call.real("alpha", 1e-4), call.real("beta", 0.75), call.real("bias", 1.0)
    c = x.shape[1]
    before = (size - 1) // 2
    away = np.arange(c)[None, :] - np.arange(c)[:, None]
    near = (away >= -before) & (away <= size - 1 - before)
    weights = call.number(np.asarray(near * (alpha / size), np.float32).reshape(c, c, 1, 1), "neighbours")
    offset = call.number(np.full(c, bias, np.float32), "bias")
    square = call.step("Mul", [x, x], x.shape)
    total = call.step("Conv", [square, weights, offset], x.shape, strides=(1, 1), pads=(0, 0, 0, 0),
                      dilations=(1, 1), group=1)  # fmt: skip
    power = call.step("Pow", [total, call.number(np.float32(-beta), "beta")], x.shape)
    call.emit("Mul", [x, power], x.shape)


def _channels(call: Call, i: int, what: str) -> np.ndarray:
    numbers = call.const(i, what).reshape(-1).astype(np.float32)
    if len(numbers) != call.x.shape[1]:
        raise call.damaged(f"{len(numbers)} {what} for {call.x.shape[1]} channels")
    return numbers


def _normal(
    call: Call,
    x: Tensor,
    axes: Sequence[int],
    epsilon: float,
    scale: np.ndarray,
    shift: np.ndarray,
    *,
    centred: bool = True,
    last: bool = True,
) -> Tensor:
    """Write out ``(x - mean) * scale / sqrt(variance + epsilon) + shift``; ``last``: it is the node's output."""
    kept = tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    if centred:
        x = call.step("Sub", [x, _mean(call, x, axes, kept)], x.shape)
    variance = _mean(call, call.step("Mul", [x, x], x.shape), axes, kept)
    spread = call.step("Sqrt", [call.step("Add", [variance, call.number(np.float32(epsilon), "epsilon")], kept)], kept)
    end = call.emit if last else call.step
    scaled_last = not shift.any()
    if scale.size == 1 or np.broadcast_shapes(scale.shape, kept) == kept:
        factor = call.step("Div", [call.number(scale, "scale"), spread], np.broadcast_shapes(scale.shape, kept))
        y = (end if scaled_last else call.step)("Mul", [x, factor], x.shape)
    else:
        y = call.step("Div", [x, spread], x.shape)
        y = (end if scaled_last else call.step)("Mul", [y, call.number(scale, "scale")], x.shape)
    return y if scaled_last else end("Add", [y, call.number(shift, "shift")], x.shape)


def _mean(call: Call, x: Tensor, axes: Sequence[int], kept: tuple[int, ...]) -> Tensor:
    """Take the mean; over height and width of a picture as a pooling."""
    if len(kept) == 4 and kept[0] == x.shape[0] and tuple(axes) in ((2, 3), (0, 2, 3)) and x.shape[0] == 1:
        return call.step("GlobalAveragePool", [x], kept)
    return call.step("ReduceMean", [x], kept, axes=tuple(axes), keepdims=1)
