"""The tensor functions of V5's stackvm beyond those of ``v5_functions``: instruction <-> step, each declared once."""

from __future__ import annotations

from typing import Any, Final

from openkpu.kmodel import operators_v5 as o
from openkpu.kmodel.program import DType, Step
from openkpu.kmodel.v5_call import Call, TensorFunction, Values, fields_of, function, number
from openkpu.kmodel.v5_functions import COMMON, F32, U8, pair_fields, reduced

NOT_RUN: Final = {
    "COMPRESS": "its result has a size that only a run tells",
    "GRU": "it is a recurrent network",
    "RANDOM_NORMAL": "its results are random",
    "RANDOM_UNIFORM": "its results are random",
    "ROI_ALIGN": "no model for the K210 is known that uses it",
    "TFLITE_DETECTION_POSTPROCESS": "no model for the K210 is known that uses it",
}
"""Functions that the simulator does not have, and why."""

_IN_OUT: Final = "@in @out r:in_shape r:in_strides r:out_strides"
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


def _size(block: tuple[int, ...]) -> int:
    n = 1
    for b in block:
        n *= b
    return n


def _read_batch_to_space(c: Call) -> Step:
    dtype, shape = c.dtype("type"), c["in_shape"]
    block, crops = _blocks(c, "crops")
    c.need(shape[0] % _size(block) == 0, "a batch that is no multiple of the blocks", f"{shape} and {block}")
    rest = len(shape) - len(block)
    last = tuple(n * b - sum(p) for n, b, p in zip(shape[rest:], block, crops, strict=True))
    out = (shape[0] // _size(block), *shape[1:rest], *last)
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
    out = (shape[0] * _size(block), *shape[1:rest], *(n // b for n, b in zip(padded, block, strict=True)))
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


def _read_gather(c: Call) -> Step:
    dtype, shape, axis, index = c.dtype("type"), c["in_shape"], c["axis"], c["indices_shape"]
    c.axis(axis, len(shape))
    out = (*shape[:axis], *index, *shape[axis + 1 :]) or (1,)
    c.need(_size(c["out_shape"]) == _size(out), "an output of the wrong shape", f"{c['out_shape']}, not {out}")
    return o.Gather(
        input=c.operand("in", dtype, shape, c["in_strides"]),
        indices=c.operand("indices", DType.I32, index),
        output=c.operand("out", dtype, c["out_shape"], c["out_strides"]),
        axis=axis,
    )


def _read_gather_nd(c: Call) -> Step:
    dtype, shape, batch, index = c.dtype("type"), c["in_shape"], c["batch_dims"], c["indices_shape"]
    good = len(index) > 0 and batch < len(index) and batch + index[-1] <= len(shape) and shape[:batch] == index[:batch]
    c.need(good, "indices that do not fit", f"{index} for {shape}, {batch} of the batch")
    out = (*index[:-1], *shape[batch + index[-1] :]) or (1,)
    c.need(_size(c["out_shape"]) == _size(out), "an output of the wrong shape", f"{c['out_shape']}, not {out}")
    return o.GatherNd(
        input=c.operand("in", dtype, shape, c["in_strides"]),
        indices=c.operand("indices", DType.I32, index),
        output=c.operand("out", dtype, c["out_shape"], c["out_strides"]),
        batch_dims=batch,
    )


def _read_gather_elements(c: Call) -> Step:
    shape, index, axis = c["in_shape"], c["indices_shape"], c["axis"]
    c.need(0 <= axis < len(shape) == len(index), "an axis outside the tensor", f"{axis}, {shape}, {index}")
    good = all(n >= m for i, (n, m) in enumerate(zip(shape, index, strict=True)) if i != axis)
    c.need(good, "more indices than elements", f"{index} for {shape}")
    return o.GatherElements(
        input=c.operand("in", F32, shape),
        indices=c.operand("indices", DType.I64, index),
        output=c.operand("out", F32, index),
        axis=axis,
    )


def _gather_fields(s: Any) -> Values:
    return {**fields_of(s), "indices": s.indices, "indices_shape": s.indices.shape, "out_shape": s.output.shape}


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


def _read_onehot(c: Call) -> Step:
    dtype, index, out, axis = c.dtype("type"), c["indices_shape"], c["out_shape"], c["axis"]
    c.need(axis < len(out), "an axis outside the tensor", axis)
    want = (*index[:axis], out[axis], *index[axis:])
    c.need(out == want, "an output of the wrong shape", f"{out}, not {want}")
    return o.OneHot(
        indices=c.operand("indices", DType.I32, index),
        depth=c.operand("depth", dtype, (1,)),
        off=c.operand("off", dtype, (1,)),
        on=c.operand("on", dtype, (1,)),
        output=c.operand("out", dtype, out, c["out_strides"]),
        axis=axis,
        negative_from_end=bool(c["mode"]),
    )


def _write_onehot(s: o.OneHot) -> Values:
    return {
        "indices": s.indices,
        "depth": s.depth,
        "on": s.on,
        "off": s.off,
        "out": s.output,
        "type": number(s.output.dtype),
        "indices_shape": s.indices.shape,
        "out_shape": s.output.shape,
        "out_strides": s.output,
        "axis": s.axis,
        "mode": int(s.negative_from_end),
    }


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


def _read_topk(c: Call) -> Step:
    shape, axis, k = c["in_shape"], c["axis"], c["k"]
    c.need(0 <= axis < len(shape), "an axis outside the tensor", axis)
    c.need(0 < k <= shape[axis], "more elements than there are", f"{k} of {shape} along {axis}")
    if not c["sorted"]:
        raise c.unsupported("TOPK without sorting", "the order of its result is an accident of the runtime")
    out = (*shape[:axis], k, *shape[axis + 1 :])
    good = out == c["values_shape"] == c["indices_shape"]
    c.need(good, "outputs of the wrong shape", f"{c['values_shape']} and {c['indices_shape']}, not {out}")
    step = o.TopK(
        input=c.operand("in", c.dtype("type", F32), shape, c["in_strides"]),
        output_values=c.operand("values", F32, out, c["values_strides"]),
        output_indices=c.operand("indices", DType.I64, out, c["indices_strides"]),
        k=k,
        axis=axis,
        largest=bool(c["largest"]),
    )
    if step.output_values.strides is not None or step.output_indices.strides is not None:
        raise c.unsupported("TOPK into tensors that are not dense", "the runtime takes them for dense")
    return step


def _write_topk(s: o.TopK) -> Values:
    return {
        "in": s.input,
        "type": number(s.input.dtype),
        "in_shape": s.input.shape,
        "in_strides": s.input,
        "values": s.output_values,
        "values_shape": s.output_values.shape,
        "values_strides": s.output_values,
        "indices": s.output_indices,
        "indices_shape": s.output_indices.shape,
        "indices_strides": s.output_indices,
        "k": s.k,
        "axis": s.axis,
        "largest": s.largest,
        "sorted": True,
    }


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
        _IN_OUT,
        o.Convert,
        read=_read_convert,
        write=lambda s: {**fields_of(s, "in_type"), "out_type": number(s.output.dtype)},
    ),
    function(
        "BATCH_TO_SPACE",
        _IN_OUT + " r:block p:crops",
        o.BatchToSpace,
        read=_read_batch_to_space,
        write=lambda s: {**fields_of(s), "block": s.block, "crops": _three(s.crops)},
    ),
    function(
        "SPACE_TO_BATCH",
        _IN_OUT + " r:block p:pads",
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
        "GATHER",
        "@in @out @indices r:in_shape r:out_shape r:in_strides r:out_strides r:indices_shape",
        o.Gather,
        read=_read_gather,
        write=lambda s: {**_gather_fields(s), "axis": s.axis},
    ),
    function(
        "GATHER_ND",
        "@in @out @indices r:in_shape r:out_shape r:in_strides r:out_strides r:indices_shape",
        o.GatherNd,
        read=_read_gather_nd,
        write=lambda s: {**_gather_fields(s), "batch_dims": s.batch_dims},
    ),
    function(
        "GATHER_ELEMENTS",
        "@in @indices @out r:in_shape r:indices_shape",
        o.GatherElements,
        read=_read_gather_elements,
        write=lambda s: {**_gather_fields(s), "axis": s.axis},
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
        "ONEHOT",
        "@indices @depth @on @off @out r:indices_shape r:out_shape r:out_strides",
        o.OneHot,
        read=_read_onehot,
        write=_write_onehot,
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
    function("SIGMOID", _IN_OUT, o.Sigmoid, read=_read_sigmoid, write=fields_of),
    function(
        "TERNARY",
        "@a @b @c @out r:a_shape r:a_strides r:b_shape r:b_strides r:c_shape r:c_strides r:out_strides",
        o.Ternary,
        read=_read_ternary,
        write=_write_ternary,
    ),
    function(
        "TOPK",
        "@in @values @indices r:in_shape r:in_strides r:values_shape r:values_strides r:indices_shape "
        "r:indices_strides",
        o.TopK,
        read=_read_topk,
        write=_write_topk,
    ),
    function(
        "TRILU",
        "@in @out r:in_shape",
        o.Trilu,
        read=_read_trilu,
        write=lambda s: {**fields_of(s), "upper": s.upper, "k": s.k},
    ),
)

FUNCTIONS: Final = {f.name: f for f in (*COMMON, *MORE)}
BY_STEP: Final[dict[type[Step], TensorFunction]] = {step: f for f in FUNCTIONS.values() for step in f.steps}
