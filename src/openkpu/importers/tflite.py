"""TensorFlow Lite files -> the graph of ``openkpu.graph.ir``.

Pictures become (1, C, H, W); float16 and integer weights become the float32 numbers that they stand for. The numbers
of a model that is quantised already (int8 or uint8 activations) are kept as ``Graph.scales``.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from openkpu.errors import FileFormatError, InputError, OpenKPUError, UnsupportedError
from openkpu.graph.ir import Graph, Scale, Tensor
from openkpu.importers import tflite_compute, tflite_conv, tflite_movement
from openkpu.importers.network import Network
from openkpu.importers.tflite_call import HANDLERS, TO_PLANAR, Call, Value, real_data, scale_of, short
from openkpu.importers.tflite_file import Operator, Stored, TFLiteFile, read

_HANDLER_MODULES: Final = (tflite_compute, tflite_conv, tflite_movement)
"""Importing them fills ``HANDLERS``."""


def load(
    data: bytes,
    where: str,
    name: str,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] | None = None,
) -> Graph:
    """Import a TensorFlow Lite model as a float graph with batch 1.

    ``input_shapes`` are in the file's order of dimensions (1, H, W, C). Outputs that are pictures come out as
    (1, C, H, W), as the chip gives them; others in the file's shape. ``FileFormatError`` E161..E164: the file;
    ``UnsupportedError`` E290, E292 and those of the ONNX importer: what the model does.
    """
    file = read(data, where)
    ends = _ends(file, outputs)
    operators, needed = _ordered(file, ends)
    network = Network(where)
    network.builder.names.update(file.tensors[i].name for i in ends)
    values: dict[int, Value] = {}
    inputs = _inputs(file, network, values, needed, input_shapes or {}, operators)
    scales: dict[int, tuple[Tensor, Scale]] = {}
    for i in file.inputs:
        if i in values:
            _note(scales, values[i])
    for operator in operators:
        _constants(file, network, values, operator)
        call = Call(network, operator, values, file.tensors)
        _run(call)
        for i in operator.outputs:
            if i in values:
                _note(scales, values[i])
    results = {}
    for i in ends:
        v = values.get(i)
        if v is not None and v.batched is not None:
            raise UnsupportedError(
                "E290", f"output '{v.stored.name}' is a picture cut up by SPACE_TO_BATCH_ND", where=where
            )
        results[file.tensors[i].name] = None if v is None else v.native
    graph = network.finish(inputs, results, name)
    graph.scales = {t.name: scale for t, scale in scales.values() if not t.is_constant}
    return graph


def _note(scales: dict[int, tuple[Tensor, Scale]], value: Value) -> None:
    """Remember what a tensor's uint8 form stands for; the first one counts, as later ones only requantise it."""
    scale = scale_of(value.stored)
    if scale is not None:
        t = value.native if value.batched is None else value.batched.picture
        scales.setdefault(id(t), (t, scale))


def _run(call: Call) -> None:
    handler = HANDLERS.get(call.op)
    if handler is None or call.operator.custom:
        raise call.refuse(
            f"operator {call.op}{' of its own set' if call.operator.custom else ''}",
            "",
            "replace it by standard operators, or end the model before it (outputs=...)",
        )
    try:
        handler(call)
    except OpenKPUError as error:
        error.where = error.where or call.label
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # a damaged file can contradict itself in more ways than the handlers check one by one
        why = f"{error}; inputs {call.shapes()}"
        raise call.damaged(f"the parts of this {call.op} do not fit together", why) from error


def _ends(file: TFLiteFile, outputs: Sequence[str] | None) -> list[int]:
    """Return the tensors that the model ends at."""
    if outputs is None:
        return file.outputs
    made = [t for t in file.tensors if t.index in file.makers]
    known = [t.name for t in made]
    brief = Counter(short(t.name) for t in made)
    # messages call layers by the first of the names that were joined; where that is clear it will do
    names = {short(t.name): t.index for t in made if brief[short(t.name)] == 1}
    names |= {t.name: t.index for t in file.tensors}
    for name in outputs:
        if names.get(name, -1) not in file.makers:
            near = difflib.get_close_matches(name, known[:5000], 3)
            raise UnsupportedError(
                "E269", f"there is no tensor '{name}' to end the model at", where=file.where,
                why=f"similar names: {', '.join(near)}" if near else f"the model has {len(known)} others",
                fix="look the tensor up in the model (for instance with Netron)",
            )  # fmt: skip
    return list(dict.fromkeys(names[n] for n in outputs))


def _ordered(file: TFLiteFile, ends: Sequence[int]) -> tuple[list[Operator], set[int]]:
    """Return the operators that the ends need, in the file's order (which is that of execution), and all they read."""
    needed: set[int] = set()
    stack = list(ends)
    while stack:
        i = stack.pop()
        if i in needed:
            continue
        needed.add(i)
        if i in file.makers:
            stack.extend(j for j in file.makers[i].inputs if j >= 0)
    made = set(file.inputs)
    operators = [op for op in file.operators if needed.intersection(op.outputs)]
    for op in operators:
        for i in op.inputs:
            if i >= 0 and i not in made and file.tensors[i].raw is None and file.tensors[i].shape != (0,):
                raise FileFormatError(
                    "E164", f"tensor '{file.tensors[i].name}' is read before it is made", where=file.where,
                    why=f"{op.op} (operator {op.index}) reads it", fix="convert the model again",
                )  # fmt: skip
        made.update(op.outputs)
    return operators, needed


def _inputs(
    file: TFLiteFile,
    network: Network,
    values: dict[int, Value],
    needed: set[int],
    given: Mapping[str, Sequence[int]],
    operators: Sequence[Operator],
) -> list[Tensor]:
    stored = [file.tensors[i] for i in file.inputs if i in needed]
    for name in given:
        if name not in [s.name for s in stored]:
            raise InputError(
                "E450", f"the model has no input '{name}'", where=file.where,
                why=f"its inputs: {', '.join(s.name for s in stored) or 'none'}", fix="correct input_shapes",
            )  # fmt: skip
    made = []
    for s in stored:
        shape = _shape(s, given.get(s.name), file.where)
        planar = len(shape) == 4 and not _is_planar_already(file, s, operators)
        t = network.input(s.name, [shape[p] for p in TO_PLANAR] if planar else shape)
        values[s.index] = Value(network, s, **{"planar" if planar else "plain": t})
        made.append(t)
    return made


def _is_planar_already(file: TFLiteFile, s: Stored, operators: Sequence[Operator]) -> bool:
    """Whether the input is (1, C, H, W) in the file: transposed where it is read, as PyTorch converters leave it."""
    readers = [op for op in operators if s.index in op.inputs]
    return bool(readers) and all(
        op.op == "TRANSPOSE" and len(op.inputs) == 2
        and (raw := file.tensors[op.inputs[1]].raw) is not None
        and raw == bytes(v for p in (0, 2, 3, 1) for v in p.to_bytes(4, "little"))
        for op in readers
    )  # fmt: skip


def _shape(s: Stored, given: Sequence[int] | None, where: str) -> tuple[int, ...]:
    stated = list(s.open_shape)
    if given is not None:
        shape = [int(d) for d in given]
        if min(shape, default=1) < 1 or len(shape) != len(stated):
            raise InputError(
                "E450", f"input_shapes gives {shape} for '{s.name}'", where=where,
                why=f"the model states {stated}, in this order", fix="give as many positive numbers",
            )  # fmt: skip
    else:
        shape = [1, *stated[1:]] if stated and stated[0] == -1 else stated
        if -1 in shape:
            example = [d if d > 0 else 224 for d in shape]
            raise UnsupportedError(
                "E260", f"the size of input '{s.name}' is open", where=where, why=f"shape {stated}",
                fix=f"give it: input_shapes={{'{s.name}': {example}}}, with your sizes",
            )  # fmt: skip
    if 0 in shape:
        raise UnsupportedError("E265", f"input '{s.name}' is empty", where=where, why=f"shape {shape}")
    if len(shape) > 1 and shape[0] != 1:
        raise UnsupportedError(
            "E268", f"input '{s.name}' has a batch of {shape[0]}", where=where, why="the batch must be 1",
            fix=f"give input_shapes={{'{s.name}': {[1, *shape[1:]]}}}, or convert with batch 1",
        )  # fmt: skip
    if s.dtype not in ("float32", "float16", "uint8", "int8"):
        raise UnsupportedError(
            "E292", f"input '{s.name}' of type {s.dtype}", where=where, why="a picture or a float vector is needed",
            fix="convert with a float32, uint8 or int8 input",
        )  # fmt: skip
    return tuple(shape)


def _constants(file: TFLiteFile, network: Network, values: dict[int, Value], operator: Operator) -> None:
    """Make the constants that an operator reads."""
    for i in operator.inputs:
        if i >= 0 and i not in values and file.tensors[i].raw is not None and i not in file.makers:
            stored = file.tensors[i]
            t = network.constant(real_data(stored, file.where), stored.name)
            values[i] = Value(network, stored, plain=t)
