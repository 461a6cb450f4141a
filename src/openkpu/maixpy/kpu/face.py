"""Comparing feature vectors: ``face_encode`` and ``face_compare``."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from openkpu.maixpy import mp

MAX_FEATURES: Final = 512


def face_encode(features: Any) -> bytearray:
    """A float vector as int8: clamped to +-0.25, times 512, cut off; 0.25 itself wraps to -128."""
    values = mp.need_array(features)
    if len(values) > MAX_FEATURES:
        raise ValueError("feature dim <=200\r\n")
    v = np.array([mp.need_float(x) for x in values], np.float32)
    scaled = np.clip(v, np.float32(-0.25), np.float32(0.25)) * np.float32(512)
    return bytearray(np.nan_to_num(scaled).astype(np.int32).astype(np.int8).tobytes())


def face_compare(first: Any, second: Any) -> float:
    """The likeness of two encoded vectors, 0 to 100."""
    a, b = (np.frombuffer(mp.bytes_of(x), np.int8).astype(np.int64) for x in (first, second))
    if a.size != b.size:
        raise ValueError("compare feature must in same dim!\r\n")
    dot, norms = np.float32(int(a @ b)), np.float32(int(a @ a) * int(b @ b))
    with np.errstate(divide="ignore", invalid="ignore"):
        score = (np.float32(0.5) * dot / np.sqrt(norms) + np.float32(0.5)) * np.float32(100)
    return float(score)
