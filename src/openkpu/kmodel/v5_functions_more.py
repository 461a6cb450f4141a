"""The tensor functions of V5's stackvm beyond those of ``v5_functions``: instruction <-> step, each declared once."""

from __future__ import annotations

from typing import Final

from openkpu.kmodel import operators_v5 as o
from openkpu.kmodel.program import DType, Step
from openkpu.kmodel.v5_call import Call, TensorFunction, Values, fields_of, function, number
from openkpu.kmodel.v5_functions import F32, IN_OUT, U8, pair_fields
from openkpu.kmodel.v5_functions_window import reduced

_PAIR: Final = "@a @b @out r:a_shape r:a_strides r:b_shape r:b_strides r:out_shape r:out_strides"


def _read_compare(c: Call) -> Step:
    dtype = c.dtype("type", U8, F32, DType.I32, DType.I64)
    a, b, out = c["a_shape"], c["b_shape"], c["out_shape"]
    c.broadcast((a, b), out)
    return o.Compare(
        input_a=c.operand("a", dtype, a, c["a_strides"]),
        input_b=c.operand("b", dtype, b, c["b_strides"]),
        output=c.operand("out", U8, out, c["out_strides"]),
        op=c.one_of("op", o.CompareOp),
    )


def _read_broadcast(c: Call) -> Step:
    dtype = c.dtype("type")
    c.broadcast((c["in_shape"],), c["out_shape"])
    source = c.operand("in", dtype, c["in_shape"], c["in_strides"])
    return o.Broadcast(input=source, output=c.operand("out", dtype, c["out_shape"], c["out_strides"]))


def _read_convert(c: Call) -> Step:
    source, target = c.same(c.dtype("in_type"), c.dtype("out_type"))
    return o.Convert(input=source, output=target)


def _blocks(c: Call, pads: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Block sizes and pads of the last dimensions."""
    shape, block = c["in_shape"], c["block"]
    amounts = tuple((b, a) for b, a, _ in c[pads])
    good = 0 < len(block) < len(shape) and len(amounts) == len(block) and min(block) > 0
    c.need(good, "blocks of a rank that does not fit", f"{block}, {amounts}, tensor {shape}")
    c.need(all(x >= 0 for pair in amounts for x in pair), "negative pads", amounts)
    return block, amounts


def size(block: tuple[int, ...]) -> int:
    """Product of sizes; 1 of none."""
    n = 1
    for b in block:
        n *= b
    return n


def _read_batch_to_space(c: Call) -> Step:
    dtype, shape = c.dtype("type"), c["in_shape"]
    block, crops = _blocks(c, "crops")
    c.need(shape[0] % size(block) == 0, "a batch that is no multiple of the blocks", f"{shape} and {block}")
    rest = len(shape) - len(block)
    last = tuple(n * b - sum(p) for n, b, p in zip(shape[rest:], block, crops, strict=True))
    out = (shape[0] // size(block), *shape[1:rest], *last)
    source = c.operand("in", dtype, shape, c["in_strides"])
    return o.BatchToSpace(input=source, output=c.operand("out", dtype, out, c["out_strides"]), block=block, crops=crops)


def _read_space_to_batch(c: Call) -> Step:
    dtype, shape = c.dtype("type"), c["in_shape"]
    if dtype.size == 8:
        raise c.unsupported("an element type that this function does not take", dtype.value)
    block, pads = _blocks(c, "pads")
    rest = len(shape) - len(block)
    padded = tuple(n + sum(p) for n, p in zip(shape[rest:], pads, strict=True))
    c.need(all(n % b == 0 for n, b in zip(padded, block, strict=True)), "blocks that do not fit", f"{padded}, {block}")
    out = (shape[0] * size(block), *shape[1:rest], *(n // b for n, b in zip(padded, block, strict=True)))
    return o.SpaceToBatch(
        input=c.operand("in", dtype, shape, c["in_strides"]),
        output=c.operand("out", dtype, out),  # the runtime writes it dense
        block=block,
        pads=pads,
    )


def _three(pairs: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int, int], ...]:
    return tuple((b, a, 0) for b, a in pairs)


def _read_cumsum(c: Call) -> Step:
    source, target = c.same(c.dtype("type", F32, DType.I32))
    c.need(0 <= c["axis"] < len(source.shape), "an axis outside the tensor", c["axis"])
    return o.CumSum(
        input=source, output=target, axis=c["axis"], exclusive=bool(c["exclusive"]), reverse=bool(c["reverse"])
    )


def _read_hardmax(c: Call) -> Step:
    shape = c["in_shape"]
    c.need(0 <= c["axis"] < len(shape), "an axis outside the tensor", c["axis"])
    source = c.operand("in", c.dtype("type", F32), shape, c["in_strides"])
    if source.strides is not None:
        raise c.unsupported("a tensor that is not dense", "the runtime takes it for dense")
    return o.HardMax(input=source, output=c.operand("out", F32, shape), axis=c["axis"])


def _read_layer_norm(c: Call) -> Step:
    source, target = c.same(c.dtype("type", F32))
    axis = c["axis"]
    c.need(0 <= axis < len(source.shape), "an axis outside the tensor", axis)
    inner = source.shape[axis:]
    return o.LayerNorm(
        input=source,
        scale=c.operand("scale", F32, inner),
        bias=c.operand("bias", F32, inner),
        output=target,
        axis=axis,
        epsilon=c["epsilon"],
    )


def _read_reduce_arg(c: Call) -> Step:
    shape = c["in_shape"]
    axes, keep = c.axes("axes", len(shape)), bool(c["keep_dims"])
    c.need(len(axes) == 1 and c["op"] < 2, "not one axis, or a number without meaning", f"{axes}, op {c['op']}")
    out = c.dtype("out_type", DType.I32, DType.I64)
    return o.ReduceArg(
        input=c.operand("in", c.dtype("in_type", F32), shape, c["in_strides"]),
        output=c.operand("out", out, reduced(shape, axes, keep_dims=keep), c["out_strides"]),
        greatest=bool(c["op"]),
        axes=axes,
        keep_dims=keep,
        last=bool(c["last"]),
    )


def _write_reduce_arg(s: o.ReduceArg) -> Values:
    more = {"out_type": number(s.output.dtype), "op": int(s.greatest), "axes": s.axes}
    return {**fields_of(s, "in_type"), **more, "keep_dims": s.keep_dims, "last": s.last}


def _read_reduce_prod(c: Call) -> Step:
    dtype, shape = c.dtype("type", F32, DType.I32) if "type" in c.values else F32, c["in_shape"]
    axes, keep = c.axes("axes", len(shape)), bool(c["keep_dims"])
    return o.ReduceProd(
        input=c.operand("in", dtype, shape, c["in_strides"]),
        output=c.operand("out", dtype, reduced(shape, axes, keep_dims=keep), c["out_strides"]),
        axes=axes,
        keep_dims=keep,
    )


def _read_sigmoid(c: Call) -> Step:
    source, target = c.same(c.dtype("type", F32))
    return o.Sigmoid(input=source, output=target)


def _read_ternary(c: Call) -> Step:
    dtype = c.dtype("type", F32)
    shapes = c["a_shape"], c["b_shape"], c["c_shape"]
    rank = max(len(s) for s in shapes)
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    out = tuple(max(sizes) for sizes in zip(*padded, strict=True))
    c.broadcast(shapes, out)
    return o.Ternary(
        condition=c.operand("a", dtype, shapes[0], c["a_strides"]),
        input_a=c.operand("b", dtype, shapes[1], c["b_strides"]),
        input_b=c.operand("c", dtype, shapes[2], c["c_strides"]),
        output=c.operand("out", dtype, out, c["out_strides"]),
    )


def _write_ternary(s: o.Ternary) -> Values:
    values: Values = {"out": s.output, "type": number(s.output.dtype), "out_strides": s.output}
    for name, x in (("a", s.condition), ("b", s.input_a), ("c", s.input_b)):
        values |= {name: x, f"{name}_shape": x.shape, f"{name}_strides": x}
    return values


def _read_trilu(c: Call) -> Step:
    source, target = c.same(c.dtype("type", F32))
    c.need(len(source.shape) >= 2 and abs(c["k"]) < 1 << 31, "no matrix, or a diagonal far off", source.shape)
    return o.Trilu(input=source, output=target, upper=bool(c["upper"]), k=c["k"])


MORE: Final[tuple[TensorFunction, ...]] = (
    function(
        "COMPARE",
        _PAIR,
        o.Compare,
        read=_read_compare,
        write=lambda s: {**pair_fields(s), "type": number(s.input_a.dtype), "op": s.op.value},
    ),
    function(
        "BROADCAST",
        "@in @out r:in_shape r:in_strides r:out_shape r:out_strides",
        o.Broadcast,
        read=_read_broadcast,
        write=lambda s: {**fields_of(s), "out_shape": s.output.shape},
    ),
    function(
        "CONVERT",
        IN_OUT,
        o.Convert,
        read=_read_convert,
        write=lambda s: {**fields_of(s, "in_type"), "out_type": number(s.output.dtype)},
    ),
    function(
        "BATCH_TO_SPACE",
        IN_OUT + " r:block p:crops",
        o.BatchToSpace,
        read=_read_batch_to_space,
        write=lambda s: {**fields_of(s), "block": s.block, "crops": _three(s.crops)},
    ),
    function(
        "SPACE_TO_BATCH",
        IN_OUT + " r:block p:pads",
        o.SpaceToBatch,
        read=_read_space_to_batch,
        write=lambda s: {**fields_of(s), "block": s.block, "pads": _three(s.pads)},
    ),
    function(
        "CUMSUM",
        "@in @out r:in_shape",
        o.CumSum,
        read=_read_cumsum,
        write=lambda s: {**fields_of(s), "axis": s.axis, "exclusive": s.exclusive, "reverse": s.reverse},
    ),
    function(
        "HARDMAX",
        "@in @out r:in_shape r:in_strides",
        o.HardMax,
        read=_read_hardmax,
        write=lambda s: {**fields_of(s), "axis": s.axis},
    ),
    function(
        "LAYER_NORMALIZATION",
        "@in @scale @bias @out r:in_shape",
        o.LayerNorm,
        read=_read_layer_norm,
        write=lambda s: {**fields_of(s), "scale": s.scale, "bias": s.bias, "axis": s.axis, "epsilon": s.epsilon},
    ),
    function(
        "REDUCE_ARG",
        "@in @out r:in_shape r:in_strides r:out_strides r:axes",
        o.ReduceArg,
        read=_read_reduce_arg,
        write=_write_reduce_arg,
    ),
    function(
        "REDUCE_PROD",
        "@in @out r:in_shape r:in_strides r:out_strides r:axes",
        o.ReduceProd,
        read=_read_reduce_prod,
        write=lambda s: {**fields_of(s), "axes": s.axes, "keep_dims": s.keep_dims},
    ),
    function("SIGMOID", IN_OUT, o.Sigmoid, read=_read_sigmoid, write=fields_of),
    function(
        "TERNARY",
        "@a @b @c @out r:a_shape r:a_strides r:b_shape r:b_strides r:c_shape r:c_strides r:out_strides",
        o.Ternary,
        read=_read_ternary,
        write=_write_ternary,
    ),
    function(
        "TRILU",
        "@in @out r:in_shape",
        o.Trilu,
        read=_read_trilu,
        write=lambda s: {**fields_of(s), "upper": s.upper, "k": s.k},
    ),
)
