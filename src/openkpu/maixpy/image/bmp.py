"""BMP files, read and written byte for byte as the firmware does. Source: OpenMV's ``bmp.c`` in MaixPy-v1.

The firmware does not check fields that it does not use: sizes, palettes and bit masks may be anything.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy.image.arguments import check
from openkpu.maixpy.image.core import GRAYSCALE, RGB565
from openkpu.maixpy.image.pixels import Words, words_from_rgb

_HEADER = 54
_EIO = 5


def read_bmp(data: bytes) -> tuple[str, NDArray[Any]]:
    """Return the format and the pixels of an 8-bit (gray), 16-bit or 24-bit file.

    ``OSError("Unsupported format!")`` for other kinds, ``ValueError("file_corrupted_raise!")`` for sizes that cannot
    be, ``OSError(5)`` when the file ends too early.
    """
    if not data.startswith(b"BM"):
        raise OSError("Unsupported format!")
    if len(data) < _HEADER:
        raise OSError(_EIO)
    file_size, start = struct.unpack_from("<I4xI", data, 2)
    w, h, bits, kind = struct.unpack_from("<ii2xHI", data, 18)
    if file_size <= start or w == 0 or h == 0:
        raise ValueError("file_corrupted_raise!")
    check(bits in (8, 16, 24) and kind in (0, 3), "Unsupported format!")
    check(not (bits == 8 and kind != 0) and not (bits == 16 and kind != 3), "Unsupported format!")
    width, height = abs(w), abs(h)
    stride = (width * bits + 31) // 32 * 4
    if file_size - start < stride * height:
        raise ValueError("file_corrupted_raise!")
    if len(data) < start + stride * height:
        raise OSError(_EIO)
    rows = np.frombuffer(data, np.uint8, stride * height, start).reshape(height, stride)
    pixels = _pixels(rows, width, bits)[:: 1 if h < 0 else -1, :: -1 if w < 0 else 1]
    return GRAYSCALE if bits == 8 else RGB565, np.ascontiguousarray(pixels)


def _pixels(rows: NDArray[np.uint8], width: int, bits: int) -> NDArray[Any]:
    if bits == 8:
        return rows[:, :width]
    if bits == 16:
        return np.ascontiguousarray(rows[:, : 2 * width]).view(">u2").astype(np.uint16)
    b, g, r = (rows[:, c : 3 * width : 3] for c in range(3))
    return words_from_rgb(r, g, b)


def write_bmp(kind: str, pixels: NDArray[Any]) -> bytes:
    """Return a top-down 8-bit file with a gray palette, or a 16-bit 5/6/5 one."""
    height, width = pixels.shape
    gray = kind == GRAYSCALE
    bits, table = (8, _gray_palette()) if gray else (16, struct.pack("<3I", 0x1F << 11, 0x3F << 5, 0x1F))
    stride = (width * bits + 31) // 32 * 4
    start = _HEADER + len(table)
    rows = np.zeros((height, stride), np.uint8)
    if gray:
        rows[:, :width] = pixels
    else:
        words: Words = pixels
        rows[:, : 2 * width] = np.ascontiguousarray(words.astype(">u2")).view(np.uint8).reshape(height, 2 * width)
    head = b"BM" + struct.pack("<I4xI", start + rows.size, start)
    info = struct.pack("<IiiHHII16x", 40, width, -height, 1, bits, 0 if gray else 3, rows.size)
    return head + info + table + rows.tobytes()


def _gray_palette() -> bytes:
    return np.repeat(np.arange(256, dtype=np.uint32) * 0x010101, 1).astype("<u4").tobytes()
