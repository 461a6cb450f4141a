"""Functions of one float as bytecode for V4's stack machine."""

from __future__ import annotations

import struct
from typing import Final

from openkpu.graph.basic import basic
from openkpu.graph.elementwise import Expr
from openkpu.kmodel.nnil import INSTRUCTIONS, LITERAL, RET, STACK

_CODES: Final = {name: code for code, (name, _, _) in INSTRUCTIONS.items()}


def bytecode(fn: Expr) -> bytes:
    """Return the code that pushes ``fn(x)`` and returns it. ``ValueError`` when the runtime has no form of it."""
    form = basic(fn)
    if form is None or depth(form) > STACK:
        raise ValueError(f"the function {fn} has no form in the V4 runtime")
    code = bytearray()
    _emit(form, code)
    return bytes(code) + bytes([RET])


def depth(fn: Expr) -> int:
    """Most places of the stack that a function needs; operands are pushed from left to right."""
    return max((i + depth(a) for i, a in enumerate(fn.args)), default=1)


def _emit(fn: Expr, code: bytearray) -> None:
    if fn.op == "x":
        code.append(_CODES["x"])
    elif fn.op == "const":
        code += bytes([LITERAL]) + struct.pack("<f", fn.value)
    else:
        for a in fn.args:
            _emit(a, code)
        code.append(_CODES[fn.op.lower()])
