"""A kmodel as the firmware's loader sees it: what it checks, in its order, and the error code it gives.

The loader trusts files; what it does not notice (a damaged body, say) ends in a crash on the chip. Here such a file is
refused by the reader of ``kmodel``, and ``ModelFile.refusal`` says why.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from openkpu.api import load
from openkpu.errors import FileFormatError, MemoryLimitError, OpenKPUError, UnsupportedError
from openkpu.kmodel.detect import MAGIC, byteswap, detect
from openkpu.kmodel.program import Program
from openkpu.kmodel.v3 import HEADER, LAYER_HEADER, OUTPUT
from openkpu.kmodel.v3_conv import ARGUMENT
from openkpu.kmodel.v3_layers import CONV

Read = Callable[[int, int], bytes]
"""``read(address, size)`` of a flash."""

MAX_MODEL_BYTES: Final = 0x600000
_SMODEL3: Final = 10003
_SMODEL4: Final = 0x534D444C
_EMODEL: Final = 0x454D444C

PARAM, VERSION, FORMAT, DECRYPT, READ_FILE, NO_MEM = 2001, 2002, 2003, 2004, 2005, 2006
RUN_MODEL, UNKNOWN = 2008, 2015
WRONG_VERSION: Final = "E101"
"""The code of ``ModelFile.refusal`` for a file of another version, which the firmware takes for a V4 file."""


class LoadFault(Exception):  # noqa: N818 - an outcome of loading, not an error of ours
    """The loader gives up: its error code, what it printed before, and our explanation."""

    def __init__(self, code: int, why: str, printed: str = "") -> None:
        super().__init__(code, why)
        self.code = code
        self.why = why
        self.printed = printed


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model that the loader accepts."""

    version: int
    size: int
    main_bytes: int
    layers: tuple[tuple[int, int], ...]
    """V3: (type, body bytes) of each layer."""
    conv_outputs: tuple[int | None, ...]
    """V3: where each KPU layer would write in main memory, whether it does or not; None for other layers."""
    program: Program | None
    """What runs; None when it cannot run."""
    run_fault: int = 0
    """The error code of every run, for a model that loads but cannot run."""
    refusal: OpenKPUError | None = None
    """Why ``program`` is None."""
    node_count: int = 0
    output_count: int = 0
    """V3: the model's outputs."""

    @property
    def largest_body(self) -> int:
        """Bytes of the largest layer body."""
        return max((size for _, size in self.layers), default=0)


def _word(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def kind_of(data: bytes) -> int:
    """The loader's type of a model by its first word: 3, -3, 4, -4, 100, or 0 for anything else."""
    if len(data) < 4:
        return 0
    kinds: dict[int, int] = {3: 3, _SMODEL3: -3, MAGIC: 4, _SMODEL4: -4, _EMODEL: 100}
    return kinds.get(_word(data, 0), 0)


def from_file(data: bytes, *, v4: bool) -> ModelFile:
    """Examine a whole file, as ``kpu.load`` of a path does; ``LoadFault`` with the loader's code."""
    if len(data) < 8:
        raise LoadFault(READ_FILE, f"the file has {len(data)} bytes; the loader wants at least 8")
    kind = kind_of(data)
    if kind == 0:
        raise LoadFault(VERSION, _what_instead(data))
    if len(data) > MAX_MODEL_BYTES:
        raise LoadFault(FORMAT, f"the file has {len(data):,} bytes, more than the 6 MiB of main RAM")
    return _examine(kind, data, v4=v4, from_flash=False)


def from_flash(read: Read, address: int, *, v4: bool) -> ModelFile:
    """Examine what lies in flash at ``address``, as ``kpu.load`` of a number does."""
    head = _read(read, address, 40)
    kind = kind_of(head)
    if kind == 0:
        raise LoadFault(VERSION, _what_instead(head) + f"; it was read from flash address {address:#x}")
    size = _flash_size(kind, head, lambda at, n: _read(read, address + at, n))
    if not 1 <= size <= MAX_MODEL_BYTES:
        raise LoadFault(FORMAT, f"the header says {size} bytes", "model size err\n")
    return _examine(kind, _read(read, address, size), v4=v4, from_flash=True)


def from_swapped(read: Read, address: int, *, v4: bool) -> ModelFile:
    """Examine a word-swapped model in flash, as ``kpu.load_flash`` does; its size is what the header says."""
    head = byteswap(_read(read, address, 40))
    kind = kind_of(head)
    if kind == 0:
        why = _what_instead(head)
        if kind_of(byteswap(head)):
            why = (
                "the words of this model are not swapped: load_flash wants every 32-bit word reversed (model_le2be.py)"
            )
        raise LoadFault(VERSION, f"{why}; it was read from flash address {address:#x}")
    if kind == 4:
        raise LoadFault(VERSION, "load_flash streams kmodel V3 only")
    if kind != 3:
        raise LoadFault(DECRYPT, "this is an encrypted model")

    def swapped(at: int, n: int) -> bytes:
        low, high = at & ~3, -(-(at + n) // 4) * 4
        return byteswap(_read(read, address + low, high - low))[at - low : at - low + n]

    size = _flash_size(kind, head, swapped)
    if not 1 <= size <= 16 * 1024 * 1024:
        raise LoadFault(FORMAT, f"the header says {size} bytes", "model size err\n")
    return _examine(kind, swapped(0, size), v4=v4, from_flash=True)


def _read(read: Read, address: int, size: int) -> bytes:
    try:
        return read(address, size)
    except MemoryLimitError as error:
        raise LoadFault(READ_FILE, f"flash ends before {address + size:#x}") from error


def _flash_size(kind: int, head: bytes, read: Read) -> int:
    """The size of a model in flash, from its headers."""
    if kind in (-3, -4, 100):
        return _word(head, 4) + 16
    if kind == 4:
        constants, nodes, inputs, outputs = _word(head, 16), _word(head, 24), _word(head, 28), _word(head, 32)
        if _word(head, 4) == 5 or nodes == 0:
            raise LoadFault(UNKNOWN, "this is a kmodel V5: no MaixPy firmware runs it")
        tables = 40 + (2 * inputs + outputs) * 16 + constants
        if tables > MAX_MODEL_BYTES or nodes > 1 << 16:
            return 0
        rows = read(tables, nodes * 8)
        return tables + len(rows) + sum(_word(rows, i * 8 + 4) for i in range(nodes))
    header = HEADER.unpack(head, 0)
    layers, outputs = header["layers_length"], header["output_count"]
    if layers > 1 << 16 or outputs > 1 << 16:
        raise LoadFault(UNKNOWN, f"the header says {layers} layers and {outputs} outputs: no memory for such tables")
    tables = HEADER.size + outputs * OUTPUT.size
    rows = read(tables, layers * LAYER_HEADER.size)
    sizes = [LAYER_HEADER.unpack(rows, i * LAYER_HEADER.size)["body_size"] for i in range(layers)]
    if 0 in sizes:
        raise LoadFault(FORMAT, f"layer {sizes.index(0)} has a body of 0 bytes")
    size: int = tables + len(rows) + sum(sizes)
    return size


def _examine(kind: int, data: bytes, *, v4: bool, from_flash: bool) -> ModelFile:
    if kind in (-3, -4, 100):
        length = _word(data, 4)
        if kind != 100 and length % 16:
            raise LoadFault(FORMAT, f"an encrypted model of {length} bytes, no multiple of 16")
        raise LoadFault(DECRYPT, "an encrypted model: it runs only on the one board it was encrypted for")
    if kind == 4:
        if not v4:
            raise LoadFault(VERSION, "this is a kmodel V4, and this firmware build loads V3 only")
        return _examine_v4(data, from_flash=from_flash)
    return _examine_v3(data)


def _examine_v4(data: bytes, *, from_flash: bool) -> ModelFile:
    if len(data) < 40:
        raise LoadFault(READ_FILE, "the file ends inside its header")
    version = _word(data, 4)
    program: Program | None = None
    refusal: OpenKPUError | None
    if version == 4:
        program, refusal = _program(data)
    elif from_flash:
        raise LoadFault(UNKNOWN, f"this is a kmodel V{version}: no MaixPy firmware runs it")
    else:
        refusal = FileFormatError(WRONG_VERSION, detect(data).title)
    return ModelFile(4, len(data), _word(data, 20), (), (), program, 0, refusal, _word(data, 24))


def _examine_v3(data: bytes) -> ModelFile:
    if len(data) < HEADER.size:
        raise LoadFault(READ_FILE, "the file ends inside its header")
    header = HEADER.unpack(data, 0)
    if header["arch"] != 0:
        raise LoadFault(VERSION, f"the file is for another chip: arch is {header['arch']}, 0 means K210")
    program, refusal = _program(data)
    layers, outputs = _tables(data, header["output_count"], header["layers_length"])
    fault = RUN_MODEL if refusal is not None and refusal.code in ("E234", "E250") else 0
    return ModelFile(
        3,
        len(data),
        header["main_mem_usage"],
        layers,
        outputs,
        program,
        fault,
        refusal,
        header["layers_length"],
        header["output_count"],
    )


def _program(data: bytes) -> tuple[Program | None, OpenKPUError | None]:
    try:
        return load(data).program, None
    except MemoryLimitError as error:
        if error.code == "E310":
            raise LoadFault(NO_MEM, error.why) from error
        return None, error
    except UnsupportedError as error:
        return None, error
    except OpenKPUError as error:
        return None, error


def _tables(data: bytes, outputs: int, layers: int) -> tuple[tuple[tuple[int, int], ...], tuple[int | None, ...]]:
    """The layer table of a V3 file, as far as the file reaches, and every KPU layer's address in main memory."""
    position = HEADER.size + outputs * OUTPUT.size
    layers = min(layers, max(0, len(data) - position) // LAYER_HEADER.size)
    rows = [LAYER_HEADER.unpack(data, position + i * LAYER_HEADER.size) for i in range(layers)]
    body = position + layers * LAYER_HEADER.size
    places: list[int | None] = []
    for row in rows:
        inside = row["type"] == CONV and body + ARGUMENT.size <= len(data)
        places.append(ARGUMENT.unpack(data, body)["main_mem_out"] if inside else None)
        body += row["body_size"]
    return tuple((r["type"], r["body_size"]) for r in rows), tuple(places)


def _what_instead(data: bytes) -> str:
    if data[:4] == b"\xff\xff\xff\xff":
        return "nothing was ever written there: the flash is erased"
    return f"the first word is {data[:4].hex(' ') or 'missing'}: {detect(data).title}"
