"""Sums, products, minima and maxima of two uint8 tensors in whole numbers, as the V4 runtime computes them.

``y = H(op(A, B) * o.mul, o.shift) + o.offset`` with ``A = H((a + a.offset) * a.mul, a.shift)``, B alike, and
``H(v, s) = (v + 2**(s-1)) >> s`` (v itself for s = 0). A and B are counts of one fine step for sums, minima and maxima,
so that scales may differ; a product is exact up to its last rounding. A quotient is left to floats: a divisor that
rounds to 0 would have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log2
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.graph.elementwise import Expr, limits
from openkpu.quantize.params import QParams

U8 = NDArray[np.uint8]
FINE: Final = 1 << 20
"""Steps of the common scale in one step of the coarser operand: 28 bits with the 8 of the values."""
_BITS: Final = 30


@dataclass(frozen=True, slots=True)
class Term:
    """``(x + offset) * mul``, and a right shift by ``shift``."""

    offset: int
    mul: int
    shift: int


@dataclass(frozen=True, slots=True)
class BinaryNumbers:
    """The numbers of one operation, and the limits that the result's 0..255 do not give by themselves."""

    a: Term
    b: Term
    o: Term
    low: int
    high: int

    @property
    def table(self) -> bytes | None:
        """The table that applies the limits; None where they cut nothing."""
        if (self.low, self.high) == (0, 255):
            return None
        return bytes(np.clip(np.arange(256), self.low, self.high).astype(np.uint8))


def binary_numbers(kind: str, a: QParams, b: QParams, out: QParams, fn: Expr | None) -> BinaryNumbers:
    """Return the numbers for uniform operands and result; ``fn`` are limits or None."""
    sa, sb, so = (float(p.scale[0]) for p in (a, b, out))
    if kind == "Mul":
        terms, step = (Term(-a.zero_point, 1, 0), Term(-b.zero_point, 1, 0)), sa * sb
    else:
        step = max(sa, sb) / FINE
        terms = Term(-a.zero_point, round(sa / step), 0), Term(-b.zero_point, round(sb / step), 0)
    mul, shift = _ratio(step / so)
    low, high = (limits(fn) if fn is not None else None) or (-np.inf, np.inf)
    ends = [np.clip(np.rint(v / so + out.zero_point), 0, 255) for v in (low, high)]
    return BinaryNumbers(*terms, Term(out.zero_point, mul, shift), int(ends[0]), int(ends[1]))


def _ratio(r: float) -> tuple[int, int]:
    """Return (mul, shift) with ``mul / 2**shift`` nearest to ``r``."""
    shift = min(62, max(0, _BITS - 1 - floor(log2(r))))
    return min(round(r * 2.0**shift), (1 << 31) - 1), shift


def run_binary(kind: str, a: U8, b: U8, n: BinaryNumbers) -> U8:
    """Compute two uint8 arrays that broadcast."""
    x, y = (_shifted(np.arange(256) + t.offset, t)[v] for t, v in ((n.a, a), (n.b, b)))
    functions: dict[str, Any] = {
        "Add": np.add,
        "Sub": np.subtract,
        "Mul": np.multiply,
        "Min": np.minimum,
        "Max": np.maximum,
    }
    counts = _shifted(functions[kind](x, y), n.o) + n.o.offset
    return np.asarray(np.clip(counts, n.low, n.high), np.uint8)


def _shifted(v: NDArray[np.int64], t: Term) -> NDArray[np.int64]:
    v = v.astype(np.int64) * t.mul
    return np.asarray((v + (1 << (t.shift - 1))) >> t.shift if t.shift else v)
