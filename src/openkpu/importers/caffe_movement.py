"""Handlers of Caffe layers that only move numbers, and of those that vanish."""

from __future__ import annotations

import math
from itertools import pairwise

from openkpu.importers.caffe_call import Call, handles


@handles("Dropout", "Split", "Identity")
def vanish(call: Call) -> None:
    """Nothing happens at inference; every top is the bottom."""
    call.done(*[call.x] * len(call.layer.tops))


@handles("Concat")
def concat(call: Call) -> None:
    """Blobs one after the other, by default along the channels."""
    p = call.param("concat_param")
    axis = call.axis(p.integer("axis", p.integer("concat_dim", 1)), len(call.x.shape))
    call.done(call.add("Concat", call.inputs, axis=axis))


@handles("Slice")
def slice_(call: Call) -> None:
    """Cut at given points, or into equal parts."""
    p, x = call.param("slice_param"), call.x
    axis = call.axis(p.integer("axis", p.integer("slice_dim", 1)), len(x.shape))
    count, size = len(call.layer.tops), x.shape[axis]
    points = [0, *p.integers("slice_point"), size]
    if len(points) == 2:
        points = [i * size // count for i in range(count + 1)]
    sizes = [b - a for a, b in pairwise(points)]
    if len(sizes) != count or min(sizes) < 1 or (not p.has("slice_point") and size % count):
        raise call.damaged(f"Slice of {size} into {sizes}")
    call.done(*call.network.add_many(
        "Split", [x, call.ints(sizes, "sizes")], call.layer.name, call.layer.tops, axis=axis
    ))  # fmt: skip


@handles("Reshape")
def reshape(call: Call) -> None:
    """0 keeps a dimension, -1 takes what is left; ``axis`` and ``num_axes`` say which dimensions are replaced."""
    p, x = call.param("reshape_param"), call.x
    rank = len(x.shape)
    dims = p.message("shape").integers("dim")
    begin = p.integer("axis", 0)
    begin = begin if begin >= 0 else rank + 1 + begin
    count = p.integer("num_axes", -1)
    end = rank if count == -1 else begin + count
    if not 0 <= begin <= end <= rank or len(dims) > 8 or min(dims, default=0) < -1:
        raise call.damaged(f"Reshape of axes {begin} to {end} into {dims}")
    if any(d == 0 and begin + i >= rank for i, d in enumerate(dims)):
        raise call.damaged(f"Reshape to {dims} keeps a dimension that the input does not have")
    shape = [*x.shape[:begin], *(x.shape[begin + i] if d == 0 else d for i, d in enumerate(dims)), *x.shape[end:]]
    if shape.count(-1) == 1:
        known = math.prod(d for d in shape if d != -1)
        shape[shape.index(-1)] = math.prod(x.shape) // known if known else 0
    call.done(call.reshape(x, shape))


@handles("Flatten")
def flatten(call: Call) -> None:
    """Dimensions ``axis`` to ``end_axis`` become one."""
    p, x = call.param("flatten_param"), call.x
    rank = len(x.shape)
    begin, end = call.axis(p.integer("axis", 1), rank), call.axis(p.integer("end_axis", -1), rank)
    if end < begin:
        raise call.damaged(f"Flatten from axis {begin} to {end}")
    call.done(call.reshape(x, [*x.shape[:begin], math.prod(x.shape[begin : end + 1]), *x.shape[end + 1 :]]))


@handles("Permute")
def permute(call: Call) -> None:
    """The given order; dimensions that it leaves out follow."""
    order = call.param("permute_param").integers("order")
    rank = len(call.x.shape)
    order += [i for i in range(rank) if i not in order]
    if sorted(order) != list(range(rank)):
        raise call.damaged(f"Permute by {order}")
    call.done(call.add("Transpose", [call.x], perm=order))


@handles("Crop")
def crop(call: Call) -> None:
    """Cut to the size of the second bottom from ``axis`` on, beginning at the offsets."""
    p, x, like = call.param("crop_param"), call.x, call.input(1)
    axis = call.axis(p.integer("axis", 2), len(x.shape))
    axes = list(range(axis, len(x.shape)))
    offsets = p.integers("offset") or [0]
    offsets = offsets * len(axes) if len(offsets) == 1 else offsets
    if len(offsets) != len(axes) or len(like.shape) != len(x.shape):
        raise call.damaged(f"{len(offsets)} offsets for {len(axes)} axes")
    ends = [o + like.shape[a] for o, a in zip(offsets, axes, strict=True)]
    if any(e > x.shape[a] for e, a in zip(ends, axes, strict=True)):
        raise call.damaged(f"Crop up to {ends} of {x.shape}")
    call.done(call.add("Slice", [x, call.ints(offsets, "starts"), call.ints(ends, "ends"), call.ints(axes, "axes")]))


@handles("Upsample", "Interp")
def upsample(call: Call) -> None:
    """Upsample repeats pixels by a whole factor; Interp is bilinear with the corners aligned."""
    x, kind = call.x, call.layer.type
    p = call.param("upsample_param" if kind == "Upsample" else "interp_param")
    if len(x.shape) != 4 or len(call.inputs) > 1:
        raise call.refuse(f"a {kind} layer of this form", "a picture and a constant size are taken")
    h, w = x.shape[2:]
    if kind == "Upsample":
        by = p.integer("scale", 2)
        size = [p.integer("upsample_h", h * by), p.integer("upsample_w", w * by)]
        attrs = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        size = [p.integer("height"), p.integer("width")]
        if p.has("zoom_factor"):
            z = p.integer("zoom_factor")
            size = [h + (h - 1) * (z - 1), w + (w - 1) * (z - 1)]
        elif p.has("shrink_factor"):
            z = max(1, p.integer("shrink_factor"))
            size = [(h - 1) // z + 1, (w - 1) // z + 1]
        attrs = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    sizes = call.ints([*x.shape[:2], *size], "sizes")
    call.done(call.add("Resize", [x, None, None, sizes], **attrs))


@handles("ShuffleChannel")
def shuffle(call: Call) -> None:
    """Channels of the groups in turn."""
    x = call.x
    group = call.param("shuffle_channel_param").integer("group", 1)
    n, c, h, w = x.shape
    if group < 1 or c % group:
        raise call.damaged(f"ShuffleChannel of {c} channels in {group} groups")
    parts = call.reshape(x, (n, group, c // group, h, w), "groups")
    call.done(call.reshape(call.add("Transpose", [parts], "turned", perm=[0, 2, 1, 3, 4]), (n, c, h, w)))


@handles("Tile")
def tile(call: Call) -> None:
    """Copies of the input one after the other along an axis."""
    p = call.param("tile_param")
    axis, tiles = call.axis(p.integer("axis", 1), len(call.x.shape)), p.integer("tiles", 1)
    if not 1 <= tiles <= 4096:
        raise call.damaged(f"Tile by {tiles}")
    call.done(call.add("Concat", [call.x] * tiles, axis=axis) if tiles > 1 else call.x)
