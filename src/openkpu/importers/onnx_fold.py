"""Nodes whose inputs are all known become constants; operators without a handler get their shapes from ONNX's rules.

onnxruntime computes the constants, so that every operator and opset gives what the user's runtime gives.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import FileFormatError
from openkpu.extras import require
from openkpu.importers.onnx_call import MAX_ELEMENTS, Call, is_float

MAX_FOLDED: Final = 1 << 26
"""Elements of one folded constant: far more than the weights that fit a board's flash."""
MAX_WORK: Final = 1 << 32
"""Multiplications of one folded operator, about a second."""
RANDOM: Final = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
)
Shapes = list[tuple[str, tuple[int, ...], str]]


def constant_attribute(call: Call) -> NDArray[Any]:
    """Return the value of a Constant node."""
    a = call.attrs
    if "value" in a:
        return array_of(a["value"], call.label)
    for name, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in a:
            return np.asarray(a[name], dtype)
    raise call.refuse("a Constant whose value is a string or sparse", ", ".join(a) or "it has no value")


def array_of(proto: Any, where: str) -> NDArray[Any]:
    """Return the data of a TensorProto after checking that it is all there."""
    helper = require("onnx.numpy_helper", "onnx")
    try:
        if any(d < 0 for d in proto.dims) or math.prod(proto.dims) > MAX_ELEMENTS:
            raise ValueError(f"the shape {list(proto.dims)} is impossible")
        array: NDArray[Any] = helper.to_array(proto)
        if array.shape != tuple(proto.dims):
            raise ValueError(f"{array.size} values for the shape {list(proto.dims)}")
    except Exception as error:  # numpy, ml_dtypes and protobuf raise different classes for damaged data
        raise FileFormatError(
            "E155",
            f"the data of tensor '{proto.name}' is damaged",
            where=where,
            why=str(error),
            fix="copy or export the model again",
        ) from error
    return array


def can_fold(call: Call) -> bool:
    """Whether the node's value is known now."""
    return (
        call.proto.domain in ("", "ai.onnx")
        and call.op not in RANDOM
        and not any(a.HasField("g") or a.graphs for a in call.proto.attribute)
        and all(t is None or t.is_constant for t in call.inputs)
    )


def fold(call: Call) -> list[NDArray[Any]]:
    """Compute a node with constant inputs; one array for each output."""
    if call.op == "Constant":
        return [constant_attribute(call)]
    arrays = [None if t is None else t.data for t in call.inputs]
    quick = _quick(call, arrays)
    if quick is not None:
        return [quick]
    _check_cost(call)
    onnx, ort = require("onnx", "onnx"), require("onnxruntime", "onnx")
    helper = onnx.helper
    names = [f"i{k}" if a is not None else "" for k, a in enumerate(arrays)]
    outputs = [f"o{k}" if name else "" for k, name in enumerate(call.outputs)]
    node = onnx.NodeProto()
    node.CopyFrom(call.proto)
    del node.input[:], node.output[:]
    node.input.extend(names)
    node.output.extend(outputs)
    node.name = ""
    feeds = {n: a for n, a in zip(names, arrays, strict=True) if a is not None}
    try:
        inputs = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), list(a.shape))
            for n, a in feeds.items()
        ]
        results = [onnx.ValueInfoProto(name=o) for o in outputs if o]
        model = helper.make_model(
            helper.make_graph([node], "constant", inputs, results),
            opset_imports=[helper.make_opsetid("", call.opset)],
            ir_version=min(max(call.builder.ir_version, 4), 10),
        )
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        values = iter(session.run(None, feeds))
    except Exception as error:  # onnxruntime raises a class for each of its status codes, without a common base
        raise call.damaged(f"{call.op} of constants cannot be computed", _first_line(error)) from error
    return [np.asarray(next(values)) if o else np.empty(0) for o in outputs]


def infer(call: Call) -> Shapes | None:
    """Return (name, shape, dtype) of the outputs by ONNX's own rules, or None where they do not tell."""
    onnx = require("onnx", "onnx")
    shape_inference = require("onnx.shape_inference", "onnx")
    helper = onnx.helper
    types, data = {}, {}
    node = onnx.NodeProto()
    node.CopyFrom(call.proto)
    del node.input[:]
    try:
        schema = onnx.defs.get_schema(call.op, call.opset, "")
        for k, t in enumerate(call.inputs):
            name = "" if t is None else f"i{k}"
            node.input.append(name)
            if t is None:
                continue
            dtype = np.dtype(t.dtype) if t.data is None else t.data.dtype
            if is_float(dtype):
                dtype = np.dtype(np.float32)
            types[name] = helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(dtype), list(t.shape))
            if t.data is not None and t.data.size <= 4096:
                data[name] = onnx.numpy_helper.from_array(np.asarray(t.data, dtype), name)
        inferred = shape_inference.infer_node_outputs(
            schema, node, types, data, opset_imports=[helper.make_opsetid("", call.opset)]
        )
        results = []
        for name in call.outputs:
            if not name:
                continue
            kind = inferred[name].tensor_type
            if not kind.HasField("shape") or any(not d.HasField("dim_value") for d in kind.shape.dim):
                return None
            out = helper.tensor_dtype_to_np_dtype(kind.elem_type)
            results.append((name, tuple(int(d.dim_value) for d in kind.shape.dim), str(out)))
    except Exception:  # whatever onnx raises here means that its rules do not tell the shape
        return None
    return results


def keep_name(call: Call) -> None:
    """Take an operator without a canonical form under its own name, as long as its output shape can be told."""
    shapes = infer(call)
    graphs = any(a.HasField("g") or a.graphs for a in call.proto.attribute)
    if shapes is None or graphs:
        raise call.refuse(
            f"operator '{call.op}'",
            f"the shape of its output cannot be told; inputs {call.shapes()}",
            "replace it by other operators, or end the model before it (outputs=...)",
            code="E261",
        )
    results = [(n, s, "float32" if d in ("float16", "float64", "bfloat16") else d) for n, s, d in shapes]
    call.emit_many(call.op, results, dict(call.attrs))


def _quick(call: Call, arrays: list[NDArray[Any] | None]) -> NDArray[Any] | None:
    """The commonest operators of shape computations, where starting onnxruntime would cost more than the work."""
    first = arrays[0] if arrays else None
    if first is None or first.size > 64:
        return None
    if call.op == "Concat" and first.ndim == 1 and all(a is not None and a.ndim == 1 for a in arrays):
        return np.concatenate([a for a in arrays if a is not None])
    if call.op == "Unsqueeze" and first.ndim == 0 and call.axes() in ([0], [-1]):
        return first.reshape(1)
    if call.op == "Gather" and first.ndim == 1 and len(arrays) == 2 and arrays[1] is not None:
        index = arrays[1]
        if index.size <= 64 and ((index >= -first.size) & (index < first.size)).all():
            return np.asarray(first[index])
    if call.op == "Identity":
        return first
    return None


def _check_cost(call: Call) -> None:
    """Refuse folding that would take all memory or minutes; only damaged or hostile files ask for that."""
    shapes = infer(call)
    if shapes is None:
        sizes = [t.data.size for t in call.inputs if t is not None and t.data is not None]
        grows = call.op in ("Expand", "Tile", "Pad", "ConstantOfShape", "Resize", "Upsample", "OneHot", "EyeLike")
        short = call.op == "Range" and _range_length(call) <= 1 << 20
        if grows or sum(sizes) > 1 << 22 or (call.op == "Range" and not short):
            raise call.refuse(f"{call.op} of constants whose size cannot be told", code="E270")
    for _, shape, _ in shapes or ():
        if math.prod(shape) > MAX_FOLDED:
            raise call.refuse(
                f"{call.op} of constants gives {math.prod(shape)} numbers", f"the limit is {MAX_FOLDED}", code="E270"
            )
    if _work(call, shapes) > MAX_WORK:
        raise call.refuse(f"{call.op} of constants takes too long to compute", code="E270")


def _work(call: Call, shapes: Shapes | None) -> int:
    """Return about how many multiplications an operator needs; 0 for those that touch each number a few times."""
    operands = [t.shape for t in call.inputs if t is not None]
    out = math.prod(shapes[0][1]) if shapes else 1
    if call.op in ("MatMul", "Gemm") and operands[0]:
        return out * max(operands[0])
    if call.op in ("Conv", "ConvTranspose") and len(operands) > 1:
        return max(out, math.prod(operands[0])) * math.prod(operands[1][1:])
    if call.op in ("Einsum", "LSTM", "GRU", "RNN", "DFT", "GridSample"):
        return math.prod(math.prod(s) for s in operands)
    return 0


def _range_length(call: Call) -> float:
    start, limit, delta = (float(call.const(i, "bounds").reshape(-1)[0]) for i in range(3))
    return abs(limit - start) / abs(delta) if delta else math.inf


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
