"""Native twins of the tensor operators that are slow in NumPy: the same bits, or NumPy where they are not built."""

from __future__ import annotations

import functools
import importlib
from math import prod
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel.operators import NO_CLAMP, BinaryOp, Clamp, Pair, ReduceOp
from openkpu.kmodel.program import QuantizedTerm
from openkpu.ops import tensor_elementwise, tensor_fixed, tensor_reduce, tensor_window
from openkpu.ops.tensor_window import Order, output_size

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


@functools.cache
def native() -> ModuleType | None:
    """The extension module, or None when it is not built (``kpu.engine`` warns of that)."""
    try:
        return importlib.import_module("openkpu._native")
    except ImportError:
        return None


def _plain(a: NDArray[Any], dtype: Any = None) -> NDArray[Any]:
    """Return the array contiguous and aligned, as the kernels read it."""
    return np.require(a, dtype, ("C_CONTIGUOUS", "ALIGNED"))


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
    """Twin of ``tensor_window.taps``, for float32 and int32."""
    module = native()
    if module is None:
        return tensor_window.taps(x, weights, bias, groups, pads, stride, dilation, order)
    kernel = module.taps_f32 if x.dtype == np.float32 else module.taps_i32
    oh, ow = (output_size(x.shape[2 + i], pads[i], weights.shape[2 + i], stride[i], dilation[i]) for i in (0, 1))
    out = np.empty((x.shape[0], weights.shape[0], oh, ow), x.dtype)
    first = int(order == "window")
    numbers = np.array([groups, *stride, *dilation, pads[0][0], pads[1][0], first], np.int64)
    kernel(_plain(x), _plain(weights, x.dtype), _plain(bias, x.dtype), out, numbers)
    return out


def quantize(x: F32, reciprocal: float, zero_point: int, *, simulator: bool) -> U8:
    """Twin of ``tensor_elementwise.quantize_device`` and ``quantize_simulator``."""
    module = native()
    if module is None:
        function = tensor_elementwise.quantize_simulator if simulator else tensor_elementwise.quantize_device
        return function(x, reciprocal, zero_point)
    out = np.empty(x.shape, np.uint8)
    with np.errstate(all="ignore"):
        factor, zero = float(np.float32(reciprocal)), float(np.float32(zero_point))
    module.quantize(_plain(x).reshape(-1), out.reshape(-1), factor, zero, simulator)
    return out


def dequantize(x: U8, reciprocal: float, zero_point: int, *, simulator: bool) -> F32:
    """``tensor_elementwise.dequantize_...`` of all 256 values, looked up."""
    function = tensor_elementwise.dequantize_simulator if simulator else tensor_elementwise.dequantize_device
    table = function(np.arange(256, dtype=np.uint8), reciprocal, zero_point)
    module = native()
    if module is None:
        result: F32 = table[x]
        return result
    out = np.empty(x.shape, np.float32)
    module.look_up(_plain(x).reshape(-1), table, out.reshape(-1))
    return out


def quantized_binary(op: BinaryOp, a: U8, b: U8, ta: QuantizedTerm, tb: QuantizedTerm, to: QuantizedTerm) -> U8:
    """Twin of ``tensor_fixed.quantized_binary``, for arrays of four dimensions."""
    module = native()
    if module is None:
        return tensor_fixed.quantized_binary(op, a, b, ta, tb, to)
    out = np.empty(np.broadcast_shapes(a.shape, b.shape), np.uint8)
    values = np.stack([tensor_fixed.scaled_bytes(t) for t in (ta, tb)])
    module.quantized_binary(_plain(a), _plain(b), out, values, op.value, to.mul, to.shift, to.offset)
    return out


def reduce(op: ReduceOp, x: F32, axes: tuple[int, ...], init: float) -> F32:
    """Twin of ``tensor_reduce.reduce``."""
    module = native()
    if module is None:
        return tensor_reduce.reduce(op, x, axes, init)
    rows, shape = tensor_reduce.rows_of(x, axes)
    with np.errstate(all="ignore"):
        out = np.full(prod(shape), init, np.float32)
        module.reduce_rows(op.value, _plain(rows.reshape(rows.shape[0], -1)), out)
        return tensor_reduce.finish(op, out.reshape(shape), x.size)


def matmul(a: F32, b: F32, bias: F32, limits: Clamp = NO_CLAMP) -> F32:
    """Twin of ``tensor_reduce.matmul``."""
    module = native()
    if module is None:
        return tensor_reduce.matmul(a, b, bias, limits)
    out = np.empty((a.shape[0], b.shape[1]), np.float32)
    module.matmul(_plain(a), _plain(b), _plain(bias, np.float32), out)
    return tensor_elementwise.clamp(out, limits)
