"""What a kmodel V5 consists of: modules, functions, buffers, sections, pools. ``v5_container`` has their bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from openkpu.kmodel.program import DType

STACKVM: Final = b"stackvm"
K210: Final = b"k210"


class Location(Enum):
    """Memories that a range can name."""

    INPUT = 0
    OUTPUT = 1
    RDATA = 2
    DATA = 3
    SHARED = 4
    KPU = 64


DTYPES: Final = {
    0: DType.I8,
    1: DType.I16,
    2: DType.I32,
    3: DType.I64,
    4: DType.U8,
    5: DType.U16,
    6: DType.U32,
    7: DType.U64,
    8: DType.F16,
    9: DType.F32,
    10: DType.F64,
}
"""Numbers of element types; 11, bfloat16, is not among them: NumPy has no such type."""
DTYPE_NUMBERS: Final = {d: n for n, d in DTYPES.items()}


class Layout(Enum):
    """The two shapes of the container."""

    FUNCTIONS = "functions"
    """Since 18 August 2021, all released versions: modules have functions."""
    MODULES = "modules"
    """Before that: a module is a function."""


@dataclass(frozen=True, slots=True)
class Range:
    """A typed piece of a memory, 12 bytes in the file."""

    location: int
    dtype: int
    start: int
    size: int
    shared: int = 0


@dataclass(frozen=True, slots=True)
class Buffer:
    """An input or output of a function."""

    range: Range
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """A function: its buffers, and the piece of its module's .text that is its code."""

    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    input_bytes: int = 0
    output_bytes: int = 0
    entry: int = 0
    text_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Section:
    """A section. ``merged_at`` is set where the body is a piece of .rdata that starts there."""

    name: bytes
    body: bytes = field(repr=False)
    merged_at: int | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """A memory that a module needs: its location (or, for a shared pool, its module) and size in bytes."""

    location: int
    size: int


@dataclass(frozen=True, slots=True)
class Module:
    """A module."""

    type: bytes
    functions: tuple[Function, ...]
    sections: tuple[Section, ...]
    pools: tuple[Pool, ...]
    shared_pools: tuple[Pool, ...] = ()
    version: int = 1

    def pool(self, location: Location) -> int:
        """Bytes of the pool at ``location``; 0 without one."""
        return next((p.size for p in self.pools if p.location == location.value), 0)

    def section(self, name: bytes) -> bytes:
        """Body of a section; empty without one."""
        return next((s.body for s in self.sections if s.name == name), b"")

    def code(self, function: Function) -> bytes:
        """The function's piece of .text."""
        return self.section(b".text")[function.entry : function.entry + function.text_bytes]


@dataclass(frozen=True, slots=True)
class Container:
    """A whole file."""

    modules: tuple[Module, ...]
    entry_module: int = 0
    entry_function: int = 0
    alignment: int = 8
    flags: int = 0
    layout: Layout = Layout.FUNCTIONS
    trailing: bytes = field(default=b"", repr=False)
