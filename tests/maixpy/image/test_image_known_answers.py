"""Checksums of pictures made by the firmware's own C code (imlib in MaixPy-v1, its compiler flags, RISC-V)."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_host import Board

from openkpu.maixpy.image import Image

CASES = json.loads((Path(__file__).parent / "known_answers.json").read_text())
SHIFT = {"rgb565": 0, "grayscale": 8, "binary": 9}


def picture(host: Board, kind: str, width: int, height: int, salt: int) -> Image:
    i = np.arange(width * height, dtype=np.uint64) + np.uint64(salt * 1000003)
    v = (i * np.uint64(2654435761) >> np.uint64(11) & np.uint64(0xFFFF)) >> np.uint64(SHIFT[kind])
    v = v & np.uint64(1) if kind == "binary" else v
    return Image(host, kind, v.astype(np.uint16 if kind == "rgb565" else np.uint8).reshape(height, width))


@pytest.mark.parametrize("method", sorted({case[0] for case in CASES}))
def test_like_the_firmware(method: str, host: Board) -> None:
    for _, kind, args, keywords, size, expected in (case for case in CASES if case[0] == method):
        image = picture(host, kind, 45, 33, 1)
        images = {
            "@other": picture(host, kind, 45, 33, 2),
            "@small": picture(host, "rgb565", 17, 12, 3),
            "@mask": picture(host, "grayscale", 45, 33, 4),
        }
        args = [images.get(a, a) if isinstance(a, str) else a for a in args]
        keywords = {k: images.get(v, v) if isinstance(v, str) else v for k, v in keywords.items()}
        result = getattr(image, method)(*args, **keywords)
        pixels = (result if method == "resize" else image)._pixels
        data = pixels.astype("<u2" if kind == "rgb565" else np.uint8).tobytes()
        assert (list(pixels.shape), zlib.crc32(data)) == (size, expected), (kind, args, keywords)
