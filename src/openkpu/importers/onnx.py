"""ONNX files -> the graph of ``openkpu.graph.ir``: order, inputs, constants, and a handler for each operator.

Shapes are worked out here, going forward; shapes that the file states for inner tensors are not looked at, so files
without them work and wrong ones do not mislead. All float types become float32.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from openkpu.errors import FileFormatError, InputError, OpenKPUError, UnsupportedError
from openkpu.extras import require
from openkpu.graph.ir import Graph, Tensor
from openkpu.importers import onnx_curves, onnx_movement, onnx_norm, onnx_ops, onnx_pool, onnx_quantized, onnx_reduce
from openkpu.importers.finish import finish
from openkpu.importers.onnx_call import HANDLERS, Builder, Call, attributes
from openkpu.importers.onnx_file import opset_of, read_model
from openkpu.importers.onnx_fold import array_of, can_fold, fold, keep_name
from openkpu.importers.onnx_rows import as_picture, is_row

_HANDLER_MODULES: Final = (onnx_curves, onnx_movement, onnx_norm, onnx_ops, onnx_pool, onnx_quantized, onnx_reduce)
"""Importing them fills ``HANDLERS``."""
_DYNAMIC: Final = frozenset(("DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"))
_FLOAT_TYPES: Final = (1, 10, 11, 16)  # TensorProto FLOAT, FLOAT16, DOUBLE, BFLOAT16


def load(
    source: str | os.PathLike[str] | bytes,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] | None = None,
) -> Graph:
    """Import an ONNX model (opset 7 and newer) as a float graph with batch 1.

    ``input_shapes``: input name -> shape, for models whose H and W are open. ``outputs``: end the model at these
    tensors; operators that they do not need are not looked at. Everything wrong with the file or the model raises an
    ``OpenKPUError`` (E149, E15x, E16x the file; E26x, E27x what the model does; E510, E501 the environment).
    """
    model, where, name = read_model(source)
    file = _File(model, where, outputs)
    shapes, batch = file.input_shapes(input_shapes or {})
    builder = file.build({k: (1, *s[1:]) if batch > 1 and len(s) > 1 and s[0] == batch else s
                          for k, s in shapes.items()}, batch)  # fmt: skip
    if batch > 1:
        _check_batch(builder, file.build(shapes, 1), batch)
    return file.finish(builder, name)


class _File:
    """The parts of a model that its outputs need, in order."""

    def __init__(self, model: Any, where: str, outputs: Sequence[str] | None) -> None:
        self.graph = model.graph
        self.where = where
        self.opset = opset_of(model)
        self.ir_version = int(model.ir_version)
        if self.graph.sparse_initializer:
            raise UnsupportedError("E262", "sparse weights", where=where, fix="export dense weights")
        self.constants = {t.name: t for t in self.graph.initializer}
        if len(self.constants) != len(self.graph.initializer):
            raise _twice([t.name for t in self.graph.initializer], where)
        self.inputs = {i.name: i for i in self.graph.input if i.name not in self.constants}
        self.outputs = [o.name for o in self.graph.output] if outputs is None else list(outputs)
        self.nodes = self._ordered()
        ends = set(self.outputs)
        self.readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for n in _reads(node):
                self.readers.setdefault(n, []).append(node)
        self.inputs = {n: i for n, i in self.inputs.items() if n in self.readers or n in ends}

    def _ordered(self) -> list[Any]:
        """Return the nodes that the outputs need, each after those it reads; files are not always sorted."""
        makers: dict[str, Any] = {}
        for node in self.graph.node:
            for name in node.output:
                if name and (name in makers or name in self.inputs or name in self.constants):
                    raise _twice([name, name], self.where)
                makers[name] = node
        known = [*makers, *self.inputs]
        for name in self.outputs:
            if name not in makers and name not in self.inputs:
                near = difflib.get_close_matches(name, known[:5000], 3)
                raise UnsupportedError(
                    "E269",
                    f"there is no tensor '{name}' to end the model at",
                    where=self.where,
                    why=f"similar names: {', '.join(near)}" if near else f"the model has {len(known)} others",
                    fix="look the tensor up in the model (for instance with Netron)",
                )
        if not self.outputs or len(set(self.outputs)) != len(self.outputs):
            raise FileFormatError("E151", "the model has no outputs, or one twice", where=self.where)
        done: set[int] = set()
        opened: set[int] = set()
        order: list[Any] = []
        stack = [(makers[n], False) for n in reversed(self.outputs) if n in makers]
        while stack:
            node, ready = stack.pop()
            if ready:
                opened.discard(id(node))
                done.add(id(node))
                order.append(node)
                continue
            if id(node) in done or id(node) in opened:
                continue
            opened.add(id(node))
            stack.append((node, True))
            for name in _reads(node):
                maker = makers.get(name)
                if maker is None:
                    if name not in self.inputs and name not in self.constants:
                        raise self._missing(node, name)
                elif id(maker) in opened:
                    raise FileFormatError(
                        "E153", f"the model runs in a circle through '{name}'", where=_label(node),
                        why="an operator needs its own result", fix="export the model again",
                    )  # fmt: skip
                elif id(maker) not in done:
                    stack.append((maker, False))
        return order

    def _missing(self, node: Any, name: str) -> OpenKPUError:
        return FileFormatError(
            "E152",
            f"tensor '{name}' is missing",
            where=_label(node),
            why="no operator makes it, and it is neither an input nor among the weights",
            fix="export the model again with its weights",
        )

    def input_shapes(self, given: Mapping[str, Sequence[int]]) -> tuple[dict[str, tuple[int, ...]], int]:
        """Return the shape of each input, and the fixed batch above 1 that they have (or 1)."""
        for name in given:
            if name not in self.inputs:
                raise InputError(
                    "E450", f"the model has no input '{name}'",
                    where=self.where, why=f"its inputs: {', '.join(self.inputs) or 'none'}", fix="correct input_shapes",
                )  # fmt: skip
        shapes = {n: self._input_shape(n, i, given.get(n)) for n, i in self.inputs.items()}
        batches = {s[0] for s in shapes.values() if len(s) > 1 and s[0] > 1}
        if len(batches) > 1:
            raise UnsupportedError(
                "E268", f"inputs with different batches {sorted(batches)}", where=self.where,
                why="the batch must be 1", fix="export with batch 1",
            )  # fmt: skip
        return shapes, max(batches, default=1)

    def _input_shape(self, name: str, info: Any, given: Sequence[int] | None) -> tuple[int, ...]:
        kind = info.type.tensor_type
        if not info.type.HasField("tensor_type"):
            raise UnsupportedError("E262", f"input '{name}' is not a tensor", where=self.where)
        stated: list[Any] | None = None
        if kind.HasField("shape"):
            stated = [
                int(d.dim_value) if d.HasField("dim_value") and d.dim_value >= 0 else d.dim_param or "?"
                for d in kind.shape.dim
            ]
        if given is not None:
            shape = [int(d) for d in given]
            if min(shape, default=1) < 1 or (stated is not None and len(stated) != len(shape)):
                raise InputError(
                    "E450", f"input_shapes gives {shape} for '{name}'", where=self.where,
                    why=f"the model states {stated}", fix="give as many positive numbers",
                )  # fmt: skip
            return tuple(shape)
        if stated is None:
            open_dims = ["all"]
        else:
            if stated and isinstance(stated[0], str) and len(stated) > 1:
                stated[0] = 1
            open_dims = [d for d in stated if isinstance(d, str)]
        if open_dims or stated is None:
            example = [d if isinstance(d, int) else 224 for d in stated or (1, 3, 224, 224)]
            raise UnsupportedError(
                "E260",
                f"the size of input '{name}' is open ({', '.join(open_dims)})",
                where=self.where,
                why=f"shape {stated or 'not stated'}; every size must be known",
                fix=f"give it: input_shapes={{'{name}': {example}}}, with your sizes",
            )
        if 0 in stated:
            raise UnsupportedError(
                "E265", f"input '{name}' is empty", where=self.where, why=f"shape {stated}", fix="export again"
            )
        return tuple(stated)

    def build(self, shapes: Mapping[str, tuple[int, ...]], rebatch: int) -> Builder:
        """Import the nodes for inputs of these shapes."""
        builder = Builder(self.opset, self.ir_version, rebatch)
        for node in self.nodes:
            builder.names.update(n for n in node.output if n)
        builder.names.update(self.inputs, self.constants)
        for name, info in self.inputs.items():
            builder.bind(name, Tensor(name, shapes[name], self._input_type(name, info.type.tensor_type.elem_type)))
        for name, proto in self.constants.items():
            if name in self.readers:
                array = array_of(proto, self.where)
                builder.bind(name, Tensor(name, tuple(array.shape), str(array.dtype), array))
        _run(builder, self.nodes)
        return builder

    def _input_type(self, name: str, elem_type: int) -> str:
        """Floats are float32; so is an integer input that is only ever cast to floats."""
        readers = self.readers.get(name, [])
        to = {a.i for n in readers for a in n.attribute if n.op_type == "Cast" and a.name == "to"}
        real = ("Cast", "DequantizeLinear", "QLinearConv")
        only_casts = bool(readers) and all(n.op_type in real for n in readers) and to <= set(_FLOAT_TYPES)
        if elem_type in _FLOAT_TYPES or (only_casts and elem_type in (2, 3, 4, 5, 6, 7, 12, 13)):
            return "float32"
        try:
            return str(require("onnx.helper", "onnx").tensor_dtype_to_np_dtype(elem_type))
        except KeyError:
            raise FileFormatError("E160", f"input '{name}' has no element type", where=self.where) from None

    def finish(self, builder: Builder, name: str) -> Graph:
        """Collect inputs and outputs under the file's names."""
        results = {n: builder.values.get(n) for n in self.outputs}
        graph = finish(builder, [builder.values[n] for n in self.inputs], results, self.where, name)
        graph.scales = {t.name: scale for t, scale in builder.scales.values()}
        return graph


def _run(builder: Builder, nodes: Iterable[Any]) -> None:
    """Import nodes one after the other."""
    for proto in nodes:
        inputs = [_value(builder, proto, n) if n else None for n in proto.input]
        import_node(builder, proto, inputs)


def import_node(builder: Builder, proto: Any, inputs: list[Tensor | None]) -> None:
    """Import one node of ONNX, whose outputs are bound to their names afterwards."""
    call = Call(builder, proto, attributes(proto), inputs)
    if not any(call.outputs):
        return
    try:
        _import(call)
    except OpenKPUError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # a damaged file can contradict itself in more ways than the handlers check one by one
        why = f"{error}; inputs {call.shapes()}"
        raise call.damaged(f"the parts of this {call.op} do not fit together", why) from error


def _import(call: Call) -> None:
    proto, op, builder = call.proto, call.op, call.builder
    if op in _DYNAMIC:
        raise call.refuse(
            "a model whose ranges are found while it runs",
            f"{op} belongs to dynamic quantisation; the KPU's ranges are fixed",
            "give the float model, or quantise it statically (with calibration)",
            code="E263",
        )
    if proto.domain == onnx_quantized.OWN_DOMAIN and op in onnx_quantized.OWN:
        onnx_quantized.own(call)(call)
        return
    if proto.domain not in ("", "ai.onnx"):
        raise call.refuse(
            f"operator '{op}' of the set '{proto.domain}'",
            f"only standard ONNX operators are known; inputs {call.shapes()}",
            "replace it by standard operators, or end the model before it (outputs=...)",
            code="E261",
        )
    if op == "If":
        _branch(call)
        return
    if op in ("Shape", "Size") and call.has(0):
        shape = np.asarray(call.x.shape, np.int64)
        value = shape[call.attrs.get("start", 0) : call.attrs.get("end")] if op == "Shape" else np.prod(shape)
        arrays = [np.asarray(value, np.int64)]
    elif can_fold(call):
        arrays = fold(call)
    else:
        handler = HANDLERS.get(op, keep_name)
        if is_row(call):
            as_picture(call, handler)
        else:
            handler(call)
        return
    for name, array in zip(call.outputs, arrays, strict=False):
        if name:
            builder.bind(name, Tensor(name, tuple(array.shape), str(array.dtype), array))


def _branch(call: Call) -> None:
    """Take the branch of an If whose condition is known, as exporters write it round squeezes."""
    condition = bool(call.const(0, "conditions").reshape(-1)[0])
    graph = call.attrs["then_branch" if condition else "else_branch"]
    builder = call.builder
    for name in (n for node in graph.node for n in node.output if n):
        if name in builder.values:
            raise _twice([name, name], call.label)
        builder.names.add(name)
    for t in graph.initializer:
        array = array_of(t, call.label)
        builder.bind(t.name, Tensor(t.name, tuple(array.shape), str(array.dtype), array))
    _run(builder, graph.node)
    for name, inner in zip(call.outputs, graph.output, strict=True):
        builder.bind(name, _value(builder, call.proto, inner.name))


def _value(builder: Builder, node: Any, name: str) -> Tensor:
    t = builder.values.get(name)
    if t is None:
        raise UnsupportedError(
            "E262",
            f"tensor '{name}' is not available",
            where=_label(node),
            why="it is a second output that this importer does not give (a mask, the positions of maxima), or missing",
            fix="end the model before this operator (outputs=...)",
        )
    return t


def _reads(node: Any, depth: int = 0) -> list[str]:
    """Names that a node reads, those that its subgraphs take from outside included."""
    names = [n for n in node.input if n]
    for a in node.attribute:
        for graph in [a.g] if a.HasField("g") else a.graphs:
            own = {n for inner in graph.node for n in inner.output} | {t.name for t in graph.initializer}
            own |= {i.name for i in graph.input}
            inside = [n for inner in graph.node for n in _reads(inner, depth + 1)] + [o.name for o in graph.output]
            names += [n for n in inside if n not in own]
    return names


def _check_batch(one: Builder, many: Builder, batch: int) -> None:
    """Refuse a model that does more with its fixed batch than carry it along."""
    for name, t in many.values.items():
        small = one.values.get(name)
        if t.is_constant or small is None:
            continue
        if t.shape[:1] != (batch,) or small.shape != (1, *t.shape[1:]):
            raise UnsupportedError(
                "E268",
                f"the model needs its batch of {batch}",
                where=f"tensor '{name}'",
                why=f"shape {t.shape} became {small.shape} with batch 1",
                fix="export with batch 1",
            )


def _label(node: Any) -> str:
    return f"{node.op_type} '{node.name or next(iter(node.output), '')}'"


def _twice(names: Sequence[str], where: str) -> OpenKPUError:
    seen: set[str] = set()
    double = next((n for n in names if n in seen or seen.add(n)), "")  # type: ignore[func-returns-value]
    return FileFormatError(
        "E154", f"two tensors are called '{double}'", where=where, why="names must differ", fix="export the model again"
    )
