"""Sliding windows: paddings made explicit, output sizes, and the pixels that a resize reads."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from openkpu.importers.onnx_call import Call


def window(call: Call, kernel: tuple[int, int], size: tuple[int, int], *, ceil_ok: bool = False) -> tuple[
    tuple[int, int], tuple[int, int, int, int], tuple[int, int, int, int], tuple[int, int], tuple[int, int]
]:  # fmt: skip
    """Return strides, the pads as written, the pads with ceil_mode worked in, dilations and the output size.

    Pads are (top, left, bottom, right). ONNX, operators Conv and MaxPool: with SAME the output is ceil(in / stride) and
    the odd pixel goes to the end (UPPER) or the beginning (LOWER); with ceil_mode the last window may hang over the far
    edge but must begin inside.
    """
    strides = _pair(call, "strides", 1)
    dilations = _pair(call, "dilations", 1)
    pads = call.ints("pads", [0] * 4, 4)
    if any(p < 0 for p in pads):
        raise call.refuse(f"negative padding {pads}", fix="crop with a Slice instead")
    ceil_mode = bool(call.integer("ceil_mode", 0)) and ceil_ok
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    auto = call.string("auto_pad", "NOTSET")
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", ""):
        raise call.damaged(f"auto_pad '{auto}' does not exist")
    if auto == "VALID":
        pads = [0] * 4
    elif auto.startswith("SAME"):
        for i in range(2):
            out = -(-size[i] // strides[i])
            total = max((out - 1) * strides[i] + reach[i] - size[i], 0)
            begin = total // 2 if auto == "SAME_UPPER" else total - total // 2
            pads[i], pads[i + 2] = begin, total - begin
    outs, ends = [], []
    for i in range(2):
        room = size[i] + pads[i] + pads[i + 2] - reach[i]
        if room < 0:
            raise call.refuse(
                f"the {call.op} window of {reach[i]} is larger than the padded input of {room + reach[i]}",
                fix="give the model a larger input",
                code="E266",
            )
        out = (math.ceil(room / strides[i]) if ceil_mode else room // strides[i]) + 1
        if ceil_mode and (out - 1) * strides[i] >= size[i] + pads[i]:
            out -= 1
        outs.append(out)
        ends.append(max(pads[i + 2], (out - 1) * strides[i] + reach[i] - size[i] - pads[i]))
    written = (pads[0], pads[1], pads[2], pads[3])
    return strides, written, (pads[0], pads[1], ends[0], ends[1]), dilations, (outs[0], outs[1])


def kernel_of(call: Call, weights: tuple[int, ...] | None = None) -> tuple[int, int]:
    """Return the kernel's height and width, from the attribute or from the weights."""
    given = call.ints("kernel_shape", list(weights or ()), 2)
    if min(given) < 1 or (weights is not None and tuple(given) != tuple(weights)):
        raise call.damaged(f"kernel_shape {given}", f"the weights are {weights}")
    return given[0], given[1]


def source_coordinate(kind: str, n_in: int, n_out: int, scale: float) -> NDArray[np.float64]:
    """Where each output pixel lies in the input; the formulas of ONNX's Resize (coordinate_transformation_mode)."""
    x = np.arange(n_out, dtype=np.float64)
    if kind == "align_corners":
        return x * (n_in - 1) / (n_out - 1) if n_out > 1 else x
    if kind == "asymmetric":
        return x / scale
    if kind == "pytorch_half_pixel" and n_out == 1:
        return x * 0
    if kind == "tf_half_pixel_for_nn":
        return (x + 0.5) / scale
    if kind == "half_pixel_symmetric":
        adjust = n_out / (scale * n_in)
        center = n_in / 2
        return center * (1 - adjust) + (x + 0.5) / scale - 0.5
    return (x + 0.5) / scale - 0.5


def nearest_pixel(coordinate: NDArray[np.float64], rounding: str, n_in: int) -> NDArray[np.int64]:
    """Return the input pixel that a nearest resize copies."""
    rules: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda v: np.ceil(v - 0.5),
        "round_prefer_ceil": lambda v: np.floor(v + 0.5),
    }
    rounded = rules[rounding](coordinate)
    return np.asarray(np.clip(rounded, 0, n_in - 1), np.int64)


def _pair(call: Call, name: str, default: int) -> tuple[int, int]:
    a, b = call.ints(name, [default] * 2, 2)
    if min(a, b) < 1:
        raise call.damaged(f"{name} {a}, {b} must be 1 or more")
    return a, b
