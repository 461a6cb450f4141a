"""The bytecode of V4's ``nnil_unary_method``: a stack machine for functions of one float.

The code has no jumps, so how deep the stack is at each instruction is known before it runs. Source: nncase
v0.2.0-beta4, ``runtime/nnil.h``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

STACK: Final = 64
LITERAL: Final = 0x06
RET: Final = 0xA0

# opcode -> (name, values taken from the stack, values put there)
INSTRUCTIONS: Final[dict[int, tuple[str, int, int]]] = {
    0x00: ("nop", 0, 0),
    0x01: ("dup", 1, 2),
    0x02: ("pop", 1, 0),
    0x03: ("x", 0, 1),
    0x04: ("zero", 0, 1),
    0x05: ("one", 0, 1),
    LITERAL: ("literal", 0, 1),
    0x20: ("abs", 1, 1),
    0x21: ("ceil", 1, 1),
    0x22: ("cos", 1, 1),
    0x23: ("exp", 1, 1),
    0x24: ("floor", 1, 1),
    0x25: ("log", 1, 1),
    0x26: ("neg", 1, 1),
    0x27: ("rsqrt", 1, 1),
    0x28: ("sin", 1, 1),
    0x29: ("square", 1, 1),
    0x40: ("add", 2, 1),
    0x41: ("sub", 2, 1),
    0x42: ("mul", 2, 1),
    0x43: ("div", 2, 1),
    0x44: ("min", 2, 1),
    0x45: ("max", 2, 1),
    0x80: ("clamp", 3, 1),
    RET: ("ret", 1, 0),
}


def instructions(code: bytes) -> Iterator[tuple[str, float]]:
    """Yield (name, literal) up to and with ``ret``; the literal is 0 for all but ``literal``.

    ``ValueError`` says what is wrong: an unknown instruction, a stack that under- or overflows, no ``ret``.
    """
    at = depth = 0
    while at < len(code):
        opcode = code[at]
        if opcode not in INSTRUCTIONS:
            raise ValueError(f"byte {at} of the bytecode is 0x{opcode:02x}, which is no instruction")
        name, takes, gives = INSTRUCTIONS[opcode]
        at += 1
        literal = 0.0
        if opcode == LITERAL:
            if at + 4 > len(code):
                raise ValueError("the bytecode ends inside a number")
            literal = float(struct.unpack_from("<f", code, at)[0])
            at += 4
        if depth < takes:
            raise ValueError(f"{name} (before byte {at}) takes {takes} values, the stack has {depth}")
        depth += gives - takes
        if depth > STACK:
            raise ValueError(f"{name} (before byte {at}) pushes beyond the {STACK} places of the stack")
        yield name, literal
        if opcode == RET:
            return
    raise ValueError("the bytecode has no ret, so it gives no result")


def length(code: bytes) -> int:
    """Bytes up to and with ``ret``; ``ValueError`` as ``instructions``."""
    return sum(5 if name == "literal" else 1 for name, _ in instructions(code))
