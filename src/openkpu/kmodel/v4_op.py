"""What every V4 operator has: opcode, name, binary structure and the step it decodes to.

Each structure is declared once (``Record``); ``read`` and ``fields`` functions only say how its fields map to operands
and parameters. A range is (memory type, element type, start, size in bytes), a shape (n, c, h, w). Source: nncase
v0.2.0-beta4, ``neutral_ops_body.h``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from openkpu.kmodel import operators as t
from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType, QuantizedTerm
from openkpu.kmodel.record import Record
from openkpu.kmodel.v4_body import Body, range_of

U8, F32 = DType.U8, DType.F32
Fields = dict[str, Any]
IN_OUT: Final = ("in:u32*4", "out:u32*4")


@dataclass(frozen=True, slots=True)
class OpType:
    """One V4 operator, both directions."""

    opcode: int
    name: str
    step: type[p.Step]
    record: Record
    read: Callable[[Body, Fields], p.Step]
    fields: Callable[[Any], Fields]
    tail: Callable[[Any], bytes] = lambda step: b""
    """What follows the structure in the body."""

    def decode(self, body: Body) -> p.Step:
        """Read the body; errors name node and offset."""
        return self.read(body, body.record(self.record))

    def encode(self, step: p.Step) -> bytes:
        """Write the body, without the final padding."""
        return self.record.pack(**self.fields(step)) + self.tail(step)


def in_out(s: Any) -> Fields:
    """Return the ranges of a step with one input."""
    return {"in": range_of(s.input), "out": range_of(s.output)}


def number(body: Body, kind: Any, value: int, what: str) -> Any:
    """Return a member of an enumeration by its number; another number is one at which the runtime stops."""
    values = {m.value: m for m in kind}
    if value not in values or values[value] is t.BinaryOp.POW:
        raise body.stops(f"an unknown {what}", f"its number is {value}")
    return values[value]


def table_bytes(*arrays: Any) -> bytes:
    """Concatenate arrays as they lie in a file (little-endian float32, int32 or uint8)."""
    return b"".join(np.ascontiguousarray(a, a.dtype.newbyteorder("<")).tobytes() for a in arrays)


def term(body: Body, f: Fields, prefix: str) -> QuantizedTerm:
    """Return a fixed-point term from its three fields."""
    value = QuantizedTerm(f[f"{prefix}_offset"], f[f"{prefix}_mul"], f[f"{prefix}_shift"])
    body.within(0, 63, **{f"{prefix}_shift": value.shift})
    return value


def fields_term(term: QuantizedTerm, prefix: str) -> Fields:
    """Return the fields of a fixed-point term."""
    return {f"{prefix}_offset": term.offset, f"{prefix}_mul": term.mul, f"{prefix}_shift": term.shift}
