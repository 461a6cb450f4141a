"""lens_corr and rotation_corr: a source pixel for every pixel. Source: OpenMV's ``imlib.c``, ``apriltag.c``."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy.image.arguments import Arguments, check, get_float, get_items
from openkpu.maixpy.image.core import BINARY, ImageCore
from openkpu.maixpy.image.fast_math import cosine, fast_atan, radians, sine, tangent

_f = np.float32


class Warp(ImageCore):
    """Corrections of lens and of perspective."""

    __slots__ = ()

    def lens_corr(self, *args: Any, **kw: Any) -> Self:
        """Undo a fish-eye: ``lens_corr(strength=1.8, zoom=1.0)``."""
        a = Arguments(args, kw)
        self._need_mutable()
        if self._format == BINARY:
            raise RuntimeError("openkpu board: lens_corr() of a binary image copies only part of it on the board")
        strength = _f(a.number(0, "strength", 1.8))
        check(bool(strength > 0), "Strength must be > 0!")
        zoom = _f(a.number(1, "zoom", 1.0))
        check(bool(zoom > 0), "Zoom must be > 0!")
        half_x, half_y = self._w // 2, self._h // 2
        x, y = np.arange(self._w) - half_x, (np.arange(self._h) - half_y)[:, None]
        r = strength / np.sqrt(_f(self._w**2 + self._h**2)) * np.sqrt((x * x + y * y).astype(_f))
        with np.errstate(invalid="ignore"):
            theta = np.where(r < _f(1e-7), _f(1), fast_atan(r) / r)
        scale = _f(1) / zoom
        self._pull(half_x + _cut(theta * (x.astype(_f) * scale)), half_y + _cut(theta * (y.astype(_f) * scale)))
        return self._wrote("lens_corr")

    def rotation_corr(self, *args: Any, **kw: Any) -> Self:
        """Turn the picture in space.

        ``rotation_corr(x_rotation=0, y_rotation=0, z_rotation=0, x_translation=0, y_translation=0, zoom=1.0, fov=60.0,
        corners)``, angles in degrees.
        """
        a = Arguments(args, kw)
        self._need_mutable()
        turns = [radians(a.number(i, f"{axis}_rotation", 0)) for i, axis in enumerate("xyz")]
        shift = [_f(a.number(3 + i, f"{axis}_translation", 0)) for i, axis in enumerate("xy")]
        zoom = _f(a.number(5, "zoom", 1.0))
        check(bool(zoom > 0), "Zoom must be > 0!")
        fov = radians(a.number(6, "fov", 60.0))
        check(bool(0 < fov < 180), "FOV must be > 0 and < 180!")
        corners = None
        if a.has(7, "corners"):
            corners = [[get_float(v) for v in get_items(p, 2)] for p in get_items(a.get(7, "corners"), 4)]
        matrix = _inverse(self._w, self._h, turns, shift, zoom, fov)
        if matrix is not None and corners is not None:
            matrix = _homography(self._w, self._h, corners) @ matrix
        if matrix is None:
            self._pixels[...] = 0
            return self._wrote("rotation_corr")
        m = matrix.astype(_f)
        x, y = np.arange(self._w, dtype=_f), np.arange(self._h, dtype=_f)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            across, down, depth = (m[i, 0] * x + m[i, 1] * y + m[i, 2] for i in range(3))
            self._pull(_cut(across / depth), _cut(down / depth))
        return self._wrote("rotation_corr")

    def _pull(self, x: NDArray[np.int64], y: NDArray[np.int64]) -> None:
        """Take every pixel from (x, y); 0 where that lies outside."""
        inside = (x >= 0) & (x < self._w) & (y >= 0) & (y < self._h)
        self._pixels[...] = np.where(inside, self._pixels[np.where(inside, y, 0), np.where(inside, x, 0)], 0)


def _cut(a: Any) -> NDArray[np.int64]:
    """Convert float32 to integers towards zero; what does not fit lies outside every picture."""
    limited: NDArray[np.int64] = np.nan_to_num(np.clip(np.trunc(a), -(2.0**31), 2.0**31), nan=2.0**31).astype(np.int64)
    return limited


def _inverse(w: int, h: int, turns: list[Any], shift: list[Any], zoom: Any, fov: Any) -> NDArray[Any] | None:
    """Return the matrix from destination to source, or None when it cannot be inverted."""
    z = np.sqrt(_f(w * w + h * h)) / _f(2) / tangent(fov / _f(2))
    (cx, sx), (cy, sy), (cz, sz) = ((cosine(t), sine(t)) for t in turns)
    place = np.array([[1, 0, -(w // 2)], [0, 1, -(h // 2)], [0, 0, 0], [0, 0, 1]], _f)
    rx = np.array([[1, 0, 0, 0], [0, cx, -sx, 0], [0, sx, cx, 0], [0, 0, 0, 1]], _f)
    ry = np.array([[cy, 0, -sy, 0], [0, 1, 0, 0], [sy, 0, cy, 0], [0, 0, 0, 1]], _f)
    rz = np.array([[cz, -sz, 0, 0], [sz, cz, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], _f)
    move = np.array([[1, 0, 0, shift[0]], [0, 1, 0, shift[1]], [0, 0, 1, z], [0, 0, 0, 1]], _f)
    lens = np.array([[z * zoom, 0, w // 2, 0], [0, z * zoom, h // 2, 0], [0, 0, 1, 0]], _f)
    whole = lens @ (move @ (rx @ ry @ rz @ place))
    try:
        return np.linalg.inv(whole.astype(np.float64))
    except np.linalg.LinAlgError:
        return None


def _homography(w: int, h: int, corners: list[list[float]]) -> NDArray[np.float64]:
    """Return the projection that moves the picture's corners (clockwise from the upper left) to the given ones."""
    rows = []
    for (x, y), (u, v) in zip(((0, 0), (w - 1, 0), (w - 1, h - 1), (0, h - 1)), corners, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y, -u])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y, -v])
    projection: NDArray[np.float64] = np.linalg.svd(np.array(rows, np.float64))[2][-1].reshape(3, 3)
    return projection
