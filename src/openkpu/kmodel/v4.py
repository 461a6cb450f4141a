"""kmodel V4 (nncase 0.2) <-> Program.

File: a 40-byte header, the inputs' memory ranges, the inputs' shapes, the outputs' memory ranges, the constants, one
(opcode, body size) a node, then the bodies back to back, each ending at a multiple of 8 in the file. The vendor's
compiler does not write the last padding, so a file may be up to 7 bytes shorter than its body sizes say. There is no
checksum, no name, no shape of an output.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

from openkpu.errors import FileFormatError, MemoryLimitError, OpenKPUError, UnsupportedError
from openkpu.k210 import MAIN_RAM_BYTES
from openkpu.kmodel import v4_kpu
from openkpu.kmodel.damage import damaged
from openkpu.kmodel.detect import MAGIC, Kind, detect
from openkpu.kmodel.program import DType, KpuConv, Memory, Operand, Program, Requantize, Step
from openkpu.kmodel.record import Record
from openkpu.kmodel.v4_body import MEMORIES, Body, FileContext, Range, range_of, shape4, without_batch
from openkpu.kmodel.v4_kpu import Gaps
from openkpu.kmodel.v4_leftovers import Leftover, compare, patch
from openkpu.kmodel.v4_op import OpType
from openkpu.kmodel.v4_ops import BY_OPCODE, KPU_CONV2D, op_name, type_of

HEADER: Final = Record(
    "identifier", "version", "flags", "target", "constants", "main_mem", "nodes", "inputs", "outputs", "reserved0"
)
RANGE: Final = Record("range:u32*4")
SHAPE: Final = Record("shape:i32*4")
NODE_HEADER: Final = Record("opcode", "body_size")
LOOKUP: Final = 0x12

TARGET_K210: Final = 1
BODY_ALIGN: Final = 8
CONSTANT_ALIGN: Final = 8
MAX_MAIN_BYTES: Final = 64 * 1024 * 1024  # ten times what the chip has; more is a damaged file
MAX_NODES: Final = 4096
MAX_ENDS: Final = 256


@dataclass(frozen=True, slots=True)
class V4Extra:
    """What a V4 file has beyond the Program, for exact re-writing."""

    flags: int = 0
    target: int = TARGET_K210
    reserved0: int = 0
    """Whatever lay in the compiler's memory."""
    tables: tuple[tuple[int, int], ...] = ()
    """(step, start in the constant area) of each Requantize's table."""
    gaps: tuple[tuple[int, Gaps], ...] = ()
    """(step, gaps) of the KPU layers whose parts do not start at multiples of 256."""
    leftovers: tuple[Leftover, ...] = ()
    missing_pad: int = 0
    """Bytes by which the file is shorter than its body sizes say (0..7)."""
    trailing: bytes = b""
    """Bytes after the last body."""


# -- reading -------------------------------------------------------------------------------------------------------


def read(data: bytes) -> Program:
    """Decode a V4 file. Every offset, size and count is checked before anything is allocated or run.

    Raises ``FileFormatError`` (E1xx, with the file offset), ``MemoryLimitError`` (E3xx) or ``UnsupportedError`` (E2xx).
    Weights are read-only views of ``data``.
    """
    kind = detect(data)
    if kind.kind is not Kind.V4:
        raise FileFormatError(
            "E110",
            f"not a kmodel V4 but: {kind.title}",
            where="file offset 0",
            why="the first bytes say so",
            fix=kind.advice,
        )
    data = bytes(data)
    header, places = _read_header(data)
    context = FileContext(data, True, header["main_mem"], constants=(places.constants, places.nodes))
    ends = _read_ends(data, header, places, context)
    inputs = tuple(_input(i, r, shape, context) for i, (r, shape) in enumerate(ends[0]))
    for o in inputs:
        context.last[o.memory, o.start] = o
    steps, gaps, leftovers, stop = _read_nodes(data, header["nodes"], places, context)
    program = Program(
        version=4,
        inputs=inputs,
        outputs=tuple(_output(i, r, places, steps, context) for i, r in enumerate(ends[1])),
        steps=tuple(steps),
        main_bytes=header["main_mem"],
        constants=data[places.constants : places.nodes],
    )
    extra = V4Extra(
        flags=header["flags"],
        target=header["target"],
        reserved0=header["reserved0"],
        tables=tuple(context.tables),
        gaps=tuple(gaps),
        missing_pad=max(0, stop - len(data)),
        trailing=data[stop:],
    )
    head = compare(-1, data[HEADER.size : places.constants], _write_ends(program))
    return replace(program, extra=replace(extra, leftovers=(*(head or ()), *leftovers)))


@dataclass(frozen=True, slots=True)
class _Places:
    """File offsets."""

    inputs: int
    shapes: int
    outputs: int
    constants: int
    nodes: int
    bodies: int


def _read_header(data: bytes) -> tuple[dict[str, int], _Places]:
    if len(data) < HEADER.size:
        raise damaged(
            "E111",
            "the file ends inside its header",
            "file offset 0",
            f"it has {len(data)} bytes, the header alone has {HEADER.size}",
        )
    header = HEADER.unpack(data, 0)
    if header["target"] > TARGET_K210:
        raise UnsupportedError(
            "E251",
            "a kmodel for another chip",
            where="file offset 12",
            why=f"target is {header['target']}; 1 means K210, 0 a CPU",
            fix="Compile the model for the K210.",
        )
    for offset, name, low, high in (
        (24, "nodes", 1, MAX_NODES),
        (28, "inputs", 1, MAX_ENDS),
        (32, "outputs", 1, MAX_ENDS),
    ):
        if not low <= header[name] <= high:
            raise damaged(
                "E116",
                f"{name} out of range",
                f"file offset {offset}",
                f"it is {header[name]}, sensible are {low}..{high}",
            )
    if header["main_mem"] > MAX_MAIN_BYTES:
        raise MemoryLimitError(
            "E310",
            "the model wants more main memory than the chip could ever have",
            where="file offset 20 (main_mem)",
            why=f"{header['main_mem']} bytes; the K210 has {MAIN_RAM_BYTES}",
            fix="The file is damaged: get it again.",
        )
    shapes = HEADER.size + header["inputs"] * RANGE.size
    outputs = shapes + header["inputs"] * SHAPE.size
    constants = outputs + header["outputs"] * RANGE.size
    nodes = constants + header["constants"]
    bodies = nodes + header["nodes"] * NODE_HEADER.size
    if bodies > len(data):
        raise damaged(
            "E111",
            "the file ends inside its tables",
            f"file offset {HEADER.size}",
            f"the tables reach to {bodies}, the file has {len(data)} bytes",
        )
    return header, _Places(HEADER.size, shapes, outputs, constants, nodes, bodies)


def _read_ends(
    data: bytes, header: dict[str, int], places: _Places, context: FileContext
) -> tuple[list[tuple[Range, tuple[int, ...]]], list[Range]]:
    """Read the ranges and shapes of the inputs, and the ranges of the outputs."""
    ranges = [RANGE.unpack(data, places.inputs + i * RANGE.size)["range"] for i in range(header["inputs"])]
    shapes = [SHAPE.unpack(data, places.shapes + i * SHAPE.size)["shape"] for i in range(header["inputs"])]
    outputs = [RANGE.unpack(data, places.outputs + i * RANGE.size)["range"] for i in range(header["outputs"])]
    return list(zip(ranges, shapes, strict=True)), outputs


def _input(index: int, r: Range, shape: tuple[int, ...], context: FileContext) -> Operand:
    """Where the caller's array goes: KPU feature map or main RAM."""
    at = HEADER.size + index * RANGE.size
    body = Body(context, index, "input", at, at, at)
    if r[0] == MEMORIES.index(Memory.AI):
        return body.map(r, shape)
    return without_batch(body.result(r, body.dtype(r), *shape))


def _read_nodes(
    data: bytes, count: int, places: _Places, context: FileContext
) -> tuple[list[Step], list[tuple[int, Gaps]], list[Leftover], int]:
    """Read every node; return steps, unusual gaps, leftovers and where the last body should end."""
    steps: list[Step] = []
    unusual: list[tuple[int, Gaps]] = []
    leftovers: list[Leftover] = []
    position = places.bodies
    for index in range(count):
        node = NODE_HEADER.unpack(data, places.nodes + index * NODE_HEADER.size)
        opcode, stop = node["opcode"], position + node["body_size"]
        if stop > len(data) and not (index == count - 1 and stop - len(data) < BODY_ALIGN):
            raise damaged(
                "E111",
                "the file ends inside a node body",
                f"node {index} ({op_name(opcode)}), file offset {position}",
                f"the body is {position}..{stop}, the file has {len(data)} bytes",
            )
        body = Body(context, index, op_name(opcode), position, position, min(stop, len(data)))
        gaps: Gaps | None = None
        step: Step
        if opcode == KPU_CONV2D:
            conv, gaps = v4_kpu.decode(body)
            if gaps == v4_kpu.gaps_of(conv, position):
                gaps = None
            else:
                unusual.append((index, gaps))
            written = v4_kpu.encode(conv, position, gaps)
            step = conv
        else:
            known = BY_OPCODE.get(opcode)
            if known is None:
                raise body.stops(f"node {index} has an unknown opcode", f"no V4 runtime knows opcode 0x{opcode:x}")
            step = known.decode(body)
            start = context.tables[-1][1] if isinstance(step, Requantize) else 0
            written = _encode(step, known, start)
        written += bytes(-(position + len(written)) % BODY_ALIGN)
        raw = data[position : min(stop, len(data))] + bytes(max(0, stop - len(data)))
        leftovers += compare(index, raw, written) or ()
        for o in step.writes:
            context.last[o.memory, o.start] = o
        steps.append(step)
        position = stop
    return steps, unusual, leftovers, position


def _output(index: int, r: Range, places: _Places, steps: list[Step], context: FileContext) -> Operand:
    """Shape one output: as the last step that wrote exactly there, else a vector."""
    at = places.outputs + index * RANGE.size
    body = Body(context, index, "output", at, at, at)
    dtype = body.dtype(r)
    for step in reversed(steps):
        for o in step.writes:
            if r[0] < len(MEMORIES) and (o.memory, o.start, o.dtype, o.size) == (MEMORIES[r[0]], r[2], dtype, r[3]):
                return without_batch(o)
    return body.tensor(r, dtype, r[3] // dtype.size)


# -- writing -------------------------------------------------------------------------------------------------------


def write(program: Program) -> bytes:
    """Encode a program as a V4 file; the same program always gives the same bytes.

    A program that ``read`` made gives the file's bytes again. With ``extra`` None the tables of Requantize steps are
    put behind the constants, unused fields are 0, and the parts of KPU layers start at multiples of 256.
    ``UnsupportedError`` (E2xx) names a step or value that V4 cannot hold.
    """
    extra = program.extra if isinstance(program.extra, V4Extra) else V4Extra()
    constants, tables = _place_tables(program, extra)
    leftovers = {leftover.part: leftover for leftover in extra.leftovers}
    ends = patch(_write_ends(program), leftovers.get(-1))
    header = HEADER.pack(
        identifier=MAGIC,
        version=4,
        flags=extra.flags,
        target=extra.target,
        constants=len(constants),
        main_mem=program.main_bytes,
        nodes=len(program.steps),
        inputs=len(program.inputs),
        outputs=len(program.outputs),
        reserved0=extra.reserved0,
    )
    gaps = dict(extra.gaps)
    position = len(header) + len(ends) + len(constants) + len(program.steps) * NODE_HEADER.size
    rows: list[bytes] = []
    bodies: list[bytes] = []
    for index, step in enumerate(program.steps):
        opcode, body = _write_node(index, step, position, gaps.get(index), tables.get(index, 0))
        body = patch(body + bytes(-(position + len(body)) % BODY_ALIGN), leftovers.get(index))
        rows.append(NODE_HEADER.pack(opcode=opcode, body_size=len(body)))
        bodies.append(body)
        position += len(body)
    out = header + ends + constants + b"".join(rows) + b"".join(bodies)
    return (out[: len(out) - extra.missing_pad] if extra.missing_pad else out) + extra.trailing


def _write_ends(program: Program) -> bytes:
    """Write the tables between header and constants."""
    try:
        inputs = b"".join(RANGE.pack(range=range_of(o)) for o in program.inputs)
        shapes = b"".join(SHAPE.pack(shape=shape4(o)) for o in program.inputs)
        return inputs + shapes + b"".join(RANGE.pack(range=range_of(o)) for o in program.outputs)
    except (ValueError, struct.error) as error:
        raise UnsupportedError(
            "E237",
            "an input or output that V4 cannot hold",
            where="the program's inputs and outputs",
            why=str(error),
            fix="This is a mistake of whatever built the program.",
        ) from error


def _place_tables(program: Program, extra: V4Extra) -> tuple[bytes, dict[int, int]]:
    """Find a place in the constant area for each Requantize's table; return the area and step -> start."""
    area = bytearray(program.constants)
    known = dict(extra.tables)
    places: dict[int, int] = {}
    added: dict[bytes, int] = {}
    for index, step in enumerate(program.steps):
        if not isinstance(step, Requantize):
            continue
        table = bytes(step.table)
        start = known.get(index)
        if start is None or area[start : start + len(table)] != table:
            if table not in added:
                area += bytes(-len(area) % CONSTANT_ALIGN)
                added[table] = len(area)
                area += table
            start = added[table]
        places[index] = start
    if not extra.tables and program.extra is None:
        area += bytes(-len(area) % CONSTANT_ALIGN)  # the nodes after the constants start at a multiple of 8
    return bytes(area), places


def _encode(step: Step, known: OpType, table: int) -> bytes:
    """Write a node of the CPU; ``table`` is where a Requantize's table lies in the constants."""
    if isinstance(step, Requantize):
        area = (MEMORIES.index(Memory.CONST), 1, table, len(step.table))
        return known.record.pack(**{"in": range_of(step.input), "table": area, "out": range_of(step.output)})
    return known.encode(step)


def _write_node(index: int, step: Step, position: int, gaps: Gaps | None, table: int) -> tuple[int, bytes]:
    """Return the node's opcode and body for file offset ``position``, without the final padding."""
    where = f"step {index} {step.name}".rstrip()
    try:
        if isinstance(step, KpuConv):
            return KPU_CONV2D, v4_kpu.encode(step, position, gaps)
        known = BY_OPCODE[LOOKUP] if isinstance(step, Requantize) else type_of(step)
        for _, o in step.operands():
            if o.strides is not None or o.dtype not in (DType.U8, DType.F32) or o.memory not in MEMORIES:
                raise ValueError(
                    f"an operand of {o.dtype.value} {o.shape} in {o.memory.value} memory, strides {o.strides}"
                )
        return known.opcode, _encode(step, known, table)
    except OpenKPUError:
        raise
    except (ValueError, KeyError, struct.error) as error:
        raise UnsupportedError(
            "E237",
            f"a value of {type(step).__name__} does not fit its field in V4",
            where=where,
            why=str(error),
            fix="This is a mistake of whatever built the program.",
        ) from error
