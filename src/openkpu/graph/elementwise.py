"""Element-wise functions of one variable, as small expression trees.

An activation may be one ONNX node or a chain of them (``x * sigmoid(x)``); both become one ``Expr`` that NumPy can
evaluate, that can go out as ONNX nodes, and whose kinks (where it is not smooth) are known, so that the activation
table can put a segment border exactly there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def _erf(x: Floats) -> Floats:
    """Return the error function by Abramowitz and Stegun 7.1.26 (absolute error below 1.5e-7)."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.asarray(np.sign(x) * (1 - poly * np.exp(-x * x)))


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _softplus(x: Floats) -> Floats:
    return np.asarray(np.logaddexp(0.0, x))


UNARY: Final = {
    "Sigmoid": _sigmoid,
    "Tanh": np.tanh,
    "Softplus": _softplus,
    "Exp": np.exp,
    "Log": np.log,
    "Sqrt": np.sqrt,
    "Erf": _erf,
    "Abs": np.abs,
    "Neg": np.negative,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Reciprocal": lambda x: 1 / x,
    "Rsqrt": lambda x: 1 / np.sqrt(x),
    "Square": np.square,
    "Sin": np.sin,
    "Cos": np.cos,
    "Round": np.round,
    "Sign": np.sign,
}
"""Functions of one argument that stay nodes of an expression; the others are written with these."""

BINARY: Final = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Min": np.minimum,
    "Max": np.maximum,
    "Pow": np.power,
}


@dataclass(frozen=True, slots=True)
class Expr:
    """A node of an expression: ``x``, a constant, or an operator applied to sub-expressions."""

    op: str
    args: tuple[Expr, ...] = ()
    value: float = 0.0

    @property
    def size(self) -> int:
        """Number of nodes."""
        return 1 + sum(a.size for a in self.args)

    def substitute(self, x: Expr) -> Expr:
        """Return this expression with ``x`` in place of the variable."""
        if self.op == "x":
            return x
        return Expr(self.op, tuple(a.substitute(x) for a in self.args), self.value) if self.args else self

    def __call__(self, x: Floats) -> Floats:
        """Evaluate in float64."""
        if self.op == "x":
            return x
        if self.op == "const":
            return np.full_like(x, self.value)
        args = [a(x) for a in self.args]
        with np.errstate(all="ignore"):
            if self.op == "where_positive":
                return np.where(args[0] > 0, args[1], args[2])
            table: dict[str, Any] = UNARY if len(args) == 1 else BINARY
            return np.asarray(table[self.op](*args))

    def __str__(self) -> str:
        if self.op == "x":
            return "x"
        if self.op == "const":
            return f"{self.value:.6g}"
        return f"{self.op}({', '.join(map(str, self.args))})"


X: Final = Expr("x")


def const(value: float) -> Expr:
    """Make a constant."""
    return Expr("const", value=float(value))


def clip(x: Expr, low: float, high: float) -> Expr:
    """``min(max(x, low), high)``, leaving out infinite limits."""
    if not math.isinf(low):
        x = Expr("Max", (x, const(low)))
    if not math.isinf(high):
        x = Expr("Min", (x, const(high)))
    return x


def limits(fn: Expr) -> tuple[float, float] | None:
    """Return (low, high) of a function that only limits its variable; None for any other."""
    low, high = -math.inf, math.inf
    while fn.op in ("Min", "Max"):
        inner, bound = fn.args if fn.args[1].op == "const" else fn.args[::-1]
        if bound.op != "const":
            return None
        if fn.op == "Min":
            high = max(low, min(high, bound.value))
        else:
            low = min(high, max(low, bound.value))
        fn = inner
    return (low, high) if fn.op == "x" else None


def from_op(op: str, attrs: dict[str, Any]) -> Expr | None:
    """Return the function of one IR operator, or None if it is not element-wise with one input."""
    if op in UNARY:
        return Expr(op, (X,))
    if op == "Relu":
        return Expr("Max", (X, const(0)))
    if op == "Clip":
        return clip(X, attrs["min"], attrs["max"])
    if op == "LeakyRelu":
        return Expr("where_positive", (X, X, Expr("Mul", (X, const(attrs["alpha"])))))
    if op == "ThresholdedRelu":
        return Expr("where_positive", (Expr("Sub", (X, const(attrs["alpha"]))), X, const(0)))
    if op == "Elu":
        grown = Expr(
            "Mul", (const(attrs["alpha"]), Expr("Sub", (Expr("Exp", (Expr("Min", (X, const(0))),)), const(1))))
        )
        return Expr("where_positive", (X, X, grown))
    if op == "HardSigmoid":
        return clip(Expr("Add", (Expr("Mul", (X, const(attrs["alpha"]))), const(attrs["beta"]))), 0, 1)
    if op == "HardSwish":
        gate = clip(Expr("Add", (Expr("Mul", (X, const(1 / 6))), const(0.5))), 0, 1)
        return Expr("Mul", (X, gate))
    if op == "Silu":
        return Expr("Mul", (X, Expr("Sigmoid", (X,))))
    if op == "Mish":
        return Expr("Mul", (X, Expr("Tanh", (Expr("Softplus", (X,)),))))
    return None


@dataclass(frozen=True, slots=True)
class Piece:
    """A straight piece: from ``start`` (-inf for the first) on, ``y = slope * x + offset``."""

    start: float
    slope: float
    offset: float


def pieces(expr: Expr) -> list[Piece] | None:
    """Return the straight pieces of a continuous piecewise-linear function; None for others and for over 12 pieces."""
    found = _pieces(expr)
    return None if found is None else list(found)


@lru_cache(1024)
def _pieces(expr: Expr) -> tuple[Piece, ...] | None:
    kinks = linear_kinks(expr)
    if kinks is None or len(kinks) > 11:
        return None
    borders = [-math.inf, *kinks, math.inf]
    result: list[Piece] = []
    for low, high in pairwise(borders):
        if high - low < 1e-9:  # one kink met twice
            continue
        a = low if low > -math.inf else (high - 2 if high < math.inf else -1.0)
        b = high if high < math.inf else a + 2
        p = np.array([a + (b - a) * 0.25, a + (b - a) * 0.75])
        q = expr(p)
        slope = float((q[1] - q[0]) / (p[1] - p[0]))
        offset = float(q[0] - slope * p[0])
        if result and abs(result[-1].slope - slope) < 1e-9 and abs(result[-1].offset - offset) < 1e-9:
            continue
        result.append(Piece(low, slope, offset))
    return tuple(result)


MOST_KINKS: Final = 24


def linear_kinks(expr: Expr) -> list[float] | None:
    """Return the sorted border points of a piecewise-linear expression, or None where some operator is curved."""
    if expr.op in ("x", "const"):
        return []
    inner: list[float] = []
    for a in expr.args:
        k = linear_kinks(a)
        if k is None or len(k) > MOST_KINKS:
            return None
        inner += k
    if expr.op == "Neg" or (expr.op in ("Add", "Sub")):
        return sorted(set(inner))
    if expr.op == "Mul" and any(not _depends(a) for a in expr.args):
        return sorted(set(inner))
    if expr.op == "Div" and not _depends(expr.args[1]):
        return sorted(set(inner))
    if expr.op in ("Min", "Max"):
        return sorted({*inner, *_crossings(Expr("Sub", expr.args), inner)})
    if expr.op == "Abs":
        return sorted({*inner, *_crossings(expr.args[0], inner)})
    if expr.op == "where_positive":
        return sorted({*inner, *_crossings(expr.args[0], inner)})
    return None


def _depends(expr: Expr) -> bool:
    return expr.op == "x" or any(_depends(a) for a in expr.args)


def _crossings(expr: Expr, kinks: list[float]) -> list[float]:
    """Return where a piecewise-linear expression with the given kinks is zero."""
    borders = [-math.inf, *sorted(set(kinks)), math.inf]
    found = []
    for low, high in pairwise(borders):
        a = low if low > -math.inf else (high - 1e3 if high < math.inf else -1e3)
        b = high if high < math.inf else a + 2e3
        ya, yb = (float(v) for v in expr(np.array([a + 1e-9 * abs(a), b - 1e-9 * abs(b)])))
        if abs(yb - ya) <= 1e-12 * (abs(ya) + abs(yb)):  # level, but for the rounding of numbers
            continue
        x = a - ya * (b - a) / (yb - ya)
        if low <= x <= high:
            found.append(0.0 if abs(x) < 1e-6 else x)
    return found


def is_homogeneous(expr: Expr) -> bool:
    """Whether ``f(k x) = k f(x)`` for every k > 0 (identity, ReLU, leaky ReLU, abs): channels may be scaled apart."""
    p = pieces(expr)
    return p is not None and all(abs(q.offset) < 1e-9 for q in p) and all(q.start in (-math.inf, 0.0) for q in p)


def is_falling(expr: Expr) -> bool:
    """Whether the function nowhere rises and somewhere falls, as far as a dense look at -32..32 tells."""
    y = expr(np.linspace(-32, 32, 4097))
    steps = np.diff(y[np.isfinite(y)])
    return bool(steps.size and (steps <= 1e-12).all() and (steps < -1e-9).any())
