"""Handlers of poolings and resizes."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from openkpu.importers.onnx_call import Call, handles
from openkpu.importers.onnx_window import kernel_of, nearest_pixel, source_coordinate, window

NEAREST: Final = ("floor", "ceil", "round_prefer_ceil")


def _picture(call: Call) -> tuple[int, int]:
    if len(call.x.shape) != 4:
        raise call.refuse(
            f"{len(call.x.shape) - 2}-D {call.op}", f"the input is {call.shapes()}; only (1, C, H, W) is taken"
        )
    return call.x.shape[2], call.x.shape[3]


@handles("MaxPool", "AveragePool")
def pool(call: Call) -> None:
    """ceil_mode and auto_pad become explicit pads; an average over the whole map becomes GlobalAveragePool."""
    size = _picture(call)
    kernel = kernel_of(call)
    strides, written, pads, dilations, (oh, ow) = window(call, kernel, size, ceil_ok=True)
    if dilations != (1, 1):
        raise call.refuse(f"{call.op} with dilations {dilations}", fix="use a pooling without dilations")
    if call.op == "MaxPool" and len(call.outputs) > 1 and call.outputs[1]:
        call.outputs[1] = ""  # positions of the maxima: refused where something reads them
    x, shape = call.x, (*call.x.shape[:2], oh, ow)
    if call.op == "MaxPool":
        call.emit("MaxPool", [x], shape, kernel=kernel, strides=strides, pads=pads)
        return
    if kernel == size and not any(written) and (oh, ow) == (1, 1):
        call.emit("GlobalAveragePool", [x], shape)
        return
    include = call.integer("count_include_pad", 0)
    if include and pads != written:
        # padding that is written counts, the overhang of ceil_mode does not
        grown = (*x.shape[:2], size[0] + written[0] + written[2], size[1] + written[1] + written[3])
        if any(written):
            both = (0, 0, *written[:2], 0, 0, *written[2:])
            x = call.step("Pad", [x], grown, pads=both, value=0.0)
        pads, include = (0, 0, pads[2] - written[2], pads[3] - written[3]), 0
    call.emit("AveragePool", [x], shape, kernel=kernel, strides=strides, pads=pads, count_include_pad=int(include > 0))


@handles("GlobalAveragePool", "GlobalMaxPool")
def global_pool(call: Call) -> None:
    """The maximum over the whole map is a MaxPool."""
    size = _picture(call)
    shape = (*call.x.shape[:2], 1, 1)
    if call.op == "GlobalAveragePool":
        call.emit("GlobalAveragePool", [call.x], shape)
    else:
        call.emit("MaxPool", [call.x], shape, kernel=size, strides=(1, 1), pads=(0, 0, 0, 0))


@handles("Resize", "Upsample")
def resize(call: Call) -> None:
    """By scales or sizes. A nearest resize that copies the same pixels as (asymmetric, floor) becomes that."""
    x, rank = call.x, len(call.x.shape)
    mode = call.string("mode", "nearest")
    if mode not in ("nearest", "linear") or call.integer("antialias", 0) or call.integer("exclude_outside", 0):
        raise call.refuse(f"{call.op} with mode '{mode}'{' and antialias' if call.integer('antialias', 0) else ''}",
                          "nearest and linear are taken", "use nearest")  # fmt: skip
    if call.string("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise call.refuse(f"{call.op} that keeps the aspect ratio", fix="give the sizes")
    modern = call.op == "Resize" and call.opset >= 11
    kind = call.string("coordinate_transformation_mode", "half_pixel") if modern else "asymmetric"
    if kind == "tf_crop_and_resize":
        raise call.refuse(f"{call.op} with {kind}")
    axes = [call.axis(a, rank) for a in call.ints("axes", range(rank))]
    scales_at = 2 if modern else 1
    sizes, scales = list(x.shape), [1.0] * rank
    if modern and call.has(3) and call.const(3, "sizes").size:
        given = call.const_ints(3, "sizes")
        if len(given) != len(axes):
            raise call.damaged(f"{len(given)} sizes for {len(axes)} axes")
        for a, n in zip(axes, given, strict=True):
            sizes[a], scales[a] = n, n / x.shape[a]
        if call.builder.rebatch > 1 and sizes[0] == call.builder.rebatch:
            sizes[0], scales[0] = 1, 1.0
    else:
        factors = call.attrs["scales"] if "scales" in call.attrs else call.const(scales_at, "scales").reshape(-1)
        if len(factors) != len(axes) or not all(math.isfinite(f) and f > 0 for f in factors):
            raise call.damaged(f"scales {list(factors)[:8]} for {len(axes)} axes")
        for a, f in zip(axes, factors, strict=True):
            sizes[a], scales[a] = math.floor(x.shape[a] * float(f)), float(f)
    if rank != 4 or tuple(sizes[:2]) != x.shape[:2]:
        raise call.refuse(f"{call.op} to {sizes}", f"only H and W of (1, C, H, W) can change; inputs {call.shapes()}")
    call.checked(sizes)
    if tuple(sizes) == x.shape and all(s == 1 for s in scales):
        call.alias(x)
        return
    rounding = call.string("nearest_mode", "round_prefer_floor") if modern else "floor"
    if call.op == "Resize" and call.opset == 10 and any(s < 1 for s in scales):
        rounding = "ceil"  # what onnxruntime does; the text of opset 10 does not say
    kind, rounding = _plain(call, mode, kind, rounding, sizes, scales)
    call.emit("Resize", [x], sizes, mode=mode, coordinate=kind, rounding=rounding)


def _plain(call: Call, mode: str, kind: str, rounding: str, sizes: list[int], scales: list[float]) -> tuple[str, str]:
    """Return coordinate and rounding of the IR, whose scale is always out / in; refuse what that cannot express."""
    n_in = call.x.shape
    whole = [sizes[a] / n_in[a] for a in range(4)]

    def coordinates(kind: str, by: list[float]) -> list[NDArray[np.float64]]:
        return [source_coordinate(kind, n_in[a], sizes[a], by[a]) for a in (2, 3)]

    if mode == "linear":
        same = all(
            np.allclose(a, b, atol=1e-5)
            for a, b in zip(coordinates(kind, scales), coordinates(kind, whole), strict=True)
        )
        if same and kind in ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"):
            return kind, "floor"
    else:
        try:
            wanted = [nearest_pixel(c, rounding, n) for c, n in zip(coordinates(kind, scales), n_in[2:], strict=True)]
        except KeyError:
            raise call.damaged(f"nearest_mode '{rounding}' does not exist") from None
        for k, r in (("asymmetric", "floor"), (kind, rounding), *(("half_pixel", r) for r in NEAREST)):
            if k not in ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"):
                continue
            got = [nearest_pixel(c, r, n) for c, n in zip(coordinates(k, whole), n_in[2:], strict=True)]
            if all((a == b).all() for a, b in zip(wanted, got, strict=True)):
                return k, r
    raise call.refuse(
        f"{call.op} by {scales[2]:g} x {scales[3]:g} with {kind}",
        f"{n_in[2]}x{n_in[3]} becomes {sizes[2]}x{sizes[3]}, whose ratio differs from the scale",
        "give sizes instead of scales, or a whole-number scale",
    )
