"""The float meaning of the tensor operators (``Tensor...``) of V4 and V5, as ONNX nodes for the float reference."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from openkpu.float.export import Emitter, Exporter
from openkpu.graph.elementwise import Expr
from openkpu.graph.ir import Node
from openkpu.lower.expression import expression


def _with_limits(node: Node, emit: Emitter, op: str, inputs: list[str], **attrs: Any) -> None:
    """Emit an operator and the limits of its result."""
    fn: Expr | None = node.attrs["fn"]
    out = node.output.name
    bare = out if fn is None else emit.temp(out)
    emit.node(op, inputs, [bare], **attrs)
    if fn is not None:
        expression(emit, fn, bare, out)


def _names(node: Node) -> list[str]:
    return [t.name for t in node.inputs]


def _binary(node: Node, emit: Emitter) -> None:
    _with_limits(node, emit, node.attrs["kind"], _names(node))


def _function(node: Node, emit: Emitter) -> None:
    expression(emit, node.attrs["fn"], node.inputs[0].name, node.output.name)


def _conv(node: Node, emit: Emitter) -> None:
    attrs = {k: list(v) if isinstance(v, tuple) else v for k, v in node.attrs.items() if k != "fn"}
    _with_limits(node, emit, node.op.removeprefix("Tensor"), _names(node), **attrs)


def _matmul(node: Node, emit: Emitter) -> None:
    names = _names(node)
    if len(names) == 2:
        _with_limits(node, emit, "MatMul", names)
        return
    product = emit.temp(node.output.name)
    emit.node("MatMul", names[:2], [product])
    _with_limits(node, emit, "Add", [product, names[2]])


def _reduce(node: Node, emit: Emitter) -> None:
    op, out = node.attrs["kind"], node.output.name
    kept = emit.temp(out)
    axes = np.array(node.attrs["axes"], np.int64)
    if op == "SUM":
        emit.node("ReduceSum", [node.inputs[0].name, emit.const(f"{out}.axes", axes)], [kept], keepdims=1)
    else:
        emit.node(f"Reduce{op.capitalize()}", [node.inputs[0].name], [kept], axes=axes.tolist(), keepdims=1)
    _shape(node, emit, kept)


def _arg(node: Node, emit: Emitter) -> None:
    a = node.attrs
    which = {"axis": a["axis"], "keepdims": a["keepdims"], "select_last_index": int(a["last"])}
    emit.node("ArgMax" if a["greatest"] else "ArgMin", _names(node), [node.output.name], **which)


def _shape(node: Node, emit: Emitter, of: str) -> None:
    shape = emit.const(f"{node.output.name}.shape", np.array(node.output.shape, np.int64))
    emit.node("Reshape", [of, shape], [node.output.name])


def _pool(node: Node, emit: Emitter) -> None:
    a = node.attrs
    name = "MaxPool" if a["kind"] == "MAX" else "AveragePool"
    options: dict[str, Any] = {} if name == "MaxPool" else {"count_include_pad": 0}
    emit.node(
        name,
        _names(node),
        [node.output.name],
        kernel_shape=list(a["kernel"]),
        strides=list(a["stride"]),
        pads=list(a["pads"]),
        **options,
    )


def _softmax(node: Node, emit: Emitter) -> None:
    emit.node("Softmax", _names(node), [node.output.name], axis=node.attrs["axis"])


def _pad(node: Node, emit: Emitter) -> None:
    out = node.output.name
    begins, ends = node.attrs["pads"]
    pads = emit.const(f"{out}.pads", np.array([*begins, *ends], np.int64))
    value = emit.const(f"{out}.value", np.float32(node.attrs["value"]))
    emit.node("Pad", [node.inputs[0].name, pads, value], [out])


def _slice(node: Node, emit: Emitter) -> None:
    a, out = node.attrs, node.output.name
    # an end before element 0 is written as "before the first" for ONNX, where -1 means the last
    ends = [e if e >= 0 else -d - 1 for e, d in zip(a["end"], node.inputs[0].shape, strict=True)]
    bounds = (("starts", a["begin"]), ("ends", ends), ("axes", range(len(ends))), ("steps", a["stride"]))
    names = [emit.const(f"{out}.{k}", np.array(list(v), np.int64)) for k, v in bounds]
    emit.node("Slice", [node.inputs[0].name, *names], [out])


def _transpose(node: Node, emit: Emitter) -> None:
    emit.node("Transpose", _names(node), [node.output.name], perm=list(node.attrs["order"]))


def _resize(node: Node, emit: Emitter) -> None:
    a = node.attrs
    sizes = emit.const(f"{node.output.name}.sizes", np.array(node.output.shape, np.int64))
    emit.node(
        "Resize",
        [node.inputs[0].name, "", "", sizes],
        [node.output.name],
        mode=a["mode"],
        coordinate_transformation_mode=a["coordinate"],
        nearest_mode=a["rounding"],
    )


def _concat(node: Node, emit: Emitter) -> None:
    emit.node("Concat", _names(node), [node.output.name], axis=node.attrs["axis"])


EXPORTERS: Final[dict[str, Exporter]] = {
    "TensorBinary": _binary,
    "TensorFunction": _function,
    "TensorConv": _conv,
    "TensorConvTranspose": _conv,
    "TensorMatMul": _matmul,
    "TensorReduce": _reduce,
    "TensorArg": _arg,
    "TensorPool": _pool,
    "TensorSoftmax": _softmax,
    "TensorPad": _pad,
    "TensorSlice": _slice,
    "TensorTranspose": _transpose,
    "TensorResize": _resize,
    "TensorConcat": _concat,
}
