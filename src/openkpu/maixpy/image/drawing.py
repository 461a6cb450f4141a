"""The drawing methods. They change the packed pixels only: the planes that the KPU reads stay as they were.

Source: MaixPy-v1 ``py_image.c``, ``draw.c``.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from openkpu.maixpy.image import draw
from openkpu.maixpy.image.arguments import Arguments, check, get_int, get_items, get_text, int32, positional
from openkpu.maixpy.image.blend import draw_image
from openkpu.maixpy.image.core import ImageCore, get_image
from openkpu.maixpy.image.ellipse import ellipse
from openkpu.maixpy.image.host import Font, context_of
from openkpu.maixpy.image.text import draw_ascii, draw_utf8, glyph

_f = np.float32


class Drawing(ImageCore):
    """Lines, shapes, text and other images."""

    __slots__ = ()

    def _start(self, args: tuple[Any, ...], kw: dict[str, Any], required: int = 1) -> Arguments:
        self._need_mutable()
        return Arguments(args, kw, required)

    def _ink(self, a: Arguments, position: int) -> int:
        """Return the pixel value of the colour argument, white when there is none."""
        return self._value(self._color(a.get(position, "color")) if a.has(position, "color") else -1)

    def clear(self, *args: Any, **kw: Any) -> Self:
        """Set every pixel to 0."""
        positional(args, kw, 0)
        self._need_mutable(also_bayer=True)
        self._pixels[...] = 0
        return self._wrote("clear")

    def draw_line(self, *args: Any, **kw: Any) -> Self:
        """Draw a line: ``draw_line(x0, y0, x1, y1, color, thickness=1)``."""
        a = self._start(args, kw)
        (x0, y0, x1, y1), at = a.integers(0, 4)
        ink = self._ink(a, at)
        draw.line(self._pixels, ink, (x0, y0), (x1, y1), a.integer(at + 1, "thickness", 1))
        return self._wrote("draw_line")

    def draw_rectangle(self, *args: Any, **kw: Any) -> Self:
        """Draw a rectangle: ``draw_rectangle(x, y, w, h, color, thickness=1, fill=False)``."""
        a = self._start(args, kw)
        (x, y, w, h), at = a.integers(0, 4)
        ink = self._ink(a, at)
        thickness = a.integer(at + 1, "thickness", 1)
        draw.rectangle(self._pixels, ink, (x, y, w, h), thickness, a.flag(at + 2, "fill"))
        return self._wrote("draw_rectangle")

    def draw_circle(self, *args: Any, **kw: Any) -> Self:
        """Draw a circle: ``draw_circle(x, y, radius, color, thickness=1, fill=False)``."""
        a = self._start(args, kw)
        (x, y, radius), at = a.integers(0, 3)
        ink = self._ink(a, at)
        draw.circle(self._pixels, ink, (x, y), radius, a.integer(at + 1, "thickness", 1), a.flag(at + 2, "fill"))
        return self._wrote("draw_circle")

    def draw_ellipse(self, *args: Any, **kw: Any) -> Self:
        """Draw an ellipse: ``draw_ellipse(x, y, rx, ry, rotation=0, color, thickness=1, fill=False)``."""
        a = self._start(args, kw)
        (x, y, rx, ry), at = a.integers(0, 4)
        rotation = a.integer(at, "rotation", 0)
        ink = self._ink(a, at + 1)
        thickness, filled = a.integer(at + 2, "thickness", 1), a.flag(at + 3, "fill")
        ellipse(self._pixels, ink, (x, y), (rx, ry), rotation, thickness, filled)
        return self._wrote("draw_ellipse")

    def draw_cross(self, *args: Any, **kw: Any) -> Self:
        """Draw a cross: ``draw_cross(x, y, color, size=5, thickness=1)``."""
        a = self._start(args, kw)
        (x, y), at = a.integers(0, 2)
        ink = self._ink(a, at)
        size, thickness = a.integer(at + 1, "size", 5), a.integer(at + 2, "thickness", 1)
        draw.line(self._pixels, ink, (x - size, y), (x + size, y), thickness)
        draw.line(self._pixels, ink, (x, y - size), (x, y + size), thickness)
        return self._wrote("draw_cross")

    def draw_arrow(self, *args: Any, **kw: Any) -> Self:
        """Draw an arrow to x1, y1: ``draw_arrow(x0, y0, x1, y1, color, size=10, thickness=1)``."""
        a = self._start(args, kw)
        (x0, y0, x1, y1), at = a.integers(0, 4)
        ink = self._ink(a, at)
        size, thickness = _f(a.integer(at + 1, "size", 10)), a.integer(at + 2, "thickness", 1)
        dx, dy = _f(x1 - x0), _f(y1 - y0)
        length = np.sqrt(_f(int32((x1 - x0) ** 2 + (y1 - y0) ** 2)))
        ux, uy = (dx / length, dy / length) if length else (_f(0), _f(0))
        back_x, back_y = _f(x1) - size * ux, _f(y1) - size * uy
        side_x, side_y = size * -uy * _f(0.5), size * ux * _f(0.5)
        draw.line(self._pixels, ink, (x0, y0), (x1, y1), thickness)
        draw.line(self._pixels, ink, (x1, y1), (int(back_x + side_x), int(back_y + side_y)), thickness)
        draw.line(self._pixels, ink, (x1, y1), (int(back_x - side_x), int(back_y - side_y)), thickness)
        return self._wrote("draw_arrow")

    def draw_string(self, *args: Any, **kw: Any) -> Self:
        """Write text: ``draw_string(x, y, text, color, scale=1.0, x_spacing=0, y_spacing=2, mono_space=0)``."""
        a = self._start(args, kw)
        (x, y, text), at = a.group(0, 3)
        x, y = get_int(x), get_int(y)
        ink = self._ink(a, at)
        scale = a.number(at + 1, "scale", 1.0)
        check(scale > 0, "Error: 0 < scale!")
        x_gap, y_gap = a.integer(at + 2, "x_spacing", 0), a.integer(at + 3, "y_spacing", 2)
        mono = a.flag(at + 4, "mono_space")
        font = context_of(self._host).font
        if font.built_in:
            draw_ascii(self._pixels, ink, x, y, get_text(text), scale, x_gap, y_gap, mono)
        else:
            size = font.width, font.height
            read = self._glyph_reader(font)
            draw_utf8(self._pixels, ink, x, y, get_text(text), size, read, scale, x_gap, mono)
        return self._wrote("draw_string")

    def _glyph_reader(self, font: Font) -> Any:
        """Return the function that reads the glyph of a code point from the font's file or from flash."""
        count = font.width // 8 * font.height
        if font.data is None:
            return lambda code: self._host.read_flash(font.flash_address + code * count, count)
        data = font.data
        return lambda code: data[code * count : (code + 1) * count]

    def draw_font(self, *args: Any, **kw: Any) -> Self:
        """Draw one bitmap: ``draw_font(x, y, width, height, bytes, color, scale=1.0)``."""
        a = self._start(args, kw)
        (x, y, width, height, rows), at = a.group(0, 5)
        x, y, width, height = (get_int(v) for v in (x, y, width, height))
        data = get_text(rows)
        raw = data.encode() if isinstance(data, str) else data
        check(width % 8 == 0 and width <= 32, "Error: font arg_w_font %% 8 == 0 && arg_w_font <= 32!")
        check(
            width // 8 * (height // 8) * 8 == len(data),
            "Error: font (arg_w_font / 8) * (arg_h_font / 8) * 8 == font_len!",
        )
        ink = self._ink(a, at)
        scale = a.number(at + 1, "scale", 1.0)
        check(scale > 0, "Error: 0 < scale!")
        if height // 8 * height > len(raw):
            self._unsure("draw_font() of a bitmap higher than wide reads behind it on the board; here it finds zeros")
        draw.stamp(self._pixels, ink, glyph(bytes(raw), width, height, scale), x, y)
        return self._wrote("draw_font")

    def draw_image(self, *args: Any, **kw: Any) -> Self:
        """Draw another image: ``draw_image(image, x, y, x_scale=1.0, y_scale=1.0, alpha=256, mask=None)``."""
        a = self._start(args, kw, 2)
        other = get_image(a.values[0])
        (x, y), at = a.integers(1, 2)
        scales = []
        for position, name in ((at, "x_scale"), (at + 1, "y_scale")):
            scales.append(a.number(position, name, 1.0))
            check(scales[-1] >= 0, f"Error: 0.0 <= {name}!")
        alpha = float(_f(a.integer(at + 2, "alpha", 256)) / _f(256))
        check(0 <= alpha <= 1, "Error: 0 <= alpha <= 256!")
        mask = get_image(a.get(at + 3, "mask")) if a.has(at + 3, "mask") else None
        draw_image(self, other, x, y, (scales[0], scales[1]), alpha, mask)
        return self._wrote("draw_image")

    def draw_keypoints(self, *args: Any, **kw: Any) -> Self:
        """Draw points (x, y, angle): ``draw_keypoints(list, color, size=10, thickness=1, fill=False)``."""
        a = self._start(args, kw)
        ink = self._ink(a, 1)
        size, thickness, filled = a.integer(2, "size", 10), a.integer(3, "thickness", 1), a.flag(4, "fill")
        for point in get_items(a.values[0]):
            x, y, angle = (get_int(v) for v in get_items(point, 3))
            turn = np.radians(float(angle % 360))
            hand = [int(_f(round(float(f(turn)), 6)) * _f(size)) for f in (np.cos, np.sin)]
            draw.line(self._pixels, ink, (x, y), (x + hand[0], y + hand[1]), thickness)
            radius = int((size - 2) / 2)
            draw.circle(self._pixels, ink, (x, y), radius, thickness, filled)
        return self._wrote("draw_keypoints")
