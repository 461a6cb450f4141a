"""kmodel V3 (nncase 0.1) <-> Program.

File: a 28-byte header, ``output_count`` pairs (address, size), ``layers_length`` pairs (type, body size), then the
bodies back to back, each ending at a multiple of 8 in the file. The vendor's compiler does not write the last padding,
so a file may be up to 7 bytes shorter than its body sizes say. There is no checksum and no length field.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from openkpu.errors import FileFormatError, MemoryLimitError, UnsupportedError
from openkpu.k210 import AI_LINE_BYTES, AI_LINES, MAIN_RAM_BYTES
from openkpu.kmodel import v3_conv
from openkpu.kmodel.damage import damaged
from openkpu.kmodel.detect import Kind, detect
from openkpu.kmodel.program import (
    Concat,
    DType,
    FullyConnected,
    KpuConv,
    Memory,
    Operand,
    Program,
    Step,
)
from openkpu.kmodel.record import Record
from openkpu.kmodel.v3_body import Body, FileContext
from openkpu.kmodel.v3_layers import BY_NUMBER, CONV, NOT_EXECUTED, layer_name, type_of

HEADER: Final = Record(
    "version", "flags", "arch", "layers_length", "max_start_address", "main_mem_usage", "output_count"
)
OUTPUT: Final = Record("address", "size")
LAYER_HEADER: Final = Record("type", "body_size")

EIGHT_BIT: Final = 1  # header flag: weights of 8 bits, else 16
BODY_ALIGN: Final = 8
MAX_MAIN_BYTES: Final = 64 * 1024 * 1024  # ten times what the chip has; more is a damaged file
MAX_LAYERS: Final = 4096
MAX_OUTPUTS: Final = 256


@dataclass(frozen=True, slots=True)
class V3Extra:
    """What a V3 header has beyond the Program, for exact re-writing."""

    flags: int
    """Bit 0: 8-bit weights. The others are ignored by the runtime."""
    max_start_address: int
    """Lowest AI-RAM line that the compiler used, 32768 for none. Ignored by the runtime."""
    output_sizes: tuple[int, ...]
    """Bytes of each output as written in the file."""
    missing_pad: int = 0
    """Bytes by which the file is shorter than its body sizes say (0..7)."""
    trailing: bytes = b""
    """Bytes after the last body."""


# -- reading -------------------------------------------------------------------------------------------------------


def read(data: bytes) -> Program:
    """Decode a V3 file. Every offset, size and count is checked before anything is allocated or run.

    Raises ``FileFormatError`` (E1xx, with the file offset), ``MemoryLimitError`` (E3xx) or ``UnsupportedError`` (E2xx).
    Weights and tables are read-only views of ``data``.
    """
    kind = detect(data)
    if kind.kind is not Kind.V3:
        raise FileFormatError(
            "E110",
            f"not a kmodel V3 but: {kind.title}",
            where="file offset 0",
            why="the first bytes say so",
            fix=kind.advice,
        )
    data = bytes(data)
    header, outputs, layers, first_body = _read_tables(data)
    context = FileContext(data, bool(header["flags"] & EIGHT_BIT), header["main_mem_usage"])
    steps: list[Step] = []
    position = first_body
    for index, (number, size) in enumerate(layers):
        last = index == len(layers) - 1
        stop = position + size
        if stop > len(data) and not (last and stop - len(data) < BODY_ALIGN):
            raise damaged(
                "E111",
                "the file ends inside a layer body",
                f"layer {index} ({layer_name(number)}), file offset {position}",
                f"the body is {position}..{stop}, the file has {len(data)} bytes",
            )
        body = Body(context, index, layer_name(number), position, position, min(stop, len(data)))
        step = _read_body(number, body)
        context.known.update((o.start, o) for o in step.writes if o.memory is Memory.MAIN)
        steps.append(step)
        position = stop
    extra = V3Extra(
        header["flags"],
        header["max_start_address"],
        tuple(size for _, size in outputs),
        max(0, position - len(data)),
        data[position:],
    )
    return Program(
        version=3,
        inputs=(_first_input(steps[0]),),
        steps=tuple(steps),
        main_bytes=context.main_bytes,
        outputs=tuple(
            _output(i, address, size, steps, context.main_bytes) for i, (address, size) in enumerate(outputs)
        ),
        extra=extra,
    )


def _read_tables(data: bytes) -> tuple[dict[str, int], list[tuple[int, int]], list[tuple[int, int]], int]:
    """Read header, output table and layer table; return them and the offset of the first body."""
    if len(data) < HEADER.size:
        raise damaged(
            "E111",
            "the file ends inside its header",
            "file offset 0",
            f"it has {len(data)} bytes, the header alone has {HEADER.size}",
        )
    header = HEADER.unpack(data, 0)
    if header["arch"] != 0:
        raise UnsupportedError(
            "E251",
            "a kmodel for another chip",
            where="file offset 8",
            why=f"arch is {header['arch']}, 0 means K210",
            fix="Compile the model for the K210.",
        )
    for offset, name, low, high in ((12, "layers_length", 1, MAX_LAYERS), (24, "output_count", 0, MAX_OUTPUTS)):
        if not low <= header[name] <= high:
            raise damaged(
                "E116",
                f"{name} out of range",
                f"file offset {offset}",
                f"it is {header[name]}, sensible are {low}..{high}",
            )
    if header["main_mem_usage"] > MAX_MAIN_BYTES:
        raise MemoryLimitError(
            "E310",
            "the model wants more main memory than the chip could ever have",
            where="file offset 20 (main_mem_usage)",
            why=f"{header['main_mem_usage']} bytes; the K210 has {MAIN_RAM_BYTES}",
            fix="The file is damaged: get it again.",
        )
    tables = HEADER.size + header["output_count"] * OUTPUT.size
    first_body = tables + header["layers_length"] * LAYER_HEADER.size
    if first_body > len(data):
        raise damaged(
            "E111",
            "the file ends inside its tables",
            f"file offset {HEADER.size}",
            f"the tables reach to {first_body}, the file has {len(data)} bytes",
        )
    outputs = [OUTPUT.unpack(data, HEADER.size + i * OUTPUT.size) for i in range(header["output_count"])]
    layers = [LAYER_HEADER.unpack(data, tables + i * LAYER_HEADER.size) for i in range(header["layers_length"])]
    return (
        header,
        [(o["address"], o["size"]) for o in outputs],
        [(x["type"], x["body_size"]) for x in layers],
        first_body,
    )


def _read_body(number: int, body: Body) -> Step:
    if number == CONV:
        return v3_conv.decode(body)
    layer_type = BY_NUMBER.get(number)
    if layer_type is not None:
        return layer_type.decode(body)
    why = (
        "the format defines it, but the device runtime stops at it (an assertion)"
        if number in NOT_EXECUTED
        else f"layer type {number} is not part of kmodel V3"
    )
    raise UnsupportedError(
        "E250",
        f"layer {body.name} does not run on the device",
        where=body.where,
        why=why,
        fix="Compile the model again without this layer."
        if number in NOT_EXECUTED
        else "The file is damaged: get it again.",
    )


def _first_input(first: Step) -> Operand:
    """Where the caller's array goes; the runtime starts only with these two layers (kpu_run_kmodel returns -1)."""
    if isinstance(first, KpuConv | FullyConnected):
        return first.input
    raise UnsupportedError(
        "E234",
        "the model does not start with K210_CONV or FULLY_CONNECTED",
        where="layer 0",
        why=f"it starts with {type_of(first).name}; the device runtime refuses to run that",
        fix="Compile the model so that its first layer runs on the KPU.",
    )


def _output(index: int, address: int, size: int, steps: list[Step], main_bytes: int) -> Operand:
    """Type one row of the output table, which holds bytes only.

    The last step that wrote the byte at ``address`` decides. Its operand is the output if it starts there and has that
    size, or, for bytes, a quarter of it (nncase counts every element as a float). Otherwise the output is a flat vector
    of its element type; a float CONCAT is a flat float vector, its operands being bytes whatever they hold.
    """
    where = f"file offset {HEADER.size + index * OUTPUT.size} (output {index})"
    writer: tuple[Step, Operand] | None = None
    for step in steps:
        for o in step.writes:
            if o.memory is Memory.MAIN and o.start <= address < o.stop:
                writer = step, o
    if writer is not None and writer[1].start == address:
        step, o = writer
        if size == o.size and not (isinstance(step, Concat) and not step.quantized):
            return o
        if o.dtype is DType.U8 and size == o.elements * 4 and not isinstance(step, Concat):
            return o
    if size == 0 or address + size > main_bytes:
        raise damaged(
            "E117",
            "an output lies outside the main buffer",
            where,
            f"bytes {address}..{address + size}, the buffer has {main_bytes}",
        )
    is_float = writer is not None and (
        writer[1].dtype is DType.F32 or (isinstance(writer[0], Concat) and not writer[0].quantized)
    )
    if is_float and size % 4 == 0:
        return Operand(Memory.MAIN, address, DType.F32, (size // 4,))
    return Operand(Memory.MAIN, address, DType.U8, (size,))


# -- writing -------------------------------------------------------------------------------------------------------


def write(program: Program) -> bytes:
    """Encode a program as a V3 file; the same program always gives the same bytes.

    A program that ``read`` made gives the file's bytes again where these were laid out as the vendor's compiler does.
    With ``extra`` None the header's leftovers are computed: 8-bit flag from the weights, the lowest AI-RAM line used.
    ``UnsupportedError`` (E2xx) names a step or value that V3 cannot hold.
    """
    extra = program.extra if isinstance(program.extra, V3Extra) else None
    convs = [s for s in program.steps if isinstance(s, KpuConv)]
    widths = {s.layer.weights.dtype.itemsize for s in convs}
    if len(widths) > 1:
        raise UnsupportedError(
            "E235",
            "8-bit and 16-bit weights in one V3 file",
            where="the KPU layers",
            why="the weight size is one flag in V3's header",
            fix="Use one weight size for all layers.",
        )
    flags = extra.flags & ~EIGHT_BIT if extra else 0
    if widths == {1} or (not widths and (extra is None or extra.flags & EIGHT_BIT)):
        flags |= EIGHT_BIT
    sizes = [o.size for o in program.outputs]
    if extra and len(extra.output_sizes) == len(sizes):
        sizes = list(extra.output_sizes)
    header = HEADER.pack(
        version=3,
        flags=flags,
        arch=0,
        layers_length=len(program.steps),
        max_start_address=extra.max_start_address if extra else _lowest_line(program),
        main_mem_usage=program.main_bytes,
        output_count=len(program.outputs),
    )
    outputs = b"".join(OUTPUT.pack(address=o.start, size=n) for o, n in zip(program.outputs, sizes, strict=True))
    first_body = position = len(header) + len(outputs) + len(program.steps) * LAYER_HEADER.size
    rows: list[bytes] = []
    bodies = bytearray()
    for index, step in enumerate(program.steps):
        number, body = _write_body(index, step, position)
        body += bytes(-(position + len(body)) % BODY_ALIGN)
        rows.append(LAYER_HEADER.pack(type=number, body_size=len(body)))
        bodies += body
        position = first_body + len(bodies)
    if extra:
        if extra.missing_pad:
            del bodies[-extra.missing_pad :]
        bodies += extra.trailing
    return header + outputs + b"".join(rows) + bytes(bodies)


def _write_body(index: int, step: Step, position: int) -> tuple[int, bytes]:
    """Return the layer's number and body for file offset ``position``, without the final padding."""
    try:
        if isinstance(step, KpuConv):
            return CONV, v3_conv.encode(step, position)
        layer_type = type_of(step)
        return layer_type.number, layer_type.encode(step)
    except (ValueError, struct.error) as error:
        raise UnsupportedError(
            "E237",
            f"a value of {type(step).__name__} does not fit its field in V3",
            where=f"step {index} {step.name}".rstrip(),
            why=str(error),
            fix="This is a mistake of whatever built the program.",
        ) from error


def _lowest_line(program: Program) -> int:
    lines = [o.start // AI_LINE_BYTES for s in program.steps for _, o in s.operands() if o.memory is Memory.AI]
    return min(lines, default=AI_LINES)
