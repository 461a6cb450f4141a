"""The firmware's own approximations of functions, in float32. Source: OpenMV's ``fmath.c`` in MaixPy-v1.

The firmware is built with ``-ffast-math``: a product to which something is added is one fused operation on the chip,
and a division by a constant is a multiplication with its reciprocal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_f = np.float32
_PI, _HALF_PI, _QUARTER_PI = _f(np.pi), _f(np.pi / 2), _f(np.pi / 4)


def fma(a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c of float32 with one rounding."""
    return (np.float64(a) * np.float64(b) + np.float64(c)).astype(_f)


def radians(degrees: float) -> Any:
    """Convert degrees."""
    return _f(degrees) * (_PI * (_f(1) / _f(180)))


def sine(angle: Any) -> Any:
    """Sine of a float32, rounded once."""
    return _f(np.sin(np.float64(angle)))


def cosine(angle: Any) -> Any:
    """Cosine of a float32, rounded once."""
    return _f(np.cos(np.float64(angle)))


def tangent(angle: Any) -> Any:
    """Tangent of a float32, rounded once."""
    return _f(np.tan(np.float64(angle)))


def fast_atan(value: Any) -> Any:
    """Arc tangent of float32 (scalar or array)."""
    value = np.asarray(value, _f)
    x = np.abs(value)
    steep, middle = x > _f(2.414213562373095), x > _f(0.4142135623730950)
    with np.errstate(divide="ignore"):
        reduced = np.where(steep, -(_f(1) / x), np.where(middle, (x - _f(1)) / (x + _f(1)), x))
    base = np.where(steep, _HALF_PI, np.where(middle, _QUARTER_PI, _f(0)))
    z = reduced * reduced
    series = fma(_f(8.05374449538e-2), z, -_f(1.38776856032e-1))
    series = fma(series, z, _f(1.99777106478e-1))
    series = fma(series, z, -_f(3.33329491539e-1))
    angle = fma(fma(series, z, _f(1)), reduced, base)
    return np.where(value < 0, -angle, angle)[()]


def fast_atan2(y: float, x: float) -> Any:
    """Angle of (x, y), float32 0..2 pi: unlike ``atan2`` never negative, except on the negative y axis."""
    if x == 0:
        return _f(0) if y == 0 else (_PI if y > 0 else -_PI)
    ratio = _f(y) / _f(x)
    if x > 0:
        return fast_atan(ratio) if y >= 0 else _f(2) * _PI - fast_atan(-ratio)
    return _PI - fast_atan(-ratio) if y >= 0 else _PI + fast_atan(ratio)


def fast_pow(base: Any, exponent: Any) -> Any:
    """Power by scaling the bits of a float32 (array)."""
    bits = np.asarray(base, _f).view(np.int32)
    scaled = fma(exponent, (bits.astype(np.int64) - 1064866805).astype(_f), _f(1064866805))
    return np.clip(np.trunc(np.float64(scaled)), -(1 << 31), (1 << 31) - 1).astype(np.int32).view(_f)


def fast_cbrt(value: Any) -> Any:
    """Cube root of a positive float32 by integer arithmetic on its bits."""
    i = int(np.asarray(value, _f).view(np.int32))
    i = i // 4 + i // 16
    i += i // 16
    i += i // 256
    return np.array(0x2A511CD0 + i, np.int32).view(_f)[()]
