"""The float meaning of the lowered operators, as ONNX nodes for the float reference."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from openkpu.float.export import Emitter, Exporter, exporter
from openkpu.graph.ir import Node, Tensor
from openkpu.lower import export_tensor
from openkpu.lower.export_move import kpu_move, kpu_rows
from openkpu.lower.expression import expression
from openkpu.lower.ops import POOLS


def pre_name(out: Tensor) -> str:
    """Return the name under which the export shows a KPU layer's value before its function."""
    return f"{out.name}.pre"


def full_name(out: Tensor) -> str:
    """Return the name under which the export shows a KPU layer's value before an averaging pooling."""
    return f"{out.name}.full"


def kpu_conv(node: Node, emit: Emitter) -> None:
    """Convolution with 'same' padding, function, pooling."""
    x, w, b = node.inputs
    out = node.output.name
    if node.attrs["vector"]:
        matrix = emit.const(f"{w.name}.matrix", np.asarray(w.data).reshape(w.shape[:2]))
        pre = out if node.attrs["fn"] is None else pre_name(node.output)
        first, count = node.attrs["offset"], w.shape[1]
        source = x.name
        if count != x.shape[1]:
            source = emit.temp(out)
            ends = (("starts", [first]), ("ends", [first + count]), ("axes", [1]))
            emit.node("Slice", [x.name, *(emit.const(f"{out}.{n}", np.array(v, np.int64)) for n, v in ends)], [source])
        emit.node("Gemm", [source, matrix, b.name], [pre], transB=1)
        if node.attrs["fn"] is not None:
            expression(emit, node.attrs["fn"], pre, out)
        return
    register, stride, window = POOLS[node.attrs["pool"]]
    fn = node.attrs["fn"]
    k = w.shape[2]
    averages = node.attrs["pool"].startswith("mean")
    before_pool = out if register == 0 else full_name(node.output) if averages else emit.temp(out)
    pre = before_pool if fn is None else pre_name(node.output)
    selects = window == 1 and stride > 1
    # a selecting pooling is a stride; right-top starts one column later
    pads = [k // 2] * 4
    if node.attrs["pool"] == "right_top2":
        pads[1] -= 1
    c, h, wd = x.shape[1:]
    strides = [stride, stride] if selects else [1, 1]
    source = x.name
    if selects:
        before_pool = out
        pre = out if fn is None else pre_name(node.output)
        # take away what the last window would reach too far, so that the output has floor(n / stride) pixels
        oh, ow = node.output.shape[2:]
        pads[2] = (oh - 1) * stride + k - pads[0] - h
        pads[3] = (ow - 1) * stride + k - pads[1] - wd
        if min(pads) < 0:
            source = emit.temp(out)
            emit.node(
                "Pad",
                [
                    x.name,
                    emit.const(
                        f"{out}.crop",
                        np.array(
                            [0, 0, *(min(p, 0) for p in pads[:2]), 0, 0, *(min(p, 0) for p in pads[2:])], np.int64
                        ),
                    ),
                ],
                [source],
            )
            pads = [max(p, 0) for p in pads]
    emit.node(
        "Conv",
        [source, w.name, b.name],
        [pre],
        kernel_shape=[k, k],
        pads=pads,
        strides=strides,
        group=c if node.attrs["depthwise"] else 1,
    )
    if fn is not None:
        expression(emit, fn, pre, before_pool)
    if register and not selects:
        mean = node.attrs["pool"].startswith("mean")
        # stride 1 looks one pixel further; the mean repeats the edge, the maximum ignores what is outside
        if stride == 1 and mean:
            edge = emit.temp(out)
            emit.node(
                "Pad",
                [before_pool, emit.const(f"{out}.edge", np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64))],
                [edge],
                mode="edge",
            )
            emit.node("AveragePool", [edge], [out], kernel_shape=[2, 2], strides=[1, 1])
            return
        pads = [0, 0, 1, 1] if stride == 1 else [0, 0, 0, 0]
        emit.node(
            "AveragePool" if mean else "MaxPool",
            [before_pool],
            [out],
            kernel_shape=[window, window],
            strides=[stride, stride],
            pads=pads,
        )


def cpu_max_pool(node: Node, emit: Emitter) -> None:
    """Maximum over windows that may start inside or outside the picture."""
    a = node.attrs
    (top, left), (kh, kw), (sh, sw), (oh, ow) = a["origin"], a["kernel"], a["stride"], a["size"]
    h, w = node.inputs[0].shape[2:]
    bottom, right = (oh - 1) * sh + kh - (h - top), (ow - 1) * sw + kw - (w - left)
    x = node.inputs[0].name
    crop = [0, 0, min(0, -top), min(0, -left), 0, 0, min(0, bottom), min(0, right)]
    if any(crop):
        cut = emit.temp(node.output.name)
        emit.node("Pad", [x, emit.const(f"{node.output.name}.crop", np.array(crop, np.int64))], [cut])
        x = cut
    pads = [max(0, -top), max(0, -left), max(0, bottom), max(0, right)]
    if (kh, kw) == (1, 1):
        cut = emit.temp(node.output.name)
        emit.node(
            "Slice",
            [
                x,
                *(
                    emit.const(f"{node.output.name}.{n}", np.array(v, np.int64))
                    for n, v in (
                        ("starts", [0, 0]),
                        ("ends", [1 << 30, 1 << 30]),
                        ("axes", [2, 3]),
                        ("steps", [sh, sw]),
                    )
                ),
            ],
            [node.output.name],
        )
        return
    emit.node("MaxPool", [x], [node.output.name], kernel_shape=[kh, kw], strides=[sh, sw], pads=pads)


def cpu_pad(node: Node, emit: Emitter) -> None:
    """Zeros round a picture."""
    t, le, b, r = node.attrs["pads"]
    pads = emit.const(f"{node.output.name}.pads", np.array([0, 0, t, le, 0, 0, b, r], np.int64))
    emit.node("Pad", [node.inputs[0].name, pads], [node.output.name])


def cpu_resize(node: Node, emit: Emitter) -> None:
    """Nearest neighbour, asymmetric, floor."""
    sizes = emit.const(f"{node.output.name}.sizes", np.array(node.output.shape, np.int64))
    emit.node(
        "Resize",
        [node.inputs[0].name, "", "", sizes],
        [node.output.name],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def cpu_global_average_pool(node: Node, emit: Emitter) -> None:
    """Mean over H and W, without the two dimensions."""
    axes = emit.const(f"{node.output.name}.axes", np.array([2, 3], np.int64))
    whole = emit.temp(node.output.name)
    emit.node("GlobalAveragePool", [node.inputs[0].name], [whole])
    emit.node("Squeeze", [whole, axes], [node.output.name])


def cpu_average_pool(node: Node, emit: Emitter) -> None:
    """Mean over the taps inside."""
    a = node.attrs
    emit.node(
        "AveragePool",
        [node.inputs[0].name],
        [node.output.name],
        kernel_shape=list(a["kernel"]),
        strides=list(a["stride"]),
        pads=list(a["pads"]),
        count_include_pad=0,
    )


def cpu_fully_connected(node: Node, emit: Emitter) -> None:
    """Matrix product and ReLU or ReLU6."""
    fn = node.attrs["fn"]
    out = node.output.name
    linear = out if fn is None else emit.temp(out)
    emit.node("Gemm", [t.name for t in node.inputs], [linear], transB=1)
    if fn is not None:
        expression(emit, fn, linear, out)


def _simple(op: str, **attrs: Any) -> Exporter:
    def export(node: Node, emit: Emitter) -> None:
        emit.node(op, [t.name for t in node.inputs], [node.output.name], **attrs)

    return export


def cpu_interleave(node: Node, emit: Emitter) -> None:
    """Channels between the pixels."""
    emit.node("Transpose", [node.inputs[0].name], [node.output.name], perm=list(node.attrs["perm"]))


def cpu_normalize(node: Node, emit: Emitter) -> None:
    """A vector over its norm."""
    emit.node("LpNormalization", [node.inputs[0].name], [node.output.name], axis=node.attrs["axis"], p=node.attrs["p"])


def cpu_concat(node: Node, emit: Emitter) -> None:
    """One after the other along an axis."""
    axis = 1 if node.op == "KpuConcat" else node.attrs["axis"]
    emit.node("Concat", [t.name for t in node.inputs], [node.output.name], axis=axis)


def kpu_slice(node: Node, emit: Emitter) -> None:
    """Some channels."""
    first, end = node.attrs["first"], node.attrs["first"] + node.attrs["count"]
    out = node.output.name
    bounds = [emit.const(f"{out}.{k}", np.array([v], np.int64)) for k, v in (("from", first), ("to", end), ("axis", 1))]
    emit.node("Slice", [node.inputs[0].name, *bounds], [out])


def elementwise(node: Node, emit: Emitter) -> None:
    """A function that the passes put together."""
    expression(emit, node.attrs["fn"], node.inputs[0].name, node.output.name)


EXPORTERS: Final[dict[str, Exporter]] = {
    "Elementwise": elementwise,
    "KpuConv": kpu_conv,
    "KpuConcat": cpu_concat,
    "KpuSlice": kpu_slice,
    "KpuMove": kpu_move,
    "KpuRows": kpu_rows,
    "CpuMaxPool": cpu_max_pool,
    "CpuPad": cpu_pad,
    "CpuResize": cpu_resize,
    "CpuTable": elementwise,
    "CpuInterleave": cpu_interleave,
    "CpuGlobalAveragePool": cpu_global_average_pool,
    "CpuAveragePool": cpu_average_pool,
    "CpuFullyConnected": cpu_fully_connected,
    "CpuSoftmax": _simple("Softmax", axis=-1),
    "CpuLogistic": _simple("Sigmoid"),
    "CpuAdd": _simple("Add"),
    "CpuNormalize": cpu_normalize,
    "CpuToHWC": _simple("Transpose", perm=[0, 2, 3, 1]),
    "CpuConcat": cpu_concat,
}


def register_exporters() -> None:
    """Make the float reference know the lowered operators."""
    for op, function in (EXPORTERS | export_tensor.EXPORTERS).items():
        exporter(op)(function)
