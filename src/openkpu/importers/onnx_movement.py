"""Handlers of the operators that only move data: reshapes, transposes, slices, pads, concatenations, casts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from openkpu.graph.ir import Tensor
from openkpu.importers.onnx_call import Call, handles
from openkpu.importers.onnx_fold import keep_name


def reshape_to(call: Call, shape: Sequence[int]) -> None:
    """Let the output be the input in another shape."""
    target = tuple(int(d) for d in shape)
    if math.prod(target) != math.prod(call.x.shape) or any(d < 0 for d in target):
        raise call.refuse(
            f"{call.op} to {'x'.join(map(str, target))}",
            f"the input has {math.prod(call.x.shape)} numbers in shape {call.x.shape}",
            "export the model with the input size that you want, or with a free size",
            code="E266",
        )
    if target == call.x.shape:
        call.alias(call.x)
    else:
        call.emit("Reshape", [call.x], target, shape=target)


@handles("Reshape")
def reshape(call: Call) -> None:
    """0 copies a dimension, -1 takes what is left."""
    x = call.x
    target = call.ints("shape") if "shape" in call.attrs else call.const_ints(1, "target shape")
    if not call.integer("allowzero", 0):
        if any(d == 0 and i >= len(x.shape) for i, d in enumerate(target)):
            raise call.damaged(f"Reshape to {target} copies a dimension that the input does not have")
        target = [x.shape[i] if d == 0 else d for i, d in enumerate(target)]
    rebatch = call.builder.rebatch
    if rebatch > 1 and target and target[0] == rebatch and x.shape[0] == 1:
        target[0] = 1
    if target.count(-1) == 1:
        known = math.prod(d for d in target if d != -1)
        target[target.index(-1)] = math.prod(x.shape) // known if known else 0
    reshape_to(call, target)


@handles("Flatten")
def flatten(call: Call) -> None:
    """Two dimensions: everything before ``axis``, and the rest."""
    rank = len(call.x.shape)
    value = call.integer("axis", 1)
    axis = rank if value == rank else call.axis(value, rank)
    reshape_to(call, (math.prod(call.x.shape[:axis]), math.prod(call.x.shape[axis:])))


@handles("Squeeze")
def squeeze(call: Call) -> None:
    """Drop dimensions of size 1."""
    x, given = call.x, call.axes()
    if given is None:
        axes = {i for i, d in enumerate(x.shape) if d == 1}
    else:
        axes = {call.axis(a, len(x.shape)) for a in given}
    if any(x.shape[a] != 1 for a in axes):
        raise call.damaged(f"Squeeze of dimensions {sorted(axes)} that are not 1")
    reshape_to(call, [d for i, d in enumerate(x.shape) if i not in axes])


@handles("Unsqueeze")
def unsqueeze(call: Call) -> None:
    """Insert dimensions of size 1."""
    x, given = call.x, call.axes()
    if given is None:
        raise call.damaged("Unsqueeze without axes")
    rank = len(x.shape) + len(given)
    axes = {call.axis(a, rank) for a in given}
    if len(axes) != len(given):
        raise call.damaged(f"Unsqueeze with repeated axes {given}")
    rest = iter(x.shape)
    reshape_to(call, [1 if i in axes else next(rest) for i in range(rank)])


@handles("Transpose")
def transpose(call: Call) -> None:
    """Permute dimensions."""
    x = call.x
    perm = call.ints("perm", list(range(len(x.shape)))[::-1], len(x.shape))
    if sorted(perm) != list(range(len(x.shape))):
        raise call.damaged(f"Transpose by {perm}")
    if perm == sorted(perm):
        call.alias(x)
    else:
        call.emit("Transpose", [x], [x.shape[p] for p in perm], perm=tuple(perm))


@handles("Concat")
def concat(call: Call) -> None:
    """Inputs one after the other."""
    inputs = [call.input(i) for i in range(len(call.inputs))]
    rank = len(inputs[0].shape)
    axis = call.axis(call.integer("axis", 1), rank)
    inputs = [t for t in inputs if 0 not in t.shape] or inputs
    for t in inputs:
        if len(t.shape) != rank or any(a != b for i, (a, b) in enumerate(zip(t.shape, inputs[0].shape, strict=True))
                                       if i != axis):  # fmt: skip
            raise call.damaged(f"the inputs of Concat along axis {axis} do not fit together")
    if len(inputs) == 1:
        call.alias(inputs[0])
        return
    shape = list(inputs[0].shape)
    shape[axis] = sum(t.shape[axis] for t in inputs)
    call.emit("Concat", inputs, shape, axis=axis)


@handles("Cast", "CastLike")
def cast(call: Call) -> None:
    """Between float types: vanishes, the graph is float32. Other casts of computed values keep their name."""
    if call.op == "CastLike":
        floats = call.input(1).dtype.startswith(("float", "bfloat"))
    else:
        floats = call.integer("to", 0) in (1, 10, 11, 16)  # TensorProto FLOAT, FLOAT16, DOUBLE, BFLOAT16
    if floats and call.x.dtype == "float32":
        call.alias(call.x)
    else:
        keep_name(call)


@handles("Pad")
def pad(call: Call) -> None:
    """Constant padding; negative pads cut off."""
    x = call.x
    rank = len(x.shape)
    if call.opset < 11:
        pads, value = call.ints("pads", count=2 * rank), call.real("value", 0.0)
    else:
        given = call.const_ints(1, "pads")
        value = float(call.const(2, "fill value").reshape(-1)[0]) if call.has(2) else 0.0
        axes = [call.axis(a, rank) for a in call.const_ints(3, "axes")] if call.has(3) else list(range(rank))
        if len(given) != 2 * len(axes):
            raise call.damaged(f"{len(given)} pads for {len(axes)} axes")
        pads = [0] * (2 * rank)
        for i, a in enumerate(axes):
            pads[a], pads[a + rank] = given[i], given[i + len(axes)]
    if not any(pads):
        call.alias(x)
        return
    mode = call.string("mode", "constant")
    if mode not in ("constant", "edge", "reflect", "wrap"):
        raise call.damaged(f"Pad with mode '{mode}'")
    if mode != "constant":
        _pad_with_own(call, mode, pads)
        return
    cut = [max(0, -p) for p in pads]
    grow = [max(0, p) for p in pads]
    inner = tuple(d - cut[i] - cut[i + rank] for i, d in enumerate(x.shape))
    if any(cut):
        cut_axes = tuple(i for i in range(rank) if cut[i] or cut[i + rank])
        attrs = {
            "starts": tuple(cut[i] for i in cut_axes),
            "ends": tuple(x.shape[i] - cut[i + rank] for i in cut_axes),
            "axes": cut_axes,
            "steps": (1,) * len(cut_axes),
        }
        if not any(grow):
            call.emit("Slice", [x], inner, **attrs)
            return
        x = call.step("Slice", [x], inner, **attrs)
    shape = [d + grow[i] + grow[i + rank] for i, d in enumerate(inner)]
    call.emit("Pad", [x], shape, pads=tuple(grow), value=value)


def _pad_with_own(call: Call, mode: str, pads: list[int]) -> None:
    """Pad with the tensor's own rows and columns: axis by axis a Concat of slices."""
    x, rank = call.x, len(call.x.shape)
    axes = [a for a in range(rank) if pads[a] or pads[a + rank]]
    for a in axes:
        n, before, after = x.shape[a], pads[a], pads[a + rank]
        most = {"edge": before + after, "reflect": n - 1, "wrap": n}[mode]
        if min(before, after) < 0 or max(before, after) > most:
            raise call.refuse(f"Pad with mode '{mode}' by {before} and {after} of {n}", fix="pad less, or with zeros")
        if mode == "edge":
            first, last = [range(1)] * before, [range(n - 1, n)] * after
        elif mode == "reflect":
            first, last = [range(before, 0, -1)] * (before > 0), [range(n - 2, n - 2 - after, -1)] * (after > 0)
        else:
            first, last = [range(n - before, n)] * (before > 0), [range(after)] * (after > 0)
        parts = [*(_taken(call, x, a, r) for r in first), x, *(_taken(call, x, a, r) for r in last)]
        shape = [d + before + after if i == a else d for i, d in enumerate(x.shape)]
        x = (call.emit if a == axes[-1] else call.step)("Concat", parts, shape, axis=a)


def _taken(call: Call, x: Tensor, axis: int, positions: range) -> Tensor:
    """Slice one axis, on the way to the output."""
    if positions == range(x.shape[axis]):
        return x
    shape = [len(positions) if i == axis else d for i, d in enumerate(x.shape)]
    return call.step("Slice", [x], shape, **slice_attrs(x, {axis: positions}))


def slice_to(call: Call, x: Tensor, axes: dict[int, range], out: int = 0) -> None:
    """Emit a slice that takes the positions ``axes[axis]``; nothing when it takes all."""
    axes = {a: r for a, r in sorted(axes.items()) if r != range(x.shape[a])}
    if not axes:
        call.alias(x, out)
        return
    shape = [len(axes[i]) if i in axes else d for i, d in enumerate(x.shape)]
    call.emit("Slice", [x], shape, out, **slice_attrs(x, axes))


def slice_attrs(x: Tensor, axes: dict[int, range]) -> dict[str, tuple[int, ...]]:
    """Return the IR attributes of a slice. An end before element 0 is written as ``-size - 1``."""
    return {
        "starts": tuple(r.start for r in axes.values()),
        "ends": tuple(r.stop if r.stop >= 0 else -x.shape[a] - 1 for a, r in axes.items()),
        "axes": tuple(axes),
        "steps": tuple(r.step for r in axes.values()),
    }


@handles("Slice")
def slice_(call: Call) -> None:
    """Bounds as attributes (before opset 10) or inputs; clamped as in NumPy."""
    x = call.x
    if call.opset < 10:
        starts, ends = call.ints("starts"), call.ints("ends")
        axes, steps = call.ints("axes", range(len(starts))), [1] * len(starts)
    else:
        starts, ends = call.const_ints(1, "starts"), call.const_ints(2, "ends")
        axes = call.const_ints(3, "axes") if call.has(3) else list(range(len(starts)))
        steps = call.const_ints(4, "steps") if call.has(4) else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise call.damaged("the bounds of Slice do not fit together")
    taken = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        a = call.axis(axis, len(x.shape))
        taken[a] = range(*slice(start, end, step).indices(x.shape[a]))
    slice_to(call, x, taken)


@handles("Split")
def split(call: Call) -> None:
    """Each output becomes a Slice."""
    x = call.x
    axis = call.axis(call.integer("axis", 0), len(x.shape))
    size, count = x.shape[axis], len(call.outputs)
    if "split" in call.attrs:
        parts = call.ints("split")
    elif call.has(1):
        parts = call.const_ints(1, "sizes")
    else:
        step = -(-size // count)
        parts = [max(0, min(step, size - i * step)) for i in range(count)]
    if sum(parts) != size or len(parts) != count:
        raise call.damaged(f"Split of {size} into {parts}")
    begin = 0
    for i, (name, part) in enumerate(zip(call.outputs, parts, strict=True)):
        if name:
            slice_to(call, x, {axis: range(begin, begin + part)}, i)
        begin += part


@handles("Gather")
def gather(call: Call) -> None:
    """Picking positions at equal distances is a Slice; other gathers keep their name."""
    x = call.x
    axis = call.axis(call.integer("axis", 0), len(x.shape))
    index = call.input(1).data
    if index is None or index.ndim > 1 or index.size == 0 or index.size > 4096:
        keep_name(call)
        return
    flat = [int(i) for i in np.where(index < 0, index + x.shape[axis], index).reshape(-1)]
    if min(flat) < 0 or max(flat) >= x.shape[axis]:
        raise call.damaged(f"Gather of position {flat} where there are {x.shape[axis]}")
    step = flat[1] - flat[0] if len(flat) > 1 else 1
    taken = range(flat[0], flat[0] + step * len(flat), step) if step else range(0)
    if list(taken) != flat:
        keep_name(call)
    elif index.ndim == 1:
        slice_to(call, x, {axis: taken})
    else:
        part = [1 if i == axis else d for i, d in enumerate(x.shape)]
        rest = [d for i, d in enumerate(x.shape) if i != axis]
        t = x if tuple(part) == x.shape else call.step("Slice", [x], part, **slice_attrs(x, {axis: taken}))
        call.emit("Reshape", [t], rest, shape=tuple(rest))


@handles("Expand")
def expand(call: Call) -> None:
    """To the shape it has already: vanishes."""
    if call.has(1) and call.input(1).data is not None:
        target = call.const_ints(1, "shape")
        shape = np.broadcast_shapes(call.x.shape, target)
        if shape == call.x.shape:
            call.alias(call.x)
        else:
            call.emit("Expand", [call.x], shape, shape=tuple(shape))
        return
    keep_name(call)


@handles("DepthToSpace", "SpaceToDepth")
def depth(call: Call) -> None:
    """Blocks of pixels to channels and back; DCR keeps the block's position before the channel, CRD behind it."""
    x, block = call.x, call.integer("blocksize", 0)
    if len(x.shape) != 4 or block < 1:
        raise call.damaged(f"{call.op} with blocks of {block}")
    n, c, h, w = x.shape
    if call.op == "SpaceToDepth":
        if h % block or w % block:
            raise call.damaged(f"blocks of {block} do not divide {h}x{w}")
        call.emit(call.op, [x], (n, c * block * block, h // block, w // block), blocksize=block)
        return
    mode = call.string("mode", "DCR")
    if c % (block * block) or mode not in ("DCR", "CRD"):
        raise call.damaged(f"DepthToSpace of {c} channels with blocks of {block} and mode '{mode}'")
    call.emit(call.op, [x], (n, c // (block * block), h * block, w * block), blocksize=block, mode=mode)


@handles("Tile")
def tile(call: Call) -> None:
    """Copies one after the other along each axis."""
    x, repeats = call.x, call.const_ints(1, "repeats")
    if len(repeats) != len(x.shape) or min(repeats, default=1) < 1:
        raise call.damaged(f"Tile of {len(x.shape)} dimensions by {repeats}")
    if all(r == 1 for r in repeats):
        call.alias(x)
        return
    call.emit("Tile", [x], [d * r for d, r in zip(x.shape, repeats, strict=True)], repeats=tuple(repeats))
