"""Makes small TensorFlow Lite files for tests: a FlatBuffer writer, and a model of tensors and operators."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openkpu.importers.tflite_file import TYPES
from openkpu.importers.tflite_names import OPERATORS

CODES = {name: number for number, name in OPERATORS.items()}
TYPE_CODES = {name: number for number, name in TYPES.items()}
SIZES = {"i8": ("b", 1), "u8": ("B", 1), "i32": ("i", 4), "u32": ("I", 4), "f32": ("f", 4)}
Scalar = tuple[str, float]
"""A number with its kind, e.g. ("i32", 2)."""
Fields = Mapping[int, Any]
"""Field number -> a Scalar, a string, an array, a table (Fields), or a list of tables."""


def flatbuffer(root: Fields, mark: bytes = b"TFL3") -> bytes:
    """Write a table and everything in it."""
    out = bytearray(8)
    out[4:8] = mark
    struct.pack_into("<I", out, 0, _table(out, root))
    return bytes(out)


def _align(out: bytearray, to: int) -> int:
    out.extend(bytes(-len(out) % to))
    return len(out)


def _table(out: bytearray, fields: Fields) -> int:
    count = max(fields, default=-1) + 1
    places, size = [0] * count, 4
    for number, value in sorted(fields.items()):
        width = SIZES[value[0]][1] if isinstance(value, tuple) else 4
        size += -size % width
        places[number], size = size, size + width
    vtable = _align(out, 4)
    out += struct.pack(f"<HH{count}H", 4 + 2 * count, size, *places)
    at = _align(out, 8)
    out += bytes(size)
    struct.pack_into("<i", out, at, at - vtable)
    for number, value in sorted(fields.items()):
        place = at + places[number]
        if isinstance(value, tuple):
            struct.pack_into(f"<{SIZES[value[0]][0]}", out, place, value[1])
        else:
            struct.pack_into("<I", out, place, _content(out, value) - place)
    return at


def _content(out: bytearray, value: Any) -> int:
    """Write what an offset points to, and return where it is."""
    if isinstance(value, Mapping):
        return _table(out, value)
    if isinstance(value, list):  # of tables
        at = _align(out, 4)
        out += struct.pack("<I", len(value)) + bytes(4 * len(value))
        written: dict[int, int] = {}  # the same table twice is written once
        for i, table in enumerate(value):
            place = at + 4 + 4 * i
            if id(table) not in written:
                written[id(table)] = _table(out, table)
            struct.pack_into("<I", out, place, written[id(table)] - place)
        return at
    data = value.encode() + b"\0" if isinstance(value, str) else np.ascontiguousarray(value).tobytes()
    count = len(data) - 1 if isinstance(value, str) else np.asarray(value).size
    while (len(out) + 4) % 16:  # data are aligned to 16 bytes
        out.append(0)
    at = len(out)
    out += struct.pack("<I", count) + data
    return at


@dataclass
class Model:
    """A model being built; every method returns the index of the new tensor."""

    tensors: list[dict[int, Any]] = field(default_factory=list)
    buffers: list[dict[int, Any]] = field(default_factory=lambda: [{}])
    operators: list[dict[int, Any]] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str = "float32",
        name: str = "",
        *,
        data: Any = None,
        scale: Any = None,
        zero: Any = 0,
        axis: int = 0,
    ) -> int:
        made: dict[int, Any] = {
            0: np.array(shape, np.int32),
            1: ("i8", TYPE_CODES[dtype]),
            3: name or f"t{len(self.tensors)}",
        }
        if data is not None:
            made[2] = ("u32", len(self.buffers))
            self.buffers.append({0: np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)})
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            zeros = np.broadcast_to(np.asarray(zero, np.int64), scales.shape)
            made[4] = {2: scales, 3: zeros, 6: ("i32", axis)}
        self.tensors.append(made)
        self.shapes.append(tuple(shape))
        return len(self.tensors) - 1

    def input(self, *shape: int, dtype: str = "float32", **more: Any) -> int:
        self.inputs.append(self.tensor(shape, dtype, "x", **more))
        return self.inputs[-1]

    def const(self, data: Any, dtype: str = "", **more: Any) -> int:
        array = np.asarray(data, dtype or None)
        return self.tensor(array.shape, dtype or str(array.dtype), data=array, **more)

    def op(
        self,
        name: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        options: Fields | None = None,
        *,
        dtype: str = "float32",
        more: Sequence[Sequence[int]] = (),
        **quantisation: Any,
    ) -> int:
        """Add an operator with an output of ``shape`` (and others of the shapes ``more``)."""
        if name not in self.codes:
            self.codes.append(name)
        outputs = [self.tensor(s, dtype, f"{name.lower()}_{len(self.tensors)}", **quantisation) for s in (shape, *more)]
        made: dict[int, Any] = {
            0: ("u32", self.codes.index(name)),
            1: np.array(inputs, np.int32),
            2: np.array(outputs, np.int32),
        }
        if options is not None:
            made[3] = ("u8", OPTIONS.get(name, 0))
            made[4] = options
        self.operators.append(made)
        return outputs[0]

    def bytes(self, *outputs: int) -> bytes:
        """Return the file."""
        graph = {
            0: self.tensors,
            1: np.array(self.inputs, np.int32),
            2: np.array(outputs or [len(self.tensors) - 1], np.int32),
            3: self.operators,
            4: "main",
        }
        codes = [_code(n) for n in self.codes]
        return flatbuffer({0: ("u32", 3), 1: codes, 2: [graph], 3: "test", 4: self.buffers})


def _code(name: str) -> dict[int, Any]:
    if name not in CODES:
        return {0: ("i8", 32), 1: name, 2: ("i32", 1), 3: ("i32", 32)}
    number = CODES[name]
    return {0: ("i8", min(number, 127)), 2: ("i32", 1), 3: ("i32", number)}


OPTIONS = {
    "CONV_2D": 1, "DEPTHWISE_CONV_2D": 2, "AVERAGE_POOL_2D": 5, "MAX_POOL_2D": 5, "FULLY_CONNECTED": 8, "SOFTMAX": 9,
    "CONCATENATION": 10, "ADD": 11, "L2_NORMALIZATION": 12, "RESIZE_BILINEAR": 15, "RESHAPE": 17, "SPACE_TO_DEPTH": 19,
    "MUL": 21, "GATHER": 23, "MEAN": 27, "SUM": 27, "REDUCE_MAX": 27, "REDUCE_MIN": 27, "SUB": 28, "DIV": 29,
    "SQUEEZE": 30, "STRIDED_SLICE": 32, "SPLIT": 35, "ARG_MAX": 40, "TRANSPOSE_CONV": 49, "PACK": 59, "UNPACK": 64,
    "RESIZE_NEAREST_NEIGHBOR": 74, "LEAKY_RELU": 75, "MIRROR_PAD": 77, "SPLIT_V": 79, "DEPTH_TO_SPACE": 94,
}  # fmt: skip
"""Operator -> the number of its table of options (BuiltinOptions); TensorFlow Lite wants it, OpenKPU does not."""


def conv(stride: int = 1, *, same: bool = True, act: int = 0, dilation: int = 1) -> Fields:
    """Options of CONV_2D."""
    return {0: ("i8", 0 if same else 1), 1: ("i32", stride), 2: ("i32", stride), 3: ("i8", act),
            4: ("i32", dilation), 5: ("i32", dilation)}  # fmt: skip


def depthwise(stride: int = 1, multiplier: int = 1, *, same: bool = True, act: int = 0) -> Fields:
    """Options of DEPTHWISE_CONV_2D."""
    return {0: ("i8", 0 if same else 1), 1: ("i32", stride), 2: ("i32", stride), 3: ("i32", multiplier),
            4: ("i8", act), 5: ("i32", 1), 6: ("i32", 1)}  # fmt: skip


def pool(size: int, stride: int, *, same: bool = False, act: int = 0) -> Fields:
    """Options of the poolings."""
    return {0: ("i8", 0 if same else 1), 1: ("i32", stride), 2: ("i32", stride), 3: ("i32", size), 4: ("i32", size),
            5: ("i8", act)}  # fmt: skip
