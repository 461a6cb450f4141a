"""The container of a kmodel V5: header, modules, memory pools, functions, sections.

All numbers are little-endian. A file has one or more modules, each for one machine ("stackvm" for the CPU, "k210" for
the KPU), each with memory pools, functions and sections (".rdata", ".text"). Files of 2021 before 18 August have
shorter headers: each module is one function there (``Layout.MODULES``).
Sources: nncase v1.9.0 and commit 5ea5526, ``runtime/model.h`` and ``codegen/module_builder.cpp``.
"""

from __future__ import annotations

import struct
from typing import Final

from openkpu.kmodel.damage import damaged
from openkpu.kmodel.detect import MAGIC
from openkpu.kmodel.v5_structures import (
    K210,
    Buffer,
    Container,
    Function,
    Layout,
    Module,
    Pool,
    Range,
    Section,
)

MAX_MODULES: Final = 16
MAX_FUNCTIONS: Final = 8192
MAX_BUFFERS: Final = 256
MAX_SECTIONS: Final = 16
MAX_POOLS: Final = 64
MAX_RANK: Final = 16

MERGED: Final = 1  # section flag: the body is part of .rdata
_ALIGN: Final = {K210: 256}  # of section bodies in the file; 8 for the other machines

_HEADER: Final = struct.Struct("<8I")
_OLD_HEADER: Final = struct.Struct("<6I")
_MODULE: Final = struct.Struct("<16s8I")
_OLD_MODULE: Final = struct.Struct("<16s6I")
_POOL: Final = struct.Struct("<B3xI")
_SHARED_POOL: Final = struct.Struct("<2I")
_FUNCTION: Final = struct.Struct("<8I")
_SECTION: Final = struct.Struct("<16s4I")
_RANGE: Final = struct.Struct("<BBHII")


def unpack_range(data: bytes, offset: int) -> Range:
    """Read a range; the caller has checked that 12 bytes are there."""
    location, dtype, shared, start, size = _RANGE.unpack_from(data, offset)
    return Range(location, dtype, start, size, shared)


def pack_range(r: Range) -> bytes:
    """Write a range."""
    return _RANGE.pack(r.location, r.dtype, r.shared, r.start, r.size)


# -- reading -------------------------------------------------------------------------------------------------------


class _Reader:
    """A cursor over a part of the file; every read is checked against its end."""

    def __init__(self, data: bytes, position: int, stop: int, what: str) -> None:
        self.data, self.position, self.stop, self.what = data, position, stop, what

    def take(self, size: int, what: str) -> int:
        """Move over ``size`` bytes and return where they start."""
        start = self.position
        if size < 0 or start + size > self.stop:
            raise damaged(
                "E141",
                f"the file ends inside {what}",
                f"{self.what}, file offset {start}",
                f"{size} bytes are needed, {max(0, self.stop - start)} are there",
            )
        self.position = start + size
        return start

    def unpack(self, record: struct.Struct, what: str) -> tuple[int, ...]:
        return record.unpack_from(self.data, self.take(record.size, what))

    def buffers(self, count: int, what: str) -> tuple[Buffer, ...]:
        at = self.take(count * _RANGE.size, f"the {what}s")
        ranges = [unpack_range(self.data, at + i * _RANGE.size) for i in range(count)]
        return tuple(Buffer(r, self.shape(f"{what} {i}")) for i, r in enumerate(ranges))

    def shape(self, what: str) -> tuple[int, ...]:
        (rank,) = struct.unpack_from("<I", self.data, self.take(4, f"the shape of {what}"))
        self.count("rank", rank, MAX_RANK)
        return struct.unpack_from(f"<{rank}I", self.data, self.take(4 * rank, f"the shape of {what}"))

    def count(self, name: str, value: int, most: int, least: int = 0) -> None:
        if not least <= value <= most:
            raise damaged(
                "E142",
                f"{name} out of range",
                f"{self.what}, file offset {self.position}",
                f"it is {value}, sensible are {least}..{most}",
            )

    def sections(self, count: int) -> tuple[Section, ...]:
        found: list[tuple[bytes, int, int, int]] = []
        bodies: dict[bytes, bytes] = {}
        for _ in range(count):
            raw, flags, start, size, _ = _SECTION.unpack_from(self.data, self.take(_SECTION.size, "a section header"))
            name = raw.rstrip(b"\0")
            found.append((name, flags, start, size))
            if not flags & MERGED:
                self.take(start, "the padding of a section")
                at = self.take(size, f"section {name.decode('ascii', 'replace')}")
                bodies.setdefault(name, self.data[at : at + size])
        rdata = bodies.get(b".rdata", b"")
        sections = []
        for name, flags, start, size in found:
            if flags & MERGED:
                if start + size > len(rdata):
                    raise damaged(
                        "E142",
                        "a section lies outside .rdata",
                        self.what,
                        f"bytes {start}..{start + size} of {len(rdata)}",
                    )
                sections.append(Section(name, rdata[start : start + size], start))
            else:
                sections.append(Section(name, bodies[name]))
        return tuple(sections)


def read(data: bytes) -> Container:
    """Read the container; every count, size and offset is checked against the file.

    ``FileFormatError`` E141 (cut off), E142 (a number that makes no sense).
    """
    r = _Reader(data, 0, len(data), "header")
    if len(data) < _HEADER.size:
        r.take(_HEADER.size, "its header")
    if struct.unpack_from("<I", data, 8)[0] == _HEADER.size:
        _, _, _, flags, alignment, modules, entry_module, entry_function = r.unpack(_HEADER, "its header")
        layout = Layout.FUNCTIONS
    else:
        _, _, flags, alignment, modules, entry_module = r.unpack(_OLD_HEADER, "its header")
        entry_function, layout = 0, Layout.MODULES
        if alignment not in (8, 256):
            raise damaged(
                "E142",
                "neither of the known headers of V5",
                "header, file offset 8",
                f"header size {flags} is not {_HEADER.size}, and alignment {alignment} not 8 or 256",
            )
    r.count("modules", modules, MAX_MODULES, 1)
    r.count("entry module", entry_module, modules - 1)
    read_module = _module if layout is Layout.FUNCTIONS else _old_module
    found = tuple(read_module(r, i) for i in range(modules))
    r.count("entry function", entry_function, len(found[entry_module].functions) - 1)
    return Container(found, entry_module, entry_function, alignment, flags, layout, data[r.position :])


def _module(outer: _Reader, index: int) -> Module:
    start = outer.position
    kind, version, header, size, pools, shared, sections, functions, _ = _MODULE.unpack_from(
        outer.data, outer.take(_MODULE.size, "a module header")
    )
    outer.position = start
    outer.count("header size", header, _MODULE.size, _MODULE.size)
    outer.take(size, f"module {index}")
    r = _Reader(outer.data, start + _MODULE.size, start + size, f"module {index}")
    for name, value, most in (
        ("memory pools", pools, MAX_POOLS),
        ("shared pools", shared, MAX_POOLS),
        ("sections", sections, MAX_SECTIONS),
        ("functions", functions, MAX_FUNCTIONS),
    ):
        r.count(name, value, most)
    own = tuple(Pool(*r.unpack(_POOL, "a memory pool")) for _ in range(pools))
    others = tuple(Pool(*r.unpack(_SHARED_POOL, "a shared pool")) for _ in range(shared))
    found = tuple(_function(r, i) for i in range(functions))
    module = Module(kind.rstrip(b"\0"), found, r.sections(sections), own, others, version)
    text = len(module.section(b".text"))
    for i, f in enumerate(found):
        if f.entry + f.text_bytes > text:
            raise damaged(
                "E142",
                "a function lies outside .text",
                f"module {index}, function {i}",
                f"bytes {f.entry}..{f.entry + f.text_bytes} of {text}",
            )
    return module


def _function(outer: _Reader, index: int) -> Function:
    start = outer.position
    header, size, in_bytes, out_bytes, inputs, outputs, entry, text = outer.unpack(_FUNCTION, "a function header")
    outer.position = start
    outer.count("header size", header, _FUNCTION.size, _FUNCTION.size)
    outer.take(size, f"function {index}")
    r = _Reader(outer.data, start + _FUNCTION.size, start + size, f"{outer.what}, function {index}")
    r.count("inputs", inputs, MAX_BUFFERS)
    r.count("outputs", outputs, MAX_BUFFERS)
    return Function(r.buffers(inputs, "input"), r.buffers(outputs, "output"), in_bytes, out_bytes, entry, text)


def _old_module(outer: _Reader, index: int) -> Module:
    kind, size, pools, inputs, outputs, sections, _ = _OLD_MODULE.unpack_from(
        outer.data, outer.take(_OLD_MODULE.size, "a module header")
    )
    start = outer.take(size, f"module {index}")
    r = _Reader(outer.data, start, start + size, f"module {index}")
    r.count("memory pools", pools, MAX_POOLS)
    r.count("sections", sections, MAX_SECTIONS)
    r.count("inputs", inputs, MAX_BUFFERS)
    r.count("outputs", outputs, MAX_BUFFERS)
    own = tuple(Pool(*r.unpack(_POOL, "a memory pool")) for _ in range(pools))
    ins, outs = r.buffers(inputs, "input"), r.buffers(outputs, "output")
    found = r.sections(sections)
    text = next((len(s.body) for s in found if s.name == b".text"), 0)
    in_bytes, out_bytes = (max((b.range.start + b.range.size for b in bs), default=0) for bs in (ins, outs))
    return Module(kind.rstrip(b"\0"), (Function(ins, outs, in_bytes, out_bytes, 0, text),), found, own)


# -- writing -------------------------------------------------------------------------------------------------------


class _Writer:
    def __init__(self) -> None:
        self.out = bytearray()

    def align(self, to: int) -> int:
        """Pad with zeros; return how many."""
        pad = -len(self.out) % to
        self.out += bytes(pad)
        return pad

    def buffers(self, buffers: tuple[Buffer, ...]) -> None:
        for b in buffers:
            self.out += pack_range(b.range)
        for b in buffers:
            self.out += struct.pack(f"<{len(b.shape) + 1}I", len(b.shape), *b.shape)

    def sections(self, module: Module) -> None:
        for s in module.sections:
            at = len(self.out)
            self.out += bytes(_SECTION.size)
            if s.merged_at is None:
                start = self.align(_ALIGN.get(module.type, 8))
                self.out += s.body
            else:
                start = s.merged_at
            _SECTION.pack_into(self.out, at, s.name, 0 if s.merged_at is None else MERGED, start, len(s.body), 0)


def write(c: Container) -> bytes:
    """Write the container as the vendor's compiler lays it out. ``struct.error`` when a number does not fit."""
    w = _Writer()
    common = (c.flags, c.alignment, len(c.modules), c.entry_module)
    if c.layout is Layout.MODULES:
        w.out += _OLD_HEADER.pack(MAGIC, 5, *common)
    else:
        w.out += _HEADER.pack(MAGIC, 5, _HEADER.size, *common, c.entry_function)
    for m in c.modules:
        (_write_module if c.layout is Layout.FUNCTIONS else _write_old_module)(w, m)
    return bytes(w.out) + c.trailing


def _write_module(w: _Writer, m: Module) -> None:
    at = len(w.out)
    w.out += bytes(_MODULE.size)
    for p in m.pools:
        w.out += _POOL.pack(p.location, p.size)
    for p in m.shared_pools:
        w.out += _SHARED_POOL.pack(p.location, p.size)
    for f in m.functions:
        start = len(w.out)
        w.out += bytes(_FUNCTION.size)
        w.buffers(f.inputs)
        w.buffers(f.outputs)
        w.align(8)
        sizes = (f.input_bytes, f.output_bytes, len(f.inputs), len(f.outputs), f.entry, f.text_bytes)
        _FUNCTION.pack_into(w.out, start, _FUNCTION.size, len(w.out) - start, *sizes)
    w.sections(m)
    w.align(8)
    counts = (len(m.pools), len(m.shared_pools), len(m.sections), len(m.functions), 0)
    _MODULE.pack_into(w.out, at, m.type, m.version, _MODULE.size, len(w.out) - at, *counts)


def _write_old_module(w: _Writer, m: Module) -> None:
    at = len(w.out)
    w.out += bytes(_OLD_MODULE.size)
    for p in m.pools:
        w.out += _POOL.pack(p.location, p.size)
    (f,) = m.functions
    w.buffers(f.inputs)
    w.buffers(f.outputs)
    w.sections(m)
    w.align(8)
    counts = (len(m.pools), len(f.inputs), len(f.outputs), len(m.sections), 0)
    _OLD_MODULE.pack_into(w.out, at, m.type, len(w.out) - at - _OLD_MODULE.size, *counts)
