"""Tensor operators with windows: convolution, transposed convolution and pooling of V4, float32.

Sums run in the order of the runtime's C loops, one rounding a product and one an addition, so that floats agree to the
last bit with a build without fused multiply-add. Source: nncase v0.2.0-beta4, ``neutral_kernels.h``, ``cpu_kernels.h``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel.operators import NO_CLAMP, Clamp, Pair, ReduceOp
from openkpu.ops.tensor_elementwise import clamp, maximum, minimum

F32 = NDArray[np.float32]
Order = Literal["channels", "window"]
"""Which loop of a convolution is outermost: input channels, then the window (NCHW), or the reverse (NHWC)."""


def output_size(size: int, pad: Pair, kernel: int, stride: int, dilation: int) -> int:
    """Return how many windows fit."""
    return (size + sum(pad) - ((kernel - 1) * dilation + 1)) // stride + 1


def span(size: int, out: int, offset: int, stride: int) -> tuple[slice, slice]:
    """Return which outputs, and which inputs, take part in the tap at ``out * stride + offset`` inside ``size``."""
    first = max(0, -(offset // stride))
    stop = min(out, (size - 1 - offset) // stride + 1)
    if stop <= first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + offset
    return slice(first, stop), slice(start, start + (stop - first - 1) * stride + 1, stride)


def taps(
    x: NDArray[Any],
    weights: NDArray[Any],
    bias: NDArray[Any],
    groups: int,
    pads: tuple[Pair, Pair],
    stride: Pair,
    dilation: Pair,
    order: Order,
) -> NDArray[Any]:
    """Sum a convolution tap by tap: (n, c, h, w) by (oc, c / groups, kh, kw), in the arrays' own type."""
    n, _c, h, w = x.shape
    oc, gic, kh, kw = weights.shape
    oh, ow = (output_size(s, pads[i], weights.shape[2 + i], stride[i], dilation[i]) for i, s in enumerate((h, w)))
    goc = oc // groups
    out = np.broadcast_to(bias.reshape(1, groups, goc, 1, 1), (n, groups, goc, oh, ow)).astype(x.dtype)
    source, filters = x.reshape(n, groups, 1, gic, h, w), weights.reshape(groups, goc, gic, kh, kw)
    window = [(ky, kx) for ky in range(kh) for kx in range(kw)]
    steps = (
        [(i, *k) for i in range(gic) for k in window]
        if order == "channels"
        else [(i, *k) for k in window for i in range(gic)]
    )
    for ic, ky, kx in steps:
        oy, iy = span(h, oh, ky * dilation[0] - pads[0][0], stride[0])
        ox, ix = span(w, ow, kx * dilation[1] - pads[1][0], stride[1])
        out[..., oy, ox] += source[:, :, :, ic, iy, ix] * filters[None, :, :, ic, ky, kx, None, None]
    return out.reshape(n, oc, oh, ow)


Taps = Callable[[NDArray[Any], NDArray[Any], NDArray[Any], int, tuple[Pair, Pair], Pair, Pair, Order], NDArray[Any]]
"""``taps`` or its native twin."""


def conv2d(
    x: F32,
    weights: F32,
    bias: F32,
    *,
    groups: int,
    pads: tuple[Pair, Pair],
    stride: Pair,
    dilation: Pair,
    limits: Clamp = NO_CLAMP,
    order: Order = "channels",
    summed: Taps = taps,
) -> F32:
    """float32 (n, c, h, w) by (oc, c / groups, kh, kw), bias (oc,); taps outside the picture are left out."""
    with np.errstate(all="ignore"):
        return clamp(summed(x, weights, bias, groups, pads, stride, dilation, order), limits)


def conv2d_transpose(
    x: F32,
    weights: F32,
    shape: tuple[int, ...],
    *,
    groups: int,
    pads: tuple[Pair, Pair],
    stride: Pair,
    dilation: Pair,
    limits: Clamp = NO_CLAMP,
) -> F32:
    """float32 (n, c, h, w) spread over ``shape`` (n, oc, oh, ow); weights (oc, c / groups, kh, kw).

    There is no bias: the runtime reads it and does not add it. Every output element is summed over input channels,
    then input rows and columns.
    """
    n, _c, h, w = x.shape
    _, oc, oh, ow = shape
    _, gic, kh, kw = weights.shape
    goc = oc // groups
    out = np.zeros((n, groups, goc, oh, ow), np.float32)
    source, filters = x.reshape(n, groups, 1, gic, h, w), weights.reshape(groups, goc, gic, kh, kw)
    with np.errstate(all="ignore"):
        for ic in range(gic):
            # Of one channel an input pixel in an earlier row or column comes first, and it meets an output with the
            # later tap: so the window runs backwards.
            for ky in reversed(range(kh)):
                iy, oy = span(oh, h, ky * dilation[0] - pads[0][0], stride[0])
                for kx in reversed(range(kw)):
                    ix, ox = span(ow, w, kx * dilation[1] - pads[1][0], stride[1])
                    out[..., oy, ox] += source[:, :, :, ic, iy, ix] * filters[None, :, :, ic, ky, kx, None, None]
        result = out.reshape(n, oc, oh, ow)
        return result if limits == NO_CLAMP else clamp(result, limits)


def reduce_window(
    op: ReduceOp,
    x: F32,
    *,
    kernel: Pair,
    pads: tuple[Pair, Pair],
    stride: Pair,
    dilation: Pair,
    init: float,
    limits: Clamp = NO_CLAMP,
) -> F32:
    """float32 (n, c, h, w): ``op`` over the valid taps of a window, from ``init`` on; a mean divides by their count."""
    n, c, h, w = x.shape
    oh, ow = (output_size(s, pads[i], kernel[i], stride[i], dilation[i]) for i, s in enumerate((h, w)))
    out = np.full((n, c, oh, ow), init, np.float32)
    count = np.zeros((oh, ow), np.int32)
    with np.errstate(all="ignore"):
        for ky in range(kernel[0]):
            oy, iy = span(h, oh, ky * dilation[0] - pads[0][0], stride[0])
            for kx in range(kernel[1]):
                ox, ix = span(w, ow, kx * dilation[1] - pads[1][0], stride[1])
                into, values = out[..., oy, ox], x[..., iy, ix]
                if op is ReduceOp.MIN:
                    into[...] = minimum(into, values)
                elif op is ReduceOp.MAX:
                    into[...] = maximum(into, values)
                else:
                    into += values
                count[oy, ox] += 1
        if op is ReduceOp.MEAN:
            out /= count.astype(np.float32)
        return clamp(out, limits)
