"""Bytes -> the tensors and operators of a TensorFlow Lite model, checked, in the order in which they run.

Field numbers are those of TensorFlow's schema.fbs (version 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import FileFormatError, UnsupportedError
from openkpu.importers.flatbuffer import FlatBuffer, Table
from openkpu.importers.tflite_names import OPERATORS

MOST_OPERATORS: Final = 100_000
MOST_DIMENSIONS: Final = 8
MAX_ELEMENTS: Final = 1 << 28
INT4: Final = "int4"
TYPES: Final = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool", 7: "int16",
    8: "complex64", 9: "int8", 10: "float64", 11: "complex128", 12: "uint64", 13: "resource", 14: "variant",
    15: "uint32", 16: "uint16", 17: INT4,
}  # fmt: skip


@dataclass(eq=False, slots=True)
class Stored:
    """A tensor of the file, in its own order of dimensions (NHWC). ``raw`` is the data of a constant."""

    index: int
    name: str
    shape: tuple[int, ...]
    open_shape: tuple[int, ...]
    """The same with -1 where the size is open."""
    dtype: str
    raw: bytes | None
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int
    """The dimension that ``scale`` runs along, if there is more than one."""
    sparse: bool = False

    @property
    def is_integer(self) -> bool:
        """Whether the numbers stand for real ones through scale and zero point."""
        return self.scale.size > 0 and self.dtype in ("int8", "uint8", "int16", "int32", INT4)


@dataclass(eq=False, slots=True)
class Operator:
    """An operator of the file: indices of its tensors (-1: left out), and the table with its options."""

    index: int
    op: str
    custom: bool
    inputs: list[int]
    outputs: list[int]
    options: Table | None


@dataclass(slots=True)
class TFLiteFile:
    """The first subgraph of a model."""

    where: str
    tensors: list[Stored]
    operators: list[Operator]
    inputs: list[int]
    outputs: list[int]
    makers: dict[int, Operator] = field(default_factory=dict)


def read(data: bytes, where: str) -> TFLiteFile:
    """Parse a model. ``FileFormatError`` E161: cut off or damaged, E162: nothing in it that could run."""
    buffer = FlatBuffer(data, where)
    model = buffer.root()
    graphs = model.tables(2, "subgraph")
    codes = [_code(t) for t in model.tables(1, "operator code")]
    buffers = model.tables(4, "buffer")
    if not graphs:
        raise FileFormatError("E162", "the file holds no operators", where=where, fix="convert the model again")
    graph = graphs[0]
    tables = graph.tables(3, "operator")
    if len(tables) > MOST_OPERATORS:
        raise UnsupportedError(
            "E159", f"the model has {len(tables)} operators", where=where, why=f"the limit is {MOST_OPERATORS}",
            fix="simplify it",
        )  # fmt: skip
    tensors = _tensors(graph, buffers, buffer)
    operators = [_operator(i, t, codes, len(tensors), buffer) for i, t in enumerate(tables)]
    file = TFLiteFile(
        where, tensors, operators,
        _indices(graph, 1, "the inputs", len(tensors), buffer), _indices(graph, 2, "the outputs", len(tensors), buffer),
    )  # fmt: skip
    if not operators or not file.outputs or len(set(file.outputs)) != len(file.outputs) or min(file.outputs) < 0:
        raise FileFormatError(
            "E162", "the model has no operators or no outputs, or one output twice", where=where,
            fix="convert the model again",
        )  # fmt: skip
    for op in operators:
        for i in op.outputs:
            if i in file.makers or i in file.inputs or i < 0:
                raise buffer.damaged(f"operator {op.index}", f"tensor {i} is made twice")
            file.makers[i] = op
    return file


def data_of(t: Stored, where: str) -> NDArray[Any]:
    """Return the numbers of a constant as they are stored; ``FileFormatError`` E163 if they are not all there."""
    assert t.raw is not None
    count = math.prod(t.shape)
    what = f"tensor '{t.name}'"
    if t.sparse:
        raise UnsupportedError(
            "E292", f"{what} is stored as a sparse matrix", where=where, fix="convert without pruning's compression"
        )
    if t.dtype == INT4:
        pairs = np.frombuffer(t.raw, np.uint8)
        values = np.stack([pairs & 15, pairs >> 4], axis=1).reshape(-1)[:count].astype(np.int8)
        array: NDArray[Any] = np.where(values > 7, values - 16, values).astype(np.int8)
    elif t.dtype in ("string", "resource", "variant"):
        raise UnsupportedError("E292", f"{what} holds no numbers but {t.dtype}", where=where)
    else:
        kind = np.dtype(t.dtype).newbyteorder("<")
        usable = len(t.raw) // kind.itemsize
        array = np.frombuffer(t.raw, kind, usable).astype(kind.newbyteorder("="), copy=False)
    if array.size != count:
        raise FileFormatError(
            "E163", f"the data of {what} is damaged", where=where,
            why=f"{len(t.raw)} bytes for {'x'.join(map(str, t.shape))} numbers of {t.dtype}",
            fix="copy or convert the model again",
        )  # fmt: skip
    return array.reshape(t.shape)


def _code(t: Table) -> tuple[str, bool]:
    """Return the operator's name, and whether it is one of the user's own."""
    number = max(t.integer(0, "i8"), t.integer(3))
    name = OPERATORS.get(number, f"number {number}")
    return (t.string(1, t.what) or "CUSTOM", True) if name == "CUSTOM" else (name, False)


def _indices(table: Table, at: int, what: str, count: int, buffer: FlatBuffer) -> list[int]:
    values = table.array(at, "int32", what)
    if values.size and (values.min() < -1 or values.max() >= count):
        raise buffer.damaged(f"{what} of {table.what}", f"there are {count} tensors")
    return [int(v) for v in values]


def _operator(index: int, t: Table, codes: list[tuple[str, bool]], tensors: int, buffer: FlatBuffer) -> Operator:
    code = t.integer(0, "u32")
    if code >= len(codes):
        raise buffer.damaged(t.what, f"operator code {code} of {len(codes)}")
    inputs, outputs = (_indices(t, i, what, tensors, buffer) for i, what in ((1, "the inputs"), (2, "the outputs")))
    return Operator(index, *codes[code], inputs, outputs, t.table(4, t.what))


def _tensors(graph: Table, buffers: list[Table], buffer: FlatBuffer) -> list[Stored]:
    tables = graph.tables(0, "tensor")
    names: dict[str, int] = {}
    result = []
    for i, t in enumerate(tables):
        shape = [int(d) for d in t.array(0, "int32", t.what)]
        signature = [int(d) for d in t.array(7, "int32", t.what)]
        if len(shape) > MOST_DIMENSIONS or min(shape, default=0) < -1 or math.prod(shape) > MAX_ELEMENTS:
            raise buffer.damaged(t.what, f"its shape is {shape[:16]}")
        dtype = TYPES.get(t.integer(1, "i8"))
        if dtype is None:
            raise buffer.damaged(t.what, f"its type is number {t.integer(1, 'i8')}")
        # a name is what messages and outputs= go by, so each is made to exist once
        name = t.string(3, t.what) or f"tensor {i}"
        while name in names:
            name = f"{name}:{i}"
        names[name] = i
        scale, zero, axis = _quantization(t, len(shape))
        result.append(
            Stored(i, name, tuple(shape), tuple(signature if len(signature) == len(shape) else shape), dtype,
                   _raw(t, buffers, buffer), scale, zero, axis, t.has(6))
        )  # fmt: skip
    return result


def _quantization(t: Table, rank: int) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
    """Return scales, zero points and the axis they run along; no scales where the tensor is not quantised."""
    q = t.table(4, t.what)
    none = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    if q is None:
        return none
    scale, zero, axis = q.array(2, "float32", q.what), q.array(3, "int64", q.what), q.integer(6)
    if not scale.size:
        return none
    if rank == 1:
        axis = 0  # converters of 2020 wrote the axis of the weights beside the bias too
    zero = zero if zero.size == scale.size else np.zeros(scale.size, np.int64)
    good = np.isfinite(scale).all() and (scale >= 0).all() and (np.abs(zero) < 1 << 31).all()
    if not good or (scale.size > 1 and not 0 <= axis < rank):
        raise t.buffer.damaged(t.what, f"its quantisation has {scale.size} scale(s) along axis {axis}")
    return scale, zero, axis


def _raw(t: Table, buffers: list[Table], buffer: FlatBuffer) -> bytes | None:
    index = t.integer(2, "u32")
    if index == 0:
        return None  # by definition the empty buffer
    if index >= len(buffers):
        raise buffer.damaged(t.what, f"buffer {index} of {len(buffers)}")
    held = buffers[index]
    begin, size = held.vector(0, 1, held.what)
    if not size:
        begin, size = held.integer(1, "u64"), held.integer(2, "u64")
        if begin <= 1 or not size:
            return None
        buffer.span(begin, size, held.what)
    return buffer.data[begin : begin + size]
