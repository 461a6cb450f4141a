"""The code of V5's k210 module: a list of four operations on AI RAM and main RAM.

An operation starts with its number and three bytes of padding. Its pieces of memory are 12-byte ranges; a range in the
input or output memory names the buffer of its function that starts there. The same in all versions of V5 that are
known. Source: nncase v1.9.0, ``runtime/k210/runtime_types.h`` and ``modules/k210/src/runtime``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from openkpu.errors import MemoryLimitError, OpenKPUError, UnsupportedError
from openkpu.k210 import AI_LINE_BYTES, AI_RAM_BYTES
from openkpu.kmodel.damage import damaged
from openkpu.kmodel.operators import CopyTensor
from openkpu.kmodel.program import DType, KpuConv, KpuDownload, KpuUpload, Memory, Operand, Step
from openkpu.kmodel.v3_conv import unusual
from openkpu.kmodel.v5_call import Address, dense
from openkpu.kmodel.v5_container import pack_range, unpack_range
from openkpu.kmodel.v5_structures import DTYPES, Location, Range
from openkpu.kpu.checks import check_layer
from openkpu.kpu.layer import ACTIVATION_BYTES, ActivationTable, BatchNorm, KpuLayer
from openkpu.kpu.registers import BYTES, LayerRegisters

UPLOAD, DOWNLOAD, CONV, COPY = range(4)
SIZES: Final = {UPLOAD: 44, DOWNLOAD: 44, CONV: 152, COPY: 76}
_SHAPE: Final = struct.Struct("<4I")
MAX_OPERATIONS: Final = 1 << 14

Resolve = Callable[[Range, str], Address]
"""(range, where) -> where it lies for the caller; E145, E147."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation as decoded once; operands are resolved at each call."""

    code: int
    ranges: tuple[Range, ...]
    shapes: tuple[tuple[int, ...], ...]
    layer: KpuLayer | None
    batches: int
    where: str


def decode(code: bytes, rdata: bytes, where: str) -> tuple[Operation, ...]:
    """Decode a function's code; weights and tables are views of ``rdata``.

    ``FileFormatError`` E141, E147; ``UnsupportedError`` E232, E240..E242; ``MemoryLimitError`` E340, E341.
    """
    found: list[Operation] = []
    position = 0
    while position < len(code):
        here = f"{where}, code offset {position}"
        number = code[position]
        size = SIZES.get(number)
        if size is None:
            raise damaged("E147", "an unknown operation of the k210 module", here, f"number {number}, known are 0..3")
        if position + size > len(code):
            raise damaged("E141", "the code ends inside an operation", here, f"{len(code)} bytes of code")
        if len(found) >= MAX_OPERATIONS:
            raise damaged("E142", "too many operations", here, f"more than {MAX_OPERATIONS}")
        found.append(_decode(number, code[position : position + size], rdata, here))
        position += size
    return tuple(found)


def _decode(number: int, body: bytes, rdata: bytes, where: str) -> Operation:
    if number != CONV:
        ranges = tuple(unpack_range(body, at) for at in (4, 16))
        shapes = tuple(_SHAPE.unpack_from(body, at) for at in range(28, len(body), _SHAPE.size))
        return Operation(number, ranges, shapes, None, 1, where)
    ranges = tuple(unpack_range(body, 4 + 12 * i) for i in range(4))
    (batches,) = struct.unpack_from("<I", body, 52)
    registers = LayerRegisters.decode(body[56 : 56 + BYTES])
    if not 1 <= batches <= AI_RAM_BYTES // AI_LINE_BYTES:
        raise damaged("E147", "a number of pictures of no sense", where, f"{batches}")
    depthwise = bool(registers.depth_wise_layer)
    k = 3 if registers.kernel_type == 1 else 1
    shape = (registers.o_ch_num, 1 if depthwise else registers.i_ch_num, k, k)
    weights = _array(rdata, ranges[0], "<u1", shape, "the weights", where)
    norm = _array(rdata, ranges[1], "<u8", shape[:1], "the batch-norm table", where)
    table = _array(rdata, ranges[2], "<u1", (ACTIVATION_BYTES,), "the activation table", where)
    layer = KpuLayer(registers, weights, BatchNorm.decode(norm), ActivationTable.decode(table.tobytes()))
    try:
        check_layer(layer)
    except OpenKPUError as error:
        error.where = where
        raise
    if problem := unusual(registers, main_output=bool(ranges[3].size)):
        raise UnsupportedError(
            "E232",
            "a KPU layer with registers that no known file has",
            where=where,
            why=problem,
            fix="The file is damaged, or uses a feature that nobody has documented.",
        )
    return Operation(number, ranges, (), layer, batches, where)


def _array(rdata: bytes, r: Range, dtype: str, shape: tuple[int, ...], what: str, where: str) -> Any:
    count = int(np.prod(shape, dtype=object))
    size = count * np.dtype(dtype).itemsize
    if r.location != Location.RDATA.value or r.start + size > len(rdata) or r.size < size:
        raise damaged(
            "E147",
            f"{what} do not lie in .rdata",
            where,
            f"{size} bytes are needed; location {r.location}, bytes {r.start}..{r.start + r.size} of {len(rdata)}",
        )
    return np.frombuffer(rdata, dtype, count, r.start).reshape(shape)


def step(op: Operation, resolve: Resolve) -> Step:
    """Build the step of an operation for one call."""
    if op.layer is not None:
        main = None
        if op.ranges[3].size:
            at = resolve(op.ranges[3], op.where)
            batch = () if op.batches == 1 else (op.batches,)
            main = Operand(at.memory, at.start, DType.U8, (*batch, *op.layer.output_shape))
        conv = KpuConv(layer=op.layer, main_output=main, batches=op.batches)
        for operand in (conv.input, conv.output):
            _in_ai(operand, op.where)
        return conv
    source, target = (resolve(r, op.where) for r in op.ranges)
    if op.code == COPY:
        return _copy(op, source, target)
    shape: tuple[int, ...] = op.shapes[0][1:] if op.shapes[0][0] == 1 else op.shapes[0]
    if not all(0 < d <= AI_RAM_BYTES for d in op.shapes[0]):
        raise damaged("E147", "a feature map without elements", op.where, f"its shape is {op.shapes[0]}")
    ai, main_at = (target, source) if op.code == UPLOAD else (source, target)
    if ai.memory is not Memory.AI or main_at.memory is Memory.AI or ai.start % AI_LINE_BYTES:
        why = f"{main_at.memory.value} memory and {ai.memory.value} memory, byte {ai.start}"
        raise damaged("E147", "an upload or download that is none", op.where, why)
    feature_map = Operand(Memory.AI, ai.start, DType.U8, shape)
    _in_ai(feature_map, op.where)
    dense_map = Operand(main_at.memory, main_at.start, DType.U8, shape)
    if op.code == UPLOAD:
        return KpuUpload(input=dense_map, output=feature_map)
    return KpuDownload(input=feature_map, output=dense_map)


def _in_ai(operand: Operand, where: str) -> None:
    if operand.stop > AI_RAM_BYTES:
        raise MemoryLimitError(
            "E311",
            "a feature map lies outside AI RAM",
            where=where,
            why=f"bytes {operand.start}..{operand.stop}, AI RAM has {AI_RAM_BYTES}",
            fix="The file is damaged, or was made for another chip.",
        )


def _copy(op: Operation, source: Address, target: Address) -> Step:
    shape, *strides = op.shapes
    dtype = DTYPES.get(op.ranges[0].dtype)
    if dtype is None or Memory.AI in (source.memory, target.memory) or not all(shape):
        raise damaged("E147", "a copy that makes no sense", op.where, f"shape {shape}, {source}, {target}")
    operands = [
        Operand(at.memory, at.start, dtype, shape, None if s == dense(shape) else s)
        for at, s in zip((source, target), strides, strict=True)
    ]
    return CopyTensor(input=operands[0], output=operands[1])


# -- writing -------------------------------------------------------------------------------------------------------

Place = Callable[[Operand, bool], tuple[int, int]]
"""(operand in main RAM, whether it is written) -> (location, start)."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Where the arrays of a KPU layer lie in .rdata."""

    weights: int
    batch_norm: int
    activation: int


def _range(o: Operand, number: int, place: Place, *, written: bool) -> Range:
    location, start = (Location.KPU.value, o.start) if o.memory is Memory.AI else place(o, written)
    size = o.size if o.memory is Memory.AI else o.elements * o.dtype.size  # of a view: without the gaps
    return Range(location, number, start, size)


def _four(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * (4 - len(shape)) + shape


def encode(s: Step, place: Place, parameters: Parameters | None, numbers: dict[DType, int]) -> bytes:
    """Encode a step as an operation. ``ValueError`` or ``struct.error`` for a value that does not fit."""
    if isinstance(s, KpuConv):
        assert parameters is not None
        u8, u64 = numbers[DType.U8], numbers[DType.U64]
        layer, rdata = s.layer, Location.RDATA.value
        if layer.weights.itemsize != 1:
            raise ValueError("V5 has 8-bit weights only")
        ranges = [
            Range(rdata, u8, parameters.weights, layer.weights.nbytes),
            Range(rdata, u64, parameters.batch_norm, layer.registers.o_ch_num * 8),
            Range(rdata, u8, parameters.activation, ACTIVATION_BYTES),
            Range(0, 0, 0, 0) if s.main_output is None else _range(s.main_output, u8, place, written=True),
        ]
        body = b"".join(pack_range(r) for r in ranges)
        return struct.pack("<B3x", CONV) + body + struct.pack("<I", s.batches) + layer.registers.encode()
    assert isinstance(s, KpuUpload | KpuDownload | CopyTensor)
    number = numbers[s.input.dtype]
    ranges = [_range(s.input, number, place, written=False), _range(s.output, number, place, written=True)]
    head = pack_range(ranges[0]) + pack_range(ranges[1])
    if isinstance(s, CopyTensor):
        shapes = [s.input.shape, *(o.strides or dense(o.shape) for o in (s.input, s.output))]
        return struct.pack("<B3x", COPY) + head + b"".join(_SHAPE.pack(*_four(x)) for x in shapes)
    code = UPLOAD if isinstance(s, KpuUpload) else DOWNLOAD
    return struct.pack("<B3x", code) + head + _SHAPE.pack(*_four(s.input.shape))
