"""Handlers of TensorFlow Lite operators with windows: convolutions, poolings, resizes, and the fully connected layer.

Weights are (O, H, W, I), of a depthwise convolution (1, H, W, O) with output ``c * multiplier + m`` from channel ``c``.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.graph.ir import Tensor
from openkpu.importers.tflite_call import Batched, Call, handles

PADDING: Final = {0: "SAME_UPPER", 1: "VALID"}


def _padding(call: Call) -> str:
    code = int(call.option(0, "i8"))
    if code not in PADDING:
        raise call.damaged(f"the padding number {code} does not exist")
    return PADDING[code]


def _weights(call: Call, i: int, order: tuple[int, ...]) -> NDArray[Any]:
    w = call.const(i, "weights")
    if w.ndim != 4:
        raise call.damaged(f"{call.op} with weights of {w.ndim} dimensions")
    return np.ascontiguousarray(np.asarray(w, np.float32).transpose(order))


def _bias(call: Call, i: int) -> list[Tensor]:
    return [call.number(np.asarray(call.const(i, "bias values"), np.float32), "bias")] if call.has(i) else []


@handles("CONV_2D", "DEPTHWISE_CONV_2D")
def conv(call: Call) -> None:
    """2-D convolution, grouped where its weights have fewer channels than the picture; depthwise with any multiplier.

    Between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND it is a convolution with dilations.
    """
    depthwise = call.op == "DEPTHWISE_CONV_2D"
    w = _weights(call, 1, (3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
    at = 5 if depthwise else 4
    activation = 4 if depthwise else 3
    strides = [int(call.option(2)), int(call.option(1))]
    dilations = [int(call.option(at + 1, default=1)), int(call.option(at, default=1))]
    batched = call.values[call.operator.inputs[0]].batched if call.has(0) else None
    x = call.picture() if batched is None else batched.picture
    channels = x.shape[1]
    if 0 in w.shape or min(strides + dilations) < 1:
        raise call.damaged(f"{call.op} with weights {w.shape}, strides {strides}, dilations {dilations}")
    if depthwise and w.shape[0] % channels:
        raise call.damaged(f"{w.shape[0]} depthwise outputs from {channels} channels")
    group = channels if depthwise else channels // w.shape[1]
    attrs: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": group}
    if batched is None:
        attrs["auto_pad"] = _padding(call)
    else:
        attrs |= _dilated(call, batched, w, strides, dilations)
    operands = [x, call.number(w, "weights"), *_bias(call, 2)]
    y = call.add("Conv", operands, call.before(activation), **attrs)
    call.activate(y, activation, planar=True)
    if batched is not None:
        value = call.values[call.results[0].index]
        value.batched = Batched(value.planar, batched.block, (0, 0, 0, 0))


def _dilated(call: Call, b: Batched, w: NDArray[Any], strides: list[int], dilations: list[int]) -> dict[str, Any]:
    """Return pads and dilations of a convolution on interleaved pictures, seen from the whole picture."""
    if strides != [1, 1] or dilations != [1, 1]:
        raise call.refuse(
            f"{call.op} with strides {strides} and dilations {dilations} on interleaved pictures",
            "with SPACE_TO_BATCH_ND only stride 1 is taken",
        )
    pads = list(b.pads)
    if _padding(call) == "SAME_UPPER":
        for i in range(2):
            total = w.shape[2 + i] - 1
            pads[i] += b.block[i] * (total // 2)
            pads[i + 2] += b.block[i] * (total - total // 2)
    return {"pads": pads, "dilations": list(b.block)}


@handles("SPACE_TO_BATCH_ND")
def space_to_batch(call: Call) -> None:
    """How older converters write dilations: see ``conv``."""
    x = call.picture()
    block = call.const_ints(1, "block sizes")
    pads = call.const_ints(2, "paddings")
    if len(block) != 2 or len(pads) != 4 or min(block) < 1 or min(pads) < 0:
        raise call.damaged(f"blocks {block}, paddings {pads}")
    if any((x.shape[2 + i] + pads[2 * i] + pads[2 * i + 1]) % block[i] for i in range(2)):
        raise call.damaged(f"a padded picture of {x.shape[2:]} that blocks {block} do not divide")
    call.done(x, planar=True).batched = Batched(x, (block[0], block[1]), (pads[0], pads[2], pads[1], pads[3]))


@handles("BATCH_TO_SPACE_ND")
def batch_to_space(call: Call) -> None:
    """Undoes SPACE_TO_BATCH_ND, and cuts the borders off."""
    v = call.values.get(call.operator.inputs[0]) if call.operator.inputs else None
    block, crops = call.const_ints(1, "block sizes"), call.const_ints(2, "crops")
    if v is None or v.batched is None:
        raise call.refuse(f"{call.op} without SPACE_TO_BATCH_ND before it", "the batch must stay 1")
    if len(crops) != 4 or min(crops) < 0 or tuple(block) != v.batched.block or any(v.batched.pads):
        raise call.refuse(f"{call.op} by {block} with crops {crops}", f"the blocks before it are {v.batched.block}")
    pads = [0, 0, -crops[0], -crops[2], 0, 0, -crops[1], -crops[3]]
    y = call.add("Pad", [v.batched.picture, call.network.ints(pads, f"{call.name}.crops")])
    call.done(y, planar=True)


@handles("TRANSPOSE_CONV")
def transpose_conv(call: Call) -> None:
    """Transposed convolution to a given size; SAME pads as the convolution from that size back would."""
    size = call.const_ints(0, "output size")
    w = _weights(call, 1, (3, 0, 1, 2))
    x = call.picture(2)
    strides = [int(call.option(2)), int(call.option(1))]
    if len(size) != 4 or min(strides) < 1 or min(size) < 1:
        raise call.damaged(f"{call.op} to {size} with strides {strides}")
    same = _padding(call) == "SAME_UPPER"
    pads, extra = [0] * 4, [0, 0]
    for i in range(2):
        out, k, s = size[1 + i], w.shape[2 + i], strides[i]
        total = max((-(-out // s) - 1) * s + k - out, 0) if same else 0
        pads[i] = total // 2
        end = s * (x.shape[2 + i] - 1) + k - pads[i] - out
        pads[i + 2], extra[i] = max(end, 0), max(-end, 0)
    operands = [x, call.number(w, "weights"), *_bias(call, 3)]
    y = call.add(
        "ConvTranspose", operands, call.before(3), strides=strides, pads=pads, output_padding=extra
    )  # fmt: skip
    call.activate(y, 3, planar=True)


@handles("MAX_POOL_2D", "AVERAGE_POOL_2D")
def pool(call: Call) -> None:
    """Padding never counts in an average."""
    kernel = [int(call.option(4)), int(call.option(3))]
    strides = [int(call.option(2)), int(call.option(1))]
    y = call.add(
        "MaxPool" if call.op == "MAX_POOL_2D" else "AveragePool", [call.picture()], call.before(5),
        kernel_shape=kernel, strides=strides, auto_pad=_padding(call),
    )  # fmt: skip
    call.activate(y, 5, planar=True)


@handles("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resize(call: Call) -> None:
    """To a constant size; the corners aligned, or half pixels, or neither."""
    x = call.picture()
    size = call.const_ints(1, "sizes")
    if len(size) != 2:
        raise call.damaged(f"{call.op} to {size}")
    linear = call.op == "RESIZE_BILINEAR"
    align, half = (call.flag(2), call.flag(3)) if linear else (call.flag(0), call.flag(1))
    kind, rounding = "asymmetric", "floor"
    if align:
        kind, rounding = "align_corners", "round_prefer_ceil"
    elif half:
        kind, rounding = "half_pixel", "round_prefer_ceil"  # floor((x + 1/2) * scale), as ONNX writes it
    sizes = call.network.ints([*x.shape[:2], *size], f"{call.name}.sizes")
    y = call.add(
        "Resize", [x, None, None, sizes], mode="linear" if linear else "nearest",
        coordinate_transformation_mode=kind, nearest_mode=rounding,
    )  # fmt: skip
    call.done(y, planar=True)


@handles("FULLY_CONNECTED")
def fully_connected(call: Call) -> None:
    """``x @ w.T + b`` over the last dimension of the weights, whatever the shape of x."""
    if int(call.option(1, "i8")):
        raise call.refuse("FULLY_CONNECTED with shuffled weights", fix="convert with the default weights format")
    w = np.asarray(call.const(1, "weights"), np.float32)
    if w.ndim != 2 or 0 in w.shape:
        raise call.damaged(f"FULLY_CONNECTED with weights of shape {w.shape}")
    x = call.plain()
    n, k = w.shape
    rows, rest = divmod(math.prod(x.shape), k)
    if rest:
        raise call.damaged(f"{math.prod(x.shape)} numbers for weights of shape {w.shape}")
    kept = call.flag(2) and len(x.shape) != 2
    shape = [*x.shape[:-1], n] if kept else [rows, n]
    flat = call.reshape(x, (rows, k), "flat") if x.shape != (rows, k) else x
    stem = "rows" if kept else call.before(0)
    y = call.add("Gemm", [flat, call.number(w, "weights"), *_bias(call, 2)], stem, transB=1)
    if kept:
        y = call.reshape(y, shape, call.before(0))
    call.activate(y, 0)
