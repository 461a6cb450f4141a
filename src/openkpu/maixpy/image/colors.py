"""The module's colour functions. Source: OpenMV's ``imlib.c`` in MaixPy-v1; all in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from openkpu.maixpy.image.arguments import get_int, get_items, positional
from openkpu.maixpy.image.fast_math import fast_cbrt
from openkpu.maixpy.image.pixels import linear

_f = np.float32
_LINEAR = np.round(linear(np.arange(256) / 255.0), 6).astype(_f)


def rgb_to_lab(*args: Any, **kw: Any) -> tuple[int, int, int]:
    """Convert (r, g, b) to (l, a, b); coarser than the table that the image methods use."""
    positional(args, kw, 1)
    r, g, b = (_LINEAR[get_int(v) & 255] for v in get_items(args[0], 3))
    x, y, z = (
        _bend((r * _f(p) + g * _f(q) + b * _f(s)) / _f(white))
        for p, q, s, white in (
            (0.4124, 0.3576, 0.1805, 95.047),
            (0.2126, 0.7152, 0.0722, 100.0),
            (0.0193, 0.1192, 0.9505, 108.883),
        )
    )
    return _int8(int(_f(116) * y)) - 16, _int8(int(_f(500) * (x - y))), _int8(int(_f(200) * (y - z)))


def _bend(t: Any) -> Any:
    return fast_cbrt(t) if t > _f(0.008856) else t * _f(7.787037) + _f(0.137931)


def _int8(value: int) -> int:
    return (value + 128) % 256 - 128


def lab_to_rgb(*args: Any, **kw: Any) -> tuple[int, int, int]:
    """Convert (l, a, b) to (r, g, b)."""
    positional(args, kw, 1)
    lightness, a, b = (_f(_int8(get_int(v))) for v in get_items(args[0], 3))
    middle = (lightness + _f(16)) * _f(0.008621)
    x, y, z = (
        (t * t * t if t > _f(0.206897) else _f(0.128419) * t - _f(0.017713)) * _f(white)
        for t, white in ((middle + a * _f(0.002), 95.047), (middle, 100.0), (middle - b * _f(0.005), 108.883))
    )
    red, green, blue = (
        _gamma((x * _f(p) + y * _f(q) + z * _f(s)) / _f(100))
        for p, q, s in ((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570))
    )
    return red, green, blue


def _gamma(level: Any) -> int:
    bent = _f(1.055) * level ** _f(0.416666) - _f(0.055) if level > _f(0.0031308) else level * _f(12.92)
    return min(max(int(bent * _f(255)), 0), 255)


def rgb_to_grayscale(*args: Any, **kw: Any) -> int:
    """Convert (r, g, b) to a gray level by linear luminance (not the formula of ``to_grayscale``)."""
    positional(args, kw, 1)
    r, g, b = (_LINEAR[get_int(v) & 255] for v in get_items(args[0], 3))
    return _gamma((r * _f(0.2126) + g * _f(0.7152) + b * _f(0.0722)) / _f(100))


def grayscale_to_rgb(*args: Any, **kw: Any) -> tuple[int, int, int]:
    """Return a gray level three times."""
    positional(args, kw, 1)
    level = get_int(args[0]) & 255
    return level, level, level
