"""A graph -> an ``onnx.ModelProto`` with the same float meaning, for onnxruntime.

Each operator has an exporter, registered by name: ``function(node, emit)``. Other rooms register theirs the same way,
so a lowered operator can go out as several ONNX nodes::

    @exporter("KpuConv")
    def kpu_conv(node, emit):
        pre = emit.temp(node.output.name)
        emit.node("Conv", [t.name for t in node.inputs], [pre], strides=[1, 1])
        emit.node("Relu", [pre], [node.output.name])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import UnsupportedError
from openkpu.extras import require
from openkpu.graph.ir import Graph, Node, Tensor

OPSET: Final = 17  # onnxruntime 1.18 and newer run it; Mish (opset 18) is written out
IR_VERSION: Final = 8
Exporter = Callable[[Node, "Emitter"], None]
_EXPORTERS: Final[dict[str, Exporter]] = {}


def exporter(*ops: str) -> Callable[[Exporter], Exporter]:
    """Register the exporter of the operators ``ops``; registering again replaces it."""

    def register(function: Exporter) -> Exporter:
        for op in ops:
            _EXPORTERS[op] = function
        return function

    return register


class Emitter:
    """Collects ONNX nodes and constants. Tensors go by their names; constants among the inputs are there."""

    def __init__(self, taken: set[str]) -> None:
        self.onnx = require("onnx", "onnx")
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.made: dict[str, Tensor | None] = {}
        """Names produced so far, with the IR tensor where there is one."""
        self._taken = taken
        self._counts: dict[str, int] = {}
        self._label = ""
        self._constants: dict[int, tuple[Tensor, str]] = {}

    def node(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attrs: Any) -> None:
        """Add an ONNX node (opset 17). An input left out is an empty name."""
        made = self.onnx.helper.make_node(
            op, list(inputs), list(outputs), name=f"{self._label}#{len(self.nodes)}", **attrs
        )
        self.nodes.append(made)
        self._taken.update(outputs)
        self.made.update(dict.fromkeys(outputs))

    def const(self, name: str, array: Any) -> str:
        """Add a constant; returns its name, which differs from ``name`` if that is taken."""
        result = self.temp(name)
        self.initializers.append(
            self.onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(np.shape(array)), result)
        )
        return result

    def temp(self, stem: str) -> str:
        """Return a tensor name that nothing uses yet, and take it."""
        name, i = stem, self._counts.get(stem, 0)
        while name in self._taken:
            i += 1
            name = f"{stem}.{i}"
        self._counts[stem] = i
        self._taken.add(name)
        return name

    def constant_name(self, tensor: Tensor) -> str:
        """Return the name under which a constant of the graph goes out; one copy each."""
        found = self._constants.get(id(tensor))
        if found is None:
            found = self._constants[id(tensor)] = (tensor, self.const(tensor.name, tensor.data))
        return found[1]

    def export(self, node: Node) -> None:
        """Call the node's exporter."""
        function = _EXPORTERS.get(node.op)
        self._label = node.label
        if function is None:
            raise UnsupportedError(
                "E280",
                f"the float reference does not know operator '{node.op}'",
                where=node.label,
                why="inputs " + ", ".join("x".join(map(str, t.shape)) or "scalar" for t in node.inputs),
                fix="replace it by standard operators, or end the model before it (outputs=...)",
            )
        function(self._named(node), self)

    def _named(self, node: Node) -> Node:
        """Return the node with its constants under the names they go out with: in the IR those need not be unique."""
        inputs = []
        for t in node.inputs:
            name = self.constant_name(t) if t.is_constant else t.name
            inputs.append(t if name == t.name else Tensor(name, t.shape, t.dtype, t.data))
        if all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
            return node
        copy = Node(node.op, inputs, [], node.attrs, node.source)
        copy.outputs = node.outputs  # not given to Node(), which would make the copy their producer
        return copy


def to_onnx(graph: Graph, *, extra_outputs: Sequence[Tensor] = ()) -> Any:
    """Return the graph as ``onnx.ModelProto`` (opset 17, IR version 8).

    ``extra_outputs`` come out after the graph's own outputs: any tensors of the graph, or tensors that an exporter
    makes on the way, by their name. ``UnsupportedError`` E280 names an operator without exporter, E281 an
    unknown output.
    """
    onnx = require("onnx", "onnx")
    helper = onnx.helper
    fixed = {t.name for n in graph.nodes for t in n.outputs} | {t.name for t in graph.inputs}
    fixed |= {t.name for t in extra_outputs}
    emit = Emitter(set(fixed))
    emit.made.update({t.name: t for t in graph.inputs})
    for node in graph.nodes:
        emit.export(node)
    outputs: dict[str, Tensor] = {}
    for t in (*graph.outputs, *extra_outputs):
        if t.is_constant and t.name not in emit.made:
            array = np.asarray(t.data)
            emit.initializers.append(onnx.numpy_helper.from_array(array, held := emit.temp(f"{t.name}.value")))
            emit.node("Identity", [held], [t.name])
        if t.name not in emit.made:
            raise UnsupportedError(
                "E281",
                f"no operator gives the tensor '{t.name}'",
                why="it was asked for as an output of the float graph",
            )
        outputs.setdefault(t.name, t)

    def info(t: Tensor) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(t.dtype))
        return helper.make_tensor_value_info(t.name, kind, list(t.shape))

    body = helper.make_graph(
        emit.nodes, graph.name, [info(t) for t in graph.inputs], [info(t) for t in outputs.values()], emit.initializers
    )
    return helper.make_model(
        body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="openkpu"
    )


def simple(op: str, *attrs: str, **fixed: Any) -> Exporter:
    """Return an exporter to one ONNX node that takes over the named attributes."""

    def export(node: Node, emit: Emitter) -> None:
        given = {k: list(v) if isinstance(v := node.attrs[k], tuple) else v for k in attrs}
        emit.node(op, [t.name for t in node.inputs], [node.output.name], **given, **fixed)

    return export


for _op in (
    "GlobalAveragePool", "Relu", "Sigmoid", "Tanh", "HardSwish", "Softplus", "Abs", "Neg", "Exp", "Log", "Sqrt",
    "Floor", "Ceil", "Erf", "Reciprocal", "Sin", "Cos", "Round", "Sign", "PRelu", "Add", "Sub", "Mul", "Div", "Min",
    "Max", "Pow", "MatMul",
):  # fmt: skip
    exporter(_op)(simple(_op))
for _op in ("LeakyRelu", "Elu", "ThresholdedRelu"):
    exporter(_op)(simple(_op, "alpha"))
exporter("HardSigmoid")(simple("HardSigmoid", "alpha", "beta"))
exporter("Softmax")(simple("Softmax", "axis"))
exporter("Concat")(simple("Concat", "axis"))
exporter("Gather")(simple("Gather", "axis"))
exporter("LpNormalization")(simple("LpNormalization", "axis", "p"))
exporter("SpaceToDepth")(simple("SpaceToDepth", "blocksize"))
exporter("DepthToSpace")(simple("DepthToSpace", "blocksize", "mode"))
for _op in ("ArgMax", "ArgMin"):
    exporter(_op)(simple(_op, "axis", "keepdims", "select_last_index"))
for _op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"):
    exporter(_op)(simple(_op, "axes", "keepdims"))
exporter("Transpose")(simple("Transpose", "perm"))
exporter("BatchNormalization")(simple("BatchNormalization", "epsilon"))
exporter("Gemm")(simple("Gemm", transB=1))
exporter("Conv")(simple("Conv", "strides", "pads", "dilations", "group"))
exporter("ConvTranspose")(simple("ConvTranspose", "strides", "pads", "dilations", "group", "output_padding"))


@exporter("MaxPool", "AveragePool")
def _pool(node: Node, emit: Emitter) -> None:
    attrs = {k: list(node.attrs[k]) for k in ("strides", "pads")}
    if node.op == "AveragePool":
        attrs["count_include_pad"] = node.attrs["count_include_pad"]
    emit.node(node.op, [node.inputs[0].name], [node.output.name], kernel_shape=list(node.attrs["kernel"]), **attrs)


@exporter("Clip")
def _clip(node: Node, emit: Emitter) -> None:
    out = node.output.name
    limits = [
        emit.const(f"{out}.{k}", np.float32(node.attrs[k])) if np.isfinite(node.attrs[k]) else ""
        for k in ("min", "max")
    ]
    if not any(limits):
        emit.node("Identity", [node.inputs[0].name], [out])
        return
    emit.node("Clip", [node.inputs[0].name, *limits], [out])


@exporter("Silu", "Mish")
def _gated(node: Node, emit: Emitter) -> None:
    x, out = node.inputs[0].name, node.output.name
    gate = emit.temp(f"{out}.gate")
    if node.op == "Silu":
        emit.node("Sigmoid", [x], [gate])
    else:
        soft = emit.temp(f"{out}.softplus")
        emit.node("Softplus", [x], [soft])
        emit.node("Tanh", [soft], [gate])
    emit.node("Mul", [x, gate], [out])


def _int64(values: Sequence[int]) -> NDArray[np.int64]:
    return np.array(values, np.int64)


@exporter("Pad")
def _pad(node: Node, emit: Emitter) -> None:
    out = node.output.name
    pads = emit.const(f"{out}.pads", _int64(node.attrs["pads"]))
    value = emit.const(f"{out}.value", np.asarray(node.attrs["value"], node.inputs[0].dtype))
    emit.node("Pad", [node.inputs[0].name, pads, value], [out])


@exporter("Reshape")
def _reshape(node: Node, emit: Emitter) -> None:
    shape = emit.const(f"{node.output.name}.shape", _int64(node.attrs["shape"]))
    emit.node("Reshape", [node.inputs[0].name, shape], [node.output.name])


@exporter("ReduceSum", "Tile", "Expand")
def _with_list(node: Node, emit: Emitter) -> None:
    """Operators that take their list of numbers as an input in opset 17."""
    name = {"ReduceSum": "axes", "Tile": "repeats", "Expand": "shape"}[node.op]
    values = emit.const(f"{node.output.name}.{name}", _int64(node.attrs[name]))
    attrs = {"keepdims": node.attrs["keepdims"]} if node.op == "ReduceSum" else {}
    emit.node(node.op, [node.inputs[0].name, values], [node.output.name], **attrs)


@exporter("Slice")
def _slice(node: Node, emit: Emitter) -> None:
    bounds = [emit.const(f"{node.output.name}.{k}", _int64(node.attrs[k])) for k in ("starts", "ends", "axes", "steps")]
    emit.node("Slice", [node.inputs[0].name, *bounds], [node.output.name])


@exporter("Resize")
def _resize(node: Node, emit: Emitter) -> None:
    a = node.attrs
    sizes = emit.const(f"{node.output.name}.sizes", _int64(node.output.shape))
    emit.node(
        "Resize", [node.inputs[0].name, "", "", sizes], [node.output.name],
        mode=a["mode"], coordinate_transformation_mode=a["coordinate"], nearest_mode=a["rounding"],
    )  # fmt: skip


@exporter("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum")
def _reduce(node: Node, emit: Emitter) -> None:
    """These keep ONNX's own form: the axes are an attribute or a constant input."""
    x, out = node.inputs[0], node.output.name
    given = node.attrs.get("axes")
    if len(node.inputs) > 1:
        given = np.asarray(node.inputs[1].data).reshape(-1).tolist()
    axes = [int(a) for a in given] if given is not None and len(given) else list(range(len(x.shape)))
    keep = int(node.attrs.get("keepdims", 1))
    if node.op == "ReduceSum":
        emit.node(node.op, [x.name, emit.const(f"{out}.axes", _int64(axes))], [out], keepdims=keep)
    else:
        emit.node(node.op, [x.name], [out], axes=axes, keepdims=keep)
