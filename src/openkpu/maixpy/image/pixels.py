"""Colours of pixels: 5/6/5 and 8 bits, RGB565 words, grayscale, YUV, CIELAB. All conversions are the firmware's.

A word is the 16 bits of an RGB565 pixel as the CPU reads them; the bytes lie in memory as RRRRRGGG GGGBBBBB, so with
p the word R = p >> 3 & 31, G = (p & 7) << 3 | p >> 13, B = p >> 8 & 31 (MaixPy-v1 ``imlib.h``). The tables of the
firmware (``rgb2rgb_tab.c``, ``yuv_tab.c``, ``lab_tab.c``) are made here from their formulas; every entry was compared.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint16]
Bytes = NDArray[np.uint8]

_n32, _n64, _n256 = (np.arange(n, dtype=np.int64) for n in (32, 64, 256))
R5_TO_R8: Final = ((_n32 * 510 + 31) // 62).astype(np.uint8)
"""round(v * 255 / 31); also for blue."""
G6_TO_G8: Final = ((_n64 * 510 + 63) // 126).astype(np.uint8)
"""round(v * 255 / 63)."""
R8_TO_R5: Final = ((_n256 * 62 + 255) // 510).astype(np.uint8)
"""round(v * 31 / 255); also for blue."""
G8_TO_G6: Final = ((_n256 * 126 + 255) // 510).astype(np.uint8)
"""round(v * 63 / 255)."""

_R5: Final = R8_TO_R5.tolist()
_G6: Final = G8_TO_G6.tolist()
_RED_BITS: Final = (R8_TO_R5.astype(np.uint16) << 3).astype(np.uint16)
_GREEN_BITS: Final = (G8_TO_G6 >> 3).astype(np.uint16) | ((G8_TO_G6.astype(np.uint16) & 7) << 13).astype(np.uint16)
_BLUE_BITS: Final = (R8_TO_R5.astype(np.uint16) << 8).astype(np.uint16)


def pack(r5: Any, g6: Any, b5: Any) -> Any:
    """Put fields together as ``COLOR_R5_G6_B5_TO_RGB565`` does, without a check: too large fields run into others."""
    return ((r5 << 3) | (g6 >> 3) | ((g6 & 7) << 13) | (b5 << 8)) & 0xFFFF


def word_of(r: int, g: int, b: int) -> int:
    """Round 8-bit R, G, B (0..255) to an RGB565 word."""
    return int(pack(_R5[r], _G6[g], _R5[b]))


def words_from_rgb(r: Bytes, g: Bytes, b: Bytes) -> Words:
    """Round 8-bit planes to RGB565 words of the same shape."""
    words: Words = _RED_BITS.take(r)
    words |= _GREEN_BITS.take(g)
    words |= _BLUE_BITS.take(b)
    return words


def words_truncated(r: Bytes, g: Bytes, b: Bytes) -> Words:
    """Cut 8-bit planes to their upper 5/6/5 bits, as the firmware's JPEG reader and conv3 do."""
    words: Words = pack((r >> 3).astype(np.uint16), (g >> 2).astype(np.uint16), (b >> 3).astype(np.uint16))
    return words


def fields(words: Words) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Return the 5/6/5-bit fields of words."""
    p = words.astype(np.int32)
    return p >> 3 & 31, (p & 7) << 3 | p >> 13, p >> 8 & 31


@cache
def planes_table() -> Bytes:
    """Return R8, G8, B8 of every word, uint8 (3, 65536)."""
    r, g, b = fields(np.arange(65536, dtype=np.uint16))
    return np.stack([R5_TO_R8[r], G6_TO_G8[g], R5_TO_R8[b]])


def planes_from_words(words: Words, out: Bytes) -> None:
    """Expand words (h, w) to planes, uint8 (3, h, w)."""
    table = planes_table()
    for plane in range(3):
        table[plane].take(words, out=out[plane], mode="clip")


def rgb_of(word: int) -> tuple[int, int, int]:
    """Return the 8-bit R, G, B of one word."""
    r, g, b = planes_table()[:, word & 0xFFFF].tolist()
    return r, g, b


@cache
def yuv_table(full: bool = True) -> NDArray[np.int8]:
    """Return Y - 128, U, V of every word, int8 (65536, 3).

    The full firmware holds all entries: Y = floor(0.299 R + 0.587 G + 0.114 B), U and V are truncated. The minimum
    firmware holds the first 8192 and adds an offset for the lowest three bits of green: often off by one or two.
    """
    r, g, b = (p.astype(np.float64) for p in planes_table())
    y = np.floor(r * 0.299 + g * 0.587 + b * 0.114) - 128
    u = np.trunc(-(r * 0.168736) - g * 0.331264 + b * 0.5)
    v = np.trunc(r * 0.5 - g * 0.418688 - b * 0.081312)
    table = np.stack([y, u, v], axis=1).astype(np.int8)
    offsets = [[0, 2, 5, 7, 9, 12, 14, 16], [0, -1, -3, -4, -5, -7, -8, -9], [0, -2, -3, -5, -7, -8, -10, -11]]
    return table if full else _from_eighth(table, offsets)


def _from_eighth(table: NDArray[np.int8], offsets: list[list[int]]) -> NDArray[np.int8]:
    """Make a whole table from its first 8192 rows the way the minimum firmware does; sums wrap at 8 bits."""
    parts = [table[:8192].astype(np.int32) + np.array([o[k] for o in offsets], np.int32) for k in range(8)]
    return np.concatenate(parts).astype(np.int8)


@cache
def gray_table(full: bool = True) -> Bytes:
    """Return the grayscale value of every word, uint8 (65536,)."""
    return (yuv_table(full)[:, 0].astype(np.int32) + 128).astype(np.uint8)


@cache
def words_of_gray() -> Words:
    """Return the word of every grayscale value, uint16 (256,)."""
    v = np.arange(256, dtype=np.uint8)
    return words_from_rgb(v, v, v)


def words_from_yuv(y: NDArray[Any], u: NDArray[Any], v: NDArray[Any]) -> Words:
    """Convert y 0..255, u and v -128..127 with the firmware's integer JPEG formula (``imlib_yuv_to_rgb``)."""
    y, u, v = (a.astype(np.int32) for a in (y, u, v))
    r = np.clip(y + (91881 * v >> 16), 0, 255)
    g = np.clip(y - (22554 * u + 46802 * v >> 16), 0, 255)
    b = np.clip(y + (116130 * u >> 16), 0, 255)
    return words_from_rgb(r.astype(np.uint8), g.astype(np.uint8), b.astype(np.uint8))


@cache
def lab_table(full: bool = True) -> NDArray[np.int8]:
    """Return CIELAB L 0..100, A, B of every word, int8 (65536, 3); for the minimum firmware see ``yuv_table``."""
    r, g, b = (linear(p / 255.0) for p in planes_table())
    x = _lab_f((r * 0.4124 + g * 0.3576 + b * 0.1805) / 95.047)
    y = _lab_f((r * 0.2126 + g * 0.7152 + b * 0.0722) / 100.0)
    z = _lab_f((r * 0.0193 + g * 0.1192 + b * 0.9505) / 108.883)
    lab = [_round_half_away(116 * y) - 16, _round_half_away(500 * (x - y)), _round_half_away(200 * (y - z))]
    table = np.stack(lab, axis=1).astype(np.int8)
    offsets = [[0, 1, 3, 4, 5, 6, 8, 9], [0, 2, 3, 5, 6, 8, 9, 11], [0, 1, 3, 4, 6, 7, 9, 10]]
    return table if full else _from_eighth(table, offsets)


def linear(c: NDArray[Any]) -> NDArray[np.float64]:
    """Undo the sRGB gamma: 0..1 -> 0..100."""
    bent: NDArray[np.float64] = 100 * np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return bent


def _lab_f(t: NDArray[np.float64]) -> NDArray[np.float64]:
    bent: NDArray[np.float64] = np.where(t > 0.008856, np.cbrt(t), 7.787037 * t + 0.137931)
    return bent


def _round_half_away(a: NDArray[np.float64]) -> NDArray[np.float64]:
    rounded: NDArray[np.float64] = np.trunc(a + np.copysign(0.5, a))
    return rounded


@cache
def rainbow_table() -> Words:
    """Return the thermal palette, a word for each grayscale value, uint16 (256,). Data: OpenMV ``rainbow_tab.c``."""
    return np.array([int(_RAINBOW[4 * i : 4 * i + 4], 16) for i in range(256)], np.uint16)


_RAINBOW: Final = (
    "3F063F065F067F069F06BF06BF06DF06FF061F073F073F075F077F079F07BF07BF07DF07FF07FF07FE07FE07FD07FD07FD07FC07FC07FB07"
    "FB07FB07FA07FA07FA07F907F907F807F807F807F707F707F607F607F607F507F507F407F407F407F307F307F207F207F207F107F107F107"
    "F007F007EF07EF07EF07EE07EE07ED07ED07ED07EC07EC07EB07EB07EB07EA07EA07EA07E907E907E807E807E807E707E707E607E607E607"
    "E507E507E407E407E407E307E307E207E207E207E107E107E107E007E007E00FE00FE00FE017E017E01FE01FE01FE027E027E02FE02FE02F"
    "E037E037E03FE03FE03FE047E047E047E04FE04FE057E057E057E05FE05FE067E067E067E06FE06FE077E077E077E07FE07FE087E087E087"
    "E08FE08FE08FE097E097E09FE09FE09FE0A7E0A7E0AFE0AFE0AFE0B7E0B7E0BFE0BFE0BFE0C7E0C7E0C7E0CFE0CFE0D7E0D7E0D7E0DFE0DF"
    "E0E7E0E7E0E7E0EFE0EFE0F7E0F7E0F7E0FFE0FFC0FFA0FF80FF80FF60FF40FF20FF00FF00FFE0FEC0FEA0FE80FE80FE60FE40FE20FE00FE"
    "00FEE0FDC0FDA0FD80FD80FD60FD40FD20FD00FD00FDE0FCC0FCA0FCA0FC80FC60FC40FC20FC20FC00FCE0FBC0FBA0FBA0FB80FB60FB40FB"
    "20FB20FB00FBE0FAC0FAA0FAA0FA80FA60FA40FA20FA20FA00FAE0F9C0F9A0F9A0F980F960F940F940F920F900F9E0F8C0F8C0F8A0F880F8"
    "60F840F840F820F8"
)
