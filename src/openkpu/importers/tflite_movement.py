"""Handlers of TensorFlow Lite operators that only move numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from openkpu.importers.tflite_call import PLANAR_AXIS, TO_PLANAR, Call, Repeats, Value, handles

LAST = (1 << 31) - 1


def reshape_to(call: Call, shape: list[int], i: int = 0) -> None:
    """Give input ``i`` in another shape, in the file's order of numbers."""
    v = call.value(i)
    if shape.count(-1) == 1:
        known = math.prod(d for d in shape if d != -1)
        shape[shape.index(-1)] = math.prod(v.shape) // known if known else 0
    if min(shape, default=1) < 0 or math.prod(shape) != math.prod(v.shape):
        raise call.damaged(f"{call.op} of {math.prod(v.shape)} numbers to {shape}")
    if tuple(shape) == v.shape:
        call.done(v.native, planar=v.is_planar)
        return
    if v.repeats is not None and _stretched(call, v.repeats, shape):
        return
    result = call.done(call.reshape(v.plain, shape))
    inserted = [a for a in range(1, len(shape)) if (*shape[:a], *shape[a + 1 :]) == v.shape and shape[a] == 1]
    if inserted and len(shape) == 5:
        result.repeats = Repeats(v, inserted[-1] - 1)


def _stretched(call: Call, r: Repeats, shape: list[int]) -> bool:
    """Give a picture whose rows or columns are each repeated, as a resize; False where it is something else."""
    target = list(r.source.shape)
    target[r.axis] *= r.count
    if shape != target or r.axis not in (1, 2):
        return False
    x = r.source.planar
    sizes = call.network.ints([x.shape[0], x.shape[1], target[1], target[2]], f"{call.name}.sizes")
    y = call.add(
        "Resize", [x, None, None, sizes], mode="nearest", coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )  # fmt: skip
    call.done(y, planar=True)
    return True


@handles("RESHAPE")
def reshape(call: Call) -> None:
    """The shape is an input, or among the options."""
    table = call.operator.options
    if call.has(1):
        shape = call.const_ints(1, "target shape")
    elif table is not None and table.has(0):
        shape = [int(d) for d in table.array(0, "int32", call.label)][:64]
    else:
        shape = list(call.results[0].open_shape)
    reshape_to(call, shape)


@handles("SQUEEZE")
def squeeze(call: Call) -> None:
    """Drop dimensions of size 1."""
    v, table = call.value(0), call.operator.options
    given = [] if table is None else [int(a) for a in table.array(0, "int32", call.label)][:64]
    axes = {call.axis(a, len(v.shape)) for a in given} or {i for i, d in enumerate(v.shape) if d == 1}
    if any(v.shape[a] != 1 for a in axes):
        raise call.damaged(f"SQUEEZE of dimensions {sorted(axes)} that are not 1")
    reshape_to(call, [d for i, d in enumerate(v.shape) if i not in axes])


@handles("EXPAND_DIMS")
def expand_dims(call: Call) -> None:
    """Insert a dimension of size 1."""
    v = call.value(0)
    axis = call.axis(call.const_ints(1, "axis")[0], len(v.shape) + 1)
    reshape_to(call, [*v.shape[:axis], 1, *v.shape[axis:]])


@handles("TRANSPOSE")
def transpose(call: Call) -> None:
    """Permute dimensions; between the two orders of a picture it only says which form is meant."""
    v = call.value(0)
    perm = call.const_ints(1, "permutation")
    if sorted(perm) != list(range(len(v.shape))):
        raise call.damaged(f"TRANSPOSE by {perm}", f"the input has {len(v.shape)} dimensions")
    if len(perm) == 4 and v.is_planar:
        source, by = v.planar, [PLANAR_AXIS[p] for p in perm]
    else:
        source, by = v.plain, perm
    as_planar = [by[a] for a in TO_PLANAR] if len(perm) == 4 else []
    if by == sorted(by):
        call.done(source)
    elif as_planar and as_planar == sorted(as_planar):
        call.done(source, planar=True)
    else:
        planar = len(perm) == 4 and v.is_planar
        y = call.add("Transpose", [source], perm=as_planar if planar else by)
        call.done(y, planar=planar)


def _pads(call: Call, rank: int) -> list[int]:
    pads = call.const(1, "paddings")
    if pads.shape != (rank, 2) or pads.min(initial=0) < 0:
        raise call.damaged(f"paddings of shape {pads.shape}", f"the input has {rank} dimensions")
    return [int(p) for p in pads.T.reshape(-1)]


@handles("PAD", "PADV2", "MIRROR_PAD")
def pad(call: Call) -> None:
    """With zeros or another number; mirrored borders are refused."""
    v = call.value(0)
    if call.op == "MIRROR_PAD":
        raise call.refuse(
            "MIRROR_PAD", "the chip pads with a constant", "pad with zeros in the model (padding='same', ZeroPadding2D)"
        )
    pads = _pads(call, len(v.shape))
    value = float(call.const(2, "fill value").reshape(-1)[0]) if call.op == "PADV2" and call.has(2) else 0.0
    if v.is_planar:
        pads = [pads[a + i] for i in (0, 4) for a in TO_PLANAR]
    inputs = [v.native, call.network.ints(pads, f"{call.name}.pads"), call.number(np.float32(value), "value")]
    call.done(call.add("Pad", inputs), planar=v.is_planar)


def _take(call: Call, taken: Mapping[int, tuple[int, int, int]], stem: str = "", i: int = 0) -> None:
    """Slice input ``i`` by {axis: (start, end, step)}."""
    v = call.value(i)
    axes = [PLANAR_AXIS[a] if v.is_planar else a for a in taken]
    parts = [call.network.ints([t[k] for t in taken.values()], f"{call.name}.{n}")
             for k, n in enumerate(("starts", "ends", "steps"))]  # fmt: skip
    at = call.network.ints(axes, f"{call.name}.axes")
    y = call.add("Slice", [v.native, parts[0], parts[1], at, parts[2]], stem)
    call.done(y, planar=v.is_planar)


@handles("SLICE")
def slice_(call: Call) -> None:
    """From a begin, so many; -1: up to the end."""
    rank = len(call.value(0).shape)
    begin, size = call.const_ints(1, "begins"), call.const_ints(2, "sizes")
    if not len(begin) == len(size) == rank or min(begin, default=0) < 0 or min(size, default=0) < -1:
        raise call.damaged(f"SLICE from {begin} of {size}")
    _take(call, {a: (begin[a], LAST if size[a] == -1 else begin[a] + size[a], 1) for a in range(rank)})


@handles("STRIDED_SLICE")
def strided_slice(call: Call) -> None:
    """Begins, ends and steps with the masks of NumPy-like indexing; a single index drops its dimension."""
    v = call.value(0)
    rank = len(v.shape)
    begin, end, step = (call.const_ints(i, n) for i, n in ((1, "begins"), (2, "ends"), (3, "steps")))
    begin_mask, end_mask, ellipsis, new_axis, shrink = (int(call.option(i)) for i in range(5))
    if ellipsis or new_axis:
        raise call.refuse("STRIDED_SLICE with an ellipsis or a new dimension", fix="write it with all dimensions")
    if not len(begin) == len(end) == len(step) <= rank or 0 in step:
        raise call.damaged(f"STRIDED_SLICE from {begin} to {end} by {step}")
    taken = {}
    for a, (b, e, s) in enumerate(zip(begin, end, step, strict=True)):
        if shrink >> a & 1:
            b = call.axis(b, v.shape[a])  # an index, counted from the end where it is negative
            taken[a] = (b, b + 1, 1)
        else:
            whole = (0, LAST) if s > 0 else (-1, -LAST)
            taken[a] = (whole[0] if begin_mask >> a & 1 else b, whole[1] if end_mask >> a & 1 else e, s)
    _take(call, taken, "kept" if shrink else "")
    if shrink:
        part = call.values[call.results[0].index]
        shape = [d for a, d in enumerate(part.shape) if not shrink >> a & 1]
        call.done(call.reshape(part.plain, shape))


@handles("SPLIT", "SPLIT_V")
def split(call: Call) -> None:
    """Into equal parts, or parts of given sizes (one may be -1: the rest)."""
    plain = call.op == "SPLIT"
    v = call.value(1 if plain else 0)
    axis = call.axis(call.const_ints(0 if plain else 2, "axis")[0], len(v.shape))
    count, size = len(call.results), v.shape[axis]
    sizes = [size // count] * count if plain else call.const_ints(1, "sizes")
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = size - sum(s for s in sizes if s != -1)
    if sum(sizes) != size or len(sizes) != count or min(sizes) < 1:
        raise call.damaged(f"{call.op} of {size} into {sizes}")
    at = PLANAR_AXIS[axis] if v.is_planar else axis
    names = [r.name for r in call.results]
    operands = [v.native, call.network.ints(sizes, f"{call.name}.sizes")]
    parts = call.network.add_many("Split", operands, call.source, names, axis=at)
    for i, t in enumerate(parts):
        call.done(t, i, planar=v.is_planar)


@handles("PACK")
def pack(call: Call) -> None:
    """Tensors of one shape beside each other in a new dimension."""
    count = len(call.operator.inputs)
    parts = [call.plain(i) for i in range(count)]
    axis = call.axis(int(call.option(1)), len(parts[0].shape) + 1)
    shape = [*parts[0].shape[:axis], 1, *parts[0].shape[axis:]]
    if any(p.shape != parts[0].shape for p in parts):
        raise call.damaged("PACK of different shapes")
    call.done(call.add("Concat", [call.reshape(p, shape, f"part{i}") for i, p in enumerate(parts)], axis=axis))


@handles("UNPACK")
def unpack(call: Call) -> None:
    """The slices along a dimension, which goes."""
    x, count = call.plain(), len(call.results)
    axis = call.axis(int(call.option(1)), len(x.shape))
    if x.shape[axis] != count:
        raise call.damaged(f"UNPACK of {x.shape[axis]} into {count}")
    shape = [d for i, d in enumerate(x.shape) if i != axis]
    names = [f"{r.name}.kept" for r in call.results]
    for i, t in enumerate(call.network.add_many("Split", [x], call.source, names, axis=axis)):
        target = call.network.ints(shape, f"{call.name}.shape")
        call.done(call.network.add("Reshape", [t, target], call.source, call.results[i].name), i)


@handles("SPACE_TO_DEPTH", "DEPTH_TO_SPACE")
def depth(call: Call) -> None:
    """Blocks of pixels become channels, block position first, or the other way round."""
    x, block = call.picture(), int(call.option(0))
    if block < 1:
        raise call.damaged(f"{call.op} with blocks of {block}")
    attrs = {"mode": "DCR"} if call.op == "DEPTH_TO_SPACE" else {}
    op = "DepthToSpace" if attrs else "SpaceToDepth"
    call.done(call.add(op, [x], blocksize=block, **attrs), planar=True)


@handles("GATHER")
def gather(call: Call) -> None:
    """Constant positions along one dimension."""
    if int(call.option(1)):
        raise call.refuse("GATHER with batch dimensions")
    x = call.plain()
    axis = call.axis(int(call.option(0)), len(x.shape))
    index = call.number(np.asarray(call.const(1, "positions"), np.int64), "positions")
    call.done(call.add("Gather", [x, index], axis=axis))


@handles("SHAPE")
def shape_(call: Call) -> None:
    """All shapes are known."""
    call.done(call.number(np.asarray(call.value(0).shape, np.int64), "value"))


@handles("TILE", "BROADCAST_TO")
def repeat(call: Call) -> None:
    """Repeat a tensor; to its own shape it vanishes."""
    v = call.value(0)
    target = call.const_ints(1, "shape")
    if call.op == "TILE" and len(target) == len(v.shape):
        target = [t * d for t, d in zip(target, v.shape, strict=True)]
    if tuple(target) == v.shape:
        call.done(v.native, planar=v.is_planar)
        return
    r = v.repeats
    if r is not None and r.count == 1 and (*target[: r.axis + 1], 1, *target[r.axis + 2 :]) == v.shape:
        result = _repeat(call, v, target)
        result.repeats = Repeats(r.source, r.axis, target[r.axis + 1])
        return
    _repeat(call, v, target)


def _repeat(call: Call, v: Value, target: list[int]) -> Value:
    if call.op == "BROADCAST_TO":
        return call.done(call.add("Expand", [v.plain, call.network.ints(target, f"{call.name}.shape")]))
    repeats = call.network.ints(call.const_ints(1, "repeats"), f"{call.name}.repeats")
    return call.done(call.add("Tile", [v.plain, repeats]))
