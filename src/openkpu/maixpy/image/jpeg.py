"""JPEG files: which ones the board reads, decoding, encoding. Sources: picojpeg, OpenMV's ``jpeg.c`` in MaixPy-v1.

Which files are refused, and with which number, is the firmware's. The pixels come from Pillow, whose inverse transform
and chroma interpolation differ from picojpeg's by a few levels; encoded files have the same tables and sampling, not
the same bytes.
"""

from __future__ import annotations

import io
import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy.image.core import GRAYSCALE, RGB565
from openkpu.maixpy.image.pixels import Bytes, words_truncated

MODE, ARITHMETIC, MARKER, COLOURS, SAMPLING, END = 37, 17, 20, 26, 27, 33
"""Status numbers of picojpeg: progressive, arithmetic, other kinds of frame, components, sampling, short file."""
_FRAME_STATUS: Final = {0xC2: MODE, 0xC9: ARITHMETIC}


def status_of(data: bytes) -> int:
    """Return 0 for a file that picojpeg decodes, else the number that it fails with before decoding."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker in (0xFF, 0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _FRAME_STATUS.get(marker, MARKER) if marker != 0xC0 else _baseline_status(data, at + 4)
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return END


def _baseline_status(data: bytes, at: int) -> int:
    if len(data) < at + 6:
        return END
    count = data[at + 5]
    if count not in (1, 3):
        return COLOURS
    sampling = list(data[at + 7 : at + 6 + 3 * count : 3])
    if len(sampling) < count:
        return END
    good = ([0x11],) if count == 1 else tuple([first, 0x11, 0x11] for first in (0x11, 0x12, 0x21, 0x22))
    return 0 if sampling in good else SAMPLING


def decode(data: bytes) -> tuple[str, NDArray[Any]]:
    """Return the format and the pixels: grayscale as it is, colours cut (not rounded) to 5/6/5 bits.

    ``OSError`` or ``SyntaxError`` of Pillow when the data are damaged.
    """
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(data), formats=("JPEG",)) as picture:
        if picture.mode == "L":
            return GRAYSCALE, np.asarray(picture, np.uint8).copy()
        rgb: Bytes = np.asarray(picture.convert("RGB"), np.uint8)
    return RGB565, words_truncated(*(rgb[..., c] for c in range(3)))


def encode(pixels: Bytes, quality: int) -> bytes:
    """Encode uint8 (h, w) or (h, w, 3) with quality 1..100; sampling 4:4:4 from 60, 4:2:2 from 36, else 4:2:0."""
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    subsampling = 0 if quality >= 60 else 1 if quality > 35 else 2
    Pillow.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()
