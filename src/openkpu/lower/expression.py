"""Functions of one variable as ONNX nodes."""

from __future__ import annotations

import numpy as np

from openkpu.float.export import Emitter
from openkpu.graph.elementwise import Expr


def expression(emit: Emitter, expr: Expr, x: str, out: str) -> None:
    """Emit ``out = expr(x)``."""
    names: dict[Expr, str] = {}

    def visit(e: Expr, result: str | None = None) -> str:
        if e.op == "x":
            if result is None:
                return x
            emit.node("Identity", [x], [result])
            return result
        if e.op == "const":
            value: str = emit.const(f"{out}.const", np.float32(e.value))
            if result is None:
                return value
            emit.node("Identity", [value], [result])
            return result
        if result is None and e in names:
            return names[e]
        args = [visit(a) for a in e.args]
        name: str = result or emit.temp(out)
        if e.op == "Square":
            emit.node("Mul", [args[0], args[0]], [name])
        elif e.op == "Rsqrt":
            root = emit.temp(out)
            emit.node("Sqrt", [args[0]], [root])
            emit.node("Reciprocal", [root], [name])
        elif e.op == "where_positive":
            positive = emit.temp(out)
            emit.node("Greater", [args[0], emit.const(f"{out}.zero", np.float32(0))], [positive])
            emit.node("Where", [positive, args[1], args[2]], [name])
        else:
            emit.node(e.op, args, [name])
        names[e] = name
        return name

    visit(expr, out)
