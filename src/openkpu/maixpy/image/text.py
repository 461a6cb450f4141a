"""Strings as masks: the built-in ASCII font and loaded UTF-8 fonts, at any scale. Source: MaixPy-v1 ``font.c``.

A glyph's row is one byte for each 8 columns, the columns' bytes one block behind another. Unless ``mono_space`` is set,
a character starts at its first used column and ends one column behind its last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy.image import font_8x12
from openkpu.maixpy.image.draw import Pixels, rectangle, stamp

Mask = NDArray[np.bool_]
Placed = tuple[int, int, Mask]
"""x, y of a mask's corner relative to the start of the string, and the mask."""
_f = np.float32
_LARGE = 64
_LENGTH = 4096


def draw_ascii(
    pixels: Pixels, value: int, x: int, y: int, text: str | bytes, scale: float, x_gap: int, y_gap: int, mono: bool
) -> None:
    """Paint a string in the built-in font; what is no printable ASCII becomes a box for each byte."""
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else bytes(text)
    if scale > _LARGE:
        raise RuntimeError(f"openkpu board: text of scale {scale:g} is not simulated (at most {_LARGE})")
    left, top, mask = _ascii_mask(raw.split(b"\0")[0][:_LENGTH], scale, x_gap, y_gap, mono)
    stamp(pixels, value, mask, x + left, y + top)


@lru_cache(maxsize=256)
def _ascii_mask(raw: bytes, scale: float, x_gap: int, y_gap: int, mono: bool) -> Placed:
    """Lay out a whole string as one mask."""
    return _merge(list(_place_ascii(raw, scale, x_gap, y_gap, mono)))


def _place_ascii(raw: bytes, scale: float, x_gap: int, y_gap: int, mono: bool) -> Iterator[Placed]:
    x = y = 0
    last = 0
    for code in raw:
        if last == 0x0D and code == 0x0A:
            last = code
            continue
        last = code
        if code in (0x0A, 0x0D):
            x = 0
            y += _times(font_8x12.HEIGHT, scale) + y_gap
        elif not font_8x12.FIRST <= code <= font_8x12.LAST:
            yield _box(x, y, scale)
        else:
            at = (code - font_8x12.FIRST) * font_8x12.HEIGHT
            rows = font_8x12.glyphs()[at : at + font_8x12.HEIGHT]
            first, following = advance(rows, font_8x12.WIDTH, scale, x_gap, mono)
            x -= first
            yield x, y, glyph(rows, font_8x12.WIDTH, font_8x12.HEIGHT, scale)
            x += following


def _box(x: int, y: int, scale: float) -> Placed:
    """Return the box for a character that the font does not have; it lies on its side and takes no room."""
    margin = _times(3, scale) // 2
    width, height = (_times(n, scale) - margin * 2 for n in (font_8x12.HEIGHT, font_8x12.WIDTH))
    thickness = int(_f(scale))
    room = abs(thickness) + 1
    mask = np.zeros((max(height, 0) + 2 * room, max(width, 0) + 2 * room), np.uint8)
    rectangle(mask, 1, (room, room, width, height), thickness, False)
    return x + margin - room, y + margin - room, mask.astype(np.bool_)


def draw_utf8(
    pixels: Pixels,
    value: int,
    x: int,
    y: int,
    text: str | bytes,
    size: tuple[int, int],
    read: Callable[[int], bytes],
    scale: float,
    x_gap: int,
    mono: bool,
) -> None:
    """Paint a string in a loaded font of (width, height); ``read`` returns the glyph of a code point.

    The string ends at the first byte that starts no character. Lines are not broken.
    """
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else bytes(text)
    at = 0
    while at < len(raw):
        length, code = decode_utf8(raw, at)
        if length <= 0 or code <= 0:
            return
        at += length
        rows = read(code)
        first, following = advance(rows, size[0], scale, x_gap, mono, size[1])
        x -= first
        stamp(pixels, value, glyph(rows, size[0], size[1], scale), x, y)
        x += following


def decode_utf8(raw: bytes, at: int) -> tuple[int, int]:
    """Return length and code point of the character that starts at a byte; length 0 when there is none."""
    head = raw[at]
    length = 1 if head < 0x80 else 0 if head < 0xC0 else 2 if head < 0xE0 else 3 if head < 0xF0 else 4
    tail = raw[at + 1 : at + length]
    if head >= 0xF8 or len(tail) != length - 1 or any(b & 0xC0 != 0x80 for b in tail):
        return 0, 0
    code = head if length == 1 else head & (0x7F >> length)
    for b in tail:
        code = code << 6 | b & 0x3F
    return length, code


def advance(
    rows: bytes, width: int, scale: float, x_gap: int, mono: bool, height: int = font_8x12.HEIGHT
) -> tuple[int, int]:
    """Return how far a glyph starts to the left, and how far the next one is behind it.

    Only the first ``height`` bytes are looked at, so of a wide font's glyph the right 8 columns.
    """
    if mono:
        return 0, _times(width, scale) + x_gap
    used = 0
    for row in rows[:height]:
        used |= row
    columns = [x for x in range(width) if used >> (width - 1 - x) & 1]
    if not columns:
        return 0, _times(3, scale)
    return _times(columns[0], scale), _times(columns[-1] + 2, scale) + x_gap


@lru_cache(maxsize=1024)
def glyph(rows: bytes, width: int, height: int, scale: float) -> Mask:
    """Return a glyph as a mask. Bytes that are missing (the firmware reads on behind them) count as empty.

    The firmware takes the number of bytes of a row from the *height* of the font.
    """
    data = np.zeros(height * 8 + max(height, 1), np.int64)
    known = np.frombuffer(rows, np.uint8)[: data.size]
    data[: known.size] = known
    s = _f(scale)
    y = (np.arange(_times(height, scale), dtype=_f) / s).astype(np.int64)
    x = (np.arange(_times(width, scale), dtype=_f) / s).astype(np.int64)
    bits = data[y]
    for block in range(1, height // 8):
        bits = bits << 8 | data[np.minimum(y + block * height, data.size - 1)]
    mask: Mask = bits[:, None] >> np.maximum(width - 1 - x, 0) & 1 == 1
    return mask


def _merge(parts: list[Placed]) -> Placed:
    """Put masks together in one."""
    if not parts:
        return 0, 0, np.zeros((0, 0), np.bool_)
    left, top = min(x for x, _, _ in parts), min(y for _, y, _ in parts)
    right, bottom = max(x + m.shape[1] for x, _, m in parts), max(y + m.shape[0] for _, y, m in parts)
    whole = np.zeros((bottom - top, right - left), np.bool_)
    for x, y, mask in parts:
        whole[y - top : y - top + mask.shape[0], x - left : x - left + mask.shape[1]] |= mask
    return left, top, whole


def _times(count: int, scale: float) -> int:
    return int(_f(count) * _f(scale))
