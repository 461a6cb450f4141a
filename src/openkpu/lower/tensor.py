"""Operators that V3 cannot express, as general tensor operators of the V4 and V5 runtimes, on the CPU.

They are the last resort: a layer comes here only when no form that the KPU runs was found. Everything works on whole
tensors of the source's own shape.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any, Final

import numpy as np

from openkpu.errors import OpenKPUError, UnsupportedError
from openkpu.graph.basic import basic
from openkpu.graph.elementwise import limits
from openkpu.graph.ir import Node, Tensor
from openkpu.lower import decide
from openkpu.lower.context import Context
from openkpu.lower.tail import follow
from openkpu.lower.view import View


def lower_tensor(ctx: Context, node: Node, refusal: OpenKPUError) -> bool:
    """Lower a node that was refused for the KPU, if the target's runtime has it; False if not.

    Raises ``UnsupportedError`` E221 where the runtime has the operator but not in this form.
    """
    if not ctx.target.has(node.op) or node.op not in LOWERING:
        return False
    before = ctx.spent
    LOWERING[node.op](ctx, node)
    why = "the KPU has no such operator" if refusal.code == "E200" else refusal.why or refusal.what
    decide.on_cpu(ctx, node, why, "" if refusal.code == "E200" else refusal.fix, ctx.spent - before)
    return True


def refuse(ctx: Context, node: Node, what: str, why: str, fix: str = "") -> UnsupportedError:
    """Build the error of an operator that the target's runtime has in other forms only."""
    return UnsupportedError(
        "E221",
        f"{node.op}: {what}",
        where=node.label,
        why=f"{ctx.target.title}: {why}",
        fix=fix or "replace the layer, or end the model before it (outputs=[...])",
    )


# -- helpers --------------------------------------------------------------------------------------------------------
def _inputs(ctx: Context, node: Node) -> list[Tensor]:
    """Return the inputs as plain tensors of the source's shapes; constants stay what they are."""
    return [t if t.is_constant else ctx.shaped(t) for t in node.inputs]


def _emit(
    ctx: Context, node: Node, op: str, inputs: list[Tensor], result: Tensor, per_value: float, **attrs: Any
) -> Tensor:
    """Append the operator, whose result is the source tensor ``result``; ``per_value`` nanoseconds for each value."""
    for t in inputs:
        _check_dims(ctx, node, t.shape)
    _check_dims(ctx, node, result.shape)
    out = ctx.emit(op, inputs, result.shape, result.name, **attrs)
    ctx.values[id(result)] = View.whole(out) if len(result.shape) == 4 and result.shape[2:] != (1, 1) else out
    ctx.spent += _size(result) * per_value / 1000
    return out


def _check_dims(ctx: Context, node: Node, shape: tuple[int, ...]) -> None:
    dims = len(shape)
    while dims > ctx.target.most_dims and shape[0] == 1:
        shape, dims = shape[1:], dims - 1
    if dims > ctx.target.most_dims:
        text = "x".join(map(str, shape))
        raise refuse(ctx, node, f"a tensor of {text}", f"its runtime has up to {ctx.target.most_dims} dimensions")


def _size(t: Tensor) -> int:
    return int(np.prod(t.shape))


def _limits_behind(ctx: Context, node: Node) -> tuple[Any, Tensor]:
    """Take a following ReLU or Clip in: the runtime limits results for nothing."""
    tail = follow(ctx, node.output, pools=False)
    if tail.fn is None or limits(tail.fn) is None:
        return None, node.output
    ctx.done |= {id(n) for n in tail.nodes}
    return tail.fn, tail.end


def _constant(ctx: Context, data: Any, name: str) -> Tensor:
    a = np.ascontiguousarray(data, np.float32)
    return Tensor(ctx.name(name), a.shape, "float32", a)


# -- operators ------------------------------------------------------------------------------------------------------
def _binary(ctx: Context, node: Node) -> None:
    inputs = _inputs(ctx, node)
    fn, end = _limits_behind(ctx, node)
    same = inputs[0].shape == inputs[1].shape
    rate = ctx.rates.binary if same else ctx.rates.broadcast
    _emit(ctx, node, "TensorBinary", inputs, end, rate.ns, kind=node.op, fn=fn, u8=False)


def _conv(ctx: Context, node: Node) -> None:
    if not all(t.is_constant for t in node.inputs[1:]):
        raise refuse(ctx, node, "weights that are computed", "weights are constants", "export constant weights")
    x = ctx.shaped(node.inputs[0])
    w, b = node.weights_and_bias()
    if node.op == "ConvTranspose" and len(node.inputs) < 3:
        b = np.zeros(node.output.shape[1], np.float32)
    fn, end = _limits_behind(ctx, node)
    stem = end.name
    constants = [_constant(ctx, w, f"{stem}.weights"), _constant(ctx, b, f"{stem}.bias")]
    macs = int(np.prod(w.shape[1:])) if node.op == "Conv" else int(np.prod(w.shape)) / node.attrs["group"] / w.shape[1]
    names = ("strides", "pads", "dilations", "group", *(["output_padding"] if node.op == "ConvTranspose" else []))
    attrs = {k: node.attrs[k] for k in names}
    _emit(ctx, node, f"Tensor{node.op}", [x, *constants], end, macs * ctx.rates.mac.ns, fn=fn, **attrs)


def float_function(ctx: Context, node: Node) -> None:
    """Lower an Elementwise on floats, written in the runtime's operators."""
    fn = basic(node.attrs["fn"])
    if fn is None:
        raise refuse(ctx, node, "a function of floats", "it has no form in the runtime's operators")
    x = ctx.shaped(node.inputs[0])
    _emit(ctx, node, "TensorFunction", [x], node.output, fn.size * ctx.rates.binary.ns, fn=node.attrs["fn"])


def _matmul(ctx: Context, node: Node) -> None:
    if node.op == "Gemm":
        x = ctx.shaped(node.inputs[0])
        if not node.inputs[1].is_constant:
            raise refuse(ctx, node, "a computed right side", "Gemm has constant weights", "write it as a MatMul")
        w, b = node.weights_and_bias()
        bias = _constant(ctx, np.broadcast_to(b.reshape(-1), w.shape[0]), f"{node.output.name}.bias")
        inputs = [x, _constant(ctx, w.T, f"{node.output.name}.weights"), bias]
    else:
        inputs = _inputs(ctx, node)
        if min(len(t.shape) for t in inputs) < 2:
            raise refuse(ctx, node, "a product with a vector", "it multiplies matrices", "reshape the vector to a row")
    fn, end = _limits_behind(ctx, node)
    _emit(ctx, node, "TensorMatMul", inputs, end, inputs[0].shape[-1] * ctx.rates.mac.ns, fn=fn)


def _reduce(ctx: Context, node: Node) -> None:
    x = ctx.shaped(node.inputs[0])
    rank = len(x.shape)
    given = node.attrs.get("axes")
    if len(node.inputs) > 1 and node.inputs[1].data is not None:
        given = [int(a) for a in np.asarray(node.inputs[1].data).reshape(-1)]
    axes = tuple(sorted({int(a) % rank for a in given})) if given is not None and len(given) else tuple(range(rank))
    op = node.op.removeprefix("Reduce").upper()
    _emit(ctx, node, "TensorReduce", [x], node.output, 0.0, kind=op, axes=axes)
    ctx.spent += _size(x) * ctx.rates.average.ns / 1000


def _positions(ctx: Context, node: Node) -> None:
    """Positions are whole numbers: the runtime gives them out, nothing else computes with them."""
    for user in ctx.users.get(id(node.output), []):
        if user.op != "Reshape" or any(u.op != "Reshape" for u in ctx.users.get(id(user.output), [])):
            raise UnsupportedError(
                "E274",
                f"{node.op} whose positions are used further on",
                where=node.label,
                why=f"{user.label} reads them, and the chip's operators compute with real numbers",
                fix="end the model at the positions, or before them (outputs=[...])",
            )
    x, a = ctx.shaped(node.inputs[0]), node.attrs
    where = {"axis": a["axis"], "keepdims": a["keepdims"], "last": bool(a["select_last_index"])}
    out = _emit(ctx, node, "TensorArg", [x], node.output, 0.0, greatest=node.op == "ArgMax", **where)
    out.dtype = "int64"
    ctx.values[id(node.output)] = out
    ctx.spent += _size(x) * ctx.rates.average.ns / 1000


def _pad(ctx: Context, node: Node) -> None:
    x = ctx.shaped(node.inputs[0])
    p, rank = node.attrs["pads"], len(node.inputs[0].shape)
    pads = (tuple(p[:rank]), tuple(p[rank:]))
    value = float(node.attrs["value"])
    _emit(ctx, node, "TensorPad", [x], node.output, ctx.rates.pad.ns, pads=pads, value=value, u8=False)


def _slice(ctx: Context, node: Node) -> None:
    x, a = ctx.shaped(node.inputs[0]), node.attrs
    begin, end, stride = [0] * len(x.shape), list(x.shape), [1] * len(x.shape)
    for start, stop, axis, step in zip(a["starts"], a["ends"], a["axes"], a["steps"], strict=True):
        taken = range(*slice(start, stop, step).indices(x.shape[axis]))
        # the runtime walks while it is before the end, and before the first element that is -1
        begin[axis], end[axis], stride[axis] = taken.start, taken.stop, taken.step
    where = {"begin": tuple(begin), "end": tuple(end), "stride": tuple(stride)}
    _emit(ctx, node, "TensorSlice", [x], node.output, ctx.rates.slice.ns, u8=False, **where)


def _transpose(ctx: Context, node: Node) -> None:
    x, order = ctx.shaped(node.inputs[0]), tuple(node.attrs["perm"])
    steps = transposes(x.shape, order)
    if steps is None:
        shape = "x".join(map(str, x.shape))
        raise refuse(ctx, node, f"order {order} of {shape}", "it reorders up to 4 dimensions that do not stay together")
    for step in steps:
        view, perm = simplify_transpose(x.shape, step)
        shift = 4 - len(view)
        ctx.spent += _size(x) * ctx.rates.transpose.ns / 1000
        x = ctx.emit(
            "TensorTranspose",
            [x],
            tuple(x.shape[i] for i in step),
            node.output.name if step is steps[-1] else f"{node.output.name}.half",
            view=(1,) * shift + view,
            perm=(*range(shift), *(i + shift for i in perm)),
            order=step,
            bytes=bool(node.attrs.get("bytes")),
            u8=False,
        )
    ctx.values[id(node.output)] = View.whole(x) if len(x.shape) == 4 and x.shape[2:] != (1, 1) else x


def transposes(shape: tuple[int, ...], perm: tuple[int, ...]) -> list[tuple[int, ...]] | None:
    """Return one or two orders, each of at most 4 groups of dimensions, that together are ``perm``; None if none."""
    if len(simplify_transpose(shape, perm)[0]) <= 4:
        return [perm]
    if len(shape) > 7:
        return None
    for first in permutations(range(len(shape))):
        if len(simplify_transpose(shape, first)[0]) > 4:
            continue
        second = tuple(first.index(p) for p in perm)
        if len(simplify_transpose(tuple(shape[i] for i in first), second)[0]) <= 4:
            return [first, second]
    return None


def simplify_transpose(shape: tuple[int, ...], perm: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Drop dimensions of 1 and join those that stay side by side; the same bytes move."""
    order = [a for a in perm if shape[a] != 1]
    groups: list[list[int]] = []
    kept = [a for a in range(len(shape)) if shape[a] != 1]
    for a in order:
        if groups and kept.index(a) == kept.index(groups[-1][-1]) + 1:
            groups[-1].append(a)
        else:
            groups.append([a])
    by_place = sorted(groups)
    view = tuple(int(np.prod([shape[a] for a in g])) for g in by_place)
    return view, tuple(by_place.index(g) for g in groups)


def _resize(ctx: Context, node: Node) -> None:
    a = node.attrs
    x = ctx.shaped(node.inputs[0])
    sizes, outs = x.shape[2:], node.output.shape[2:]
    kind = a["coordinate"]
    if kind == "pytorch_half_pixel" and min(outs) > 1:
        kind = "half_pixel"
    corners, half = kind == "align_corners", kind == "half_pixel"
    if a["mode"] == "linear":
        known = kind in ("asymmetric", "align_corners") or (half and ctx.target.resize_half_pixel)
    else:
        known = all(
            _nearest(kind, a["rounding"], n, o) == _runtime_nearest(ctx.target.version, kind, n, o)
            for n, o in zip(sizes, outs, strict=True)
        )
    if not known:
        have = "asymmetric and align_corners" + (" and half_pixel" if ctx.target.resize_half_pixel else "")
        raise refuse(
            ctx,
            node,
            f"mode {a['mode']}, {a['coordinate']}, {a['rounding']}",
            f"its runtime resizes {have}; nearest neighbour must pick the same pixels",
            "export it with asymmetric coordinates, or for V5, which has half_pixel",
        )
    # V4's kernel cuts bytes off, V5's rounds them
    before_floor = 0.0 if ctx.target.version == 4 else 0.5
    options = {"mode": a["mode"], "align_corners": corners, "half_pixel": half, "coordinate": kind}
    rounding = {"rounding": a["rounding"], "before_floor": before_floor}
    rate = ctx.rates.bilinear if a["mode"] == "linear" else ctx.rates.resize
    _emit(ctx, node, "TensorResize", [x], node.output, rate.ns, u8=False, **options, **rounding)


def _nearest(kind: str, rounding: str, n: int, out: int) -> list[int]:
    """Return the pixels that ONNX picks."""
    o = np.arange(out)
    x = {
        "half_pixel": (o + 0.5) * n / out - 0.5,
        "align_corners": o * (n - 1) / max(1, out - 1),
    }.get(kind, o * n / out)
    index = {
        "floor": np.floor(x),
        "ceil": np.ceil(x),
        "round_prefer_floor": np.ceil(x - 0.5),
        "round_prefer_ceil": np.floor(x + 0.5),
    }[rounding]
    return [int(i) for i in np.clip(index, 0, n - 1)]


def _runtime_nearest(version: int, kind: str, n: int, out: int) -> list[int]:
    """Return the pixels that the runtime picks, in its own float32 (V5: nncase 1.9's ``get_nearest_neighbor``)."""
    f = np.float32
    if version == 4 or kind == "asymmetric":
        scale = f(n) / f(out)
        return [min(int(np.floor(f(i) * scale)), n - 1) for i in range(out)]
    corners, half = kind == "align_corners", kind == "half_pixel"
    scale = f(n - 1) / f(out - 1) if corners and out > 1 else f(n) / f(out)
    offset = f(0.5) if half else f(0)
    values = [(f(i) + offset) * scale for i in range(out)]
    picked = [int(np.floor(v + f(0.5))) if corners else int(np.floor(v)) for v in values]
    return [max(0, min(i, n - 1)) for i in picked]


def concat(ctx: Context, node: Node, *, copied: bool = False) -> None:
    """Lower Concat along any axis, of computed tensors and constants; ``copied``: of a layer's copy of the picture."""
    inputs = _inputs(ctx, node)
    if copied:
        inputs = [ctx.identity(t, f"{t.name}.copy") if t.producer is None and not t.is_constant else t for t in inputs]
    options = {"u8": False, "tiles": bool(node.attrs.get("tiles"))}
    out = ctx.emit("TensorConcat", inputs, node.output.shape, node.output.name, axis=node.attrs["axis"], **options)
    ctx.values[id(node.output)] = View.whole(out) if len(out.shape) == 4 and out.shape[2:] != (1, 1) else out
    ctx.spent += _size(out) * 4 * ctx.rates.copy.ns / 1000


def _softmax(ctx: Context, node: Node) -> None:
    x = ctx.shaped(node.inputs[0])
    out = ctx.emit("TensorSoftmax", [x], node.output.shape, node.output.name, axis=node.attrs["axis"])
    ctx.values[id(node.output)] = View.whole(out) if len(out.shape) == 4 and out.shape[2:] != (1, 1) else out
    ctx.spent += _size(x) * ctx.rates.exp.ns / 1000


LOWERING: Final[dict[str, Callable[[Context, Node], None]]] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Gemm": _matmul,
    "MatMul": _matmul,
    "Add": _binary,
    "Sub": _binary,
    "Mul": _binary,
    "Div": _binary,
    "Min": _binary,
    "Max": _binary,
    "Pow": _binary,
    "Elementwise": float_function,
    "ReduceMean": _reduce,
    "ReduceMax": _reduce,
    "ReduceMin": _reduce,
    "ReduceSum": _reduce,
    "ArgMax": _positions,
    "ArgMin": _positions,
    "Pad": _pad,
    "Slice": _slice,
    "Transpose": _transpose,
    "Resize": _resize,
    "Concat": concat,
    "Softmax": _softmax,
}
