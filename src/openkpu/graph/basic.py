"""Write a function with the few operators that the V4 and V5 runtimes have for floats.

Those are Add, Sub, Mul, Div, Min and Max of two values, and Abs, Ceil, Exp, Floor, Log, Neg, Rsqrt and Square of one.
The forms are chosen so that large arguments do not give infinities that meet.
"""

from __future__ import annotations

from typing import Final

from openkpu.graph.elementwise import Expr, const

MOST_NODES: Final = 400
"""Longest function that is written out; each node costs tens of nanoseconds a value on the chip."""
MOST_POWER: Final = 16
STEEP: Final = 1e30

UNARY: Final = ("Abs", "Ceil", "Exp", "Floor", "Log", "Neg", "Rsqrt", "Square")
BINARY: Final = ("Add", "Sub", "Mul", "Div", "Min", "Max")
ONE: Final = const(1)


def basic(fn: Expr) -> Expr | None:
    """Return the function in basic operators; None when it would be too long or has no such form."""
    if fn.op in ("x", "const"):
        return fn
    args = []
    for a in fn.args:
        b = basic(a)
        if b is None:
            return None
        args.append(b)
    if sum(a.size for a in args) > MOST_NODES:
        return None
    result = _write(fn.op, args)
    return result if result is not None and result.size <= MOST_NODES else None


def _write(op: str, args: list[Expr]) -> Expr | None:
    if op in UNARY or op in BINARY:
        return Expr(op, tuple(args))
    if op == "Pow":
        return _power(*args)
    if op == "where_positive":
        c, a, b = args
        step = _min(_max(_mul(c, const(STEEP)), const(0)), ONE)  # 0 or 1; where it is neither, a and b are equal
        return _add(b, _mul(step, Expr("Sub", (a, b))))
    x = args[0]
    if op == "Sigmoid":
        return _div(ONE, _add(ONE, _exp(_neg(x))))
    if op == "Tanh":
        return Expr("Sub", (_div(const(2), _add(ONE, _exp(_mul(x, const(-2))))), ONE))
    if op == "Softplus":
        return _add(_max(x, const(0)), Expr("Log", (_add(ONE, _exp(_neg(Expr("Abs", (x,))))),)))
    if op == "Sqrt":
        return _div(ONE, Expr("Rsqrt", (x,)))
    if op == "Reciprocal":
        return _div(ONE, x)
    if op == "Erf":
        return _erf(x)
    return None


def _power(base: Expr, exponent: Expr) -> Expr | None:
    if exponent.op == "const":
        k = exponent.value
        if k == 0.5:
            return _div(ONE, Expr("Rsqrt", (base,)))
        if k == int(k) and 1 <= abs(k) <= MOST_POWER:
            result = base
            for _ in range(int(abs(k)) - 1):
                result = _mul(result, base)
            return result if k > 0 else _div(ONE, result)
    return _exp(_mul(exponent, Expr("Log", (base,))))  # as of a power: not a number where the base is negative


def _erf(x: Expr) -> Expr:
    """Abramowitz and Stegun 7.1.26, as ``graph.elementwise`` evaluates it."""
    size = Expr("Abs", (x,))
    t = _div(ONE, _add(ONE, _mul(const(0.3275911), size)))
    poly = const(1.061405429)
    for c in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        poly = _add(const(c), _mul(t, poly))
    tail = _mul(_mul(t, poly), _exp(_neg(Expr("Square", (x,)))))
    sign = _div(x, _max(size, const(1e-30)))
    return _mul(sign, Expr("Sub", (ONE, tail)))


def _add(a: Expr, b: Expr) -> Expr:
    return Expr("Add", (a, b))


def _mul(a: Expr, b: Expr) -> Expr:
    return Expr("Mul", (a, b))


def _div(a: Expr, b: Expr) -> Expr:
    return Expr("Div", (a, b))


def _min(a: Expr, b: Expr) -> Expr:
    return Expr("Min", (a, b))


def _max(a: Expr, b: Expr) -> Expr:
    return Expr("Max", (a, b))


def _exp(a: Expr) -> Expr:
    return Expr("Exp", (a,))


def _neg(a: Expr) -> Expr:
    return Expr("Neg", (a,))
