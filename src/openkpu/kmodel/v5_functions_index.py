"""Tensor functions of V5's stackvm that pick elements by index."""

from __future__ import annotations

from typing import Any, Final

from openkpu.kmodel import operators_v5 as o
from openkpu.kmodel.program import DType, Step
from openkpu.kmodel.v5_call import Call, TensorFunction, Values, fields_of, function, number
from openkpu.kmodel.v5_functions import F32
from openkpu.kmodel.v5_functions_more import size


def _read_gather(c: Call) -> Step:
    dtype, shape, axis, index = c.dtype("type"), c["in_shape"], c["axis"], c["indices_shape"]
    c.axis(axis, len(shape))
    out = (*shape[:axis], *index, *shape[axis + 1 :]) or (1,)
    c.need(size(c["out_shape"]) == size(out), "an output of the wrong shape", f"{c['out_shape']}, not {out}")
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
    c.need(size(c["out_shape"]) == size(out), "an output of the wrong shape", f"{c['out_shape']}, not {out}")
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


BY_INDEX: Final[tuple[TensorFunction, ...]] = (
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
        "ONEHOT",
        "@indices @depth @on @off @out r:indices_shape r:out_shape r:out_strides",
        o.OneHot,
        read=_read_onehot,
        write=_write_onehot,
    ),
    function(
        "TOPK",
        "@in @values @indices r:in_shape r:in_strides r:values_shape r:values_strides r:indices_shape "
        "r:indices_strides",
        o.TopK,
        read=_read_topk,
        write=_write_topk,
    ),
)
