"""Bytes of a V4 file that mean nothing and differ from what ``v4.write`` puts there, so that re-writing is exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

MAX_RUNS: Final = 256  # more of them in one part become one long run


@dataclass(frozen=True, slots=True)
class Leftover:
    """Bytes of one part of a file that the runtime ignores and that are not what ``write`` would put there."""

    part: int
    """Node, or -1 for the tables before the constants."""
    size: int
    """Bytes of the part in the file."""
    natural: int
    """Bytes of the part as ``write`` lays it out; the leftovers are for exactly that layout."""
    runs: tuple[tuple[int, bytes], ...]
    """(offset in the part, bytes)."""


def compare(part: int, raw: bytes, written: bytes) -> tuple[Leftover] | None:
    """Compare a part of the file with what ``write`` would put there; None when both are the same."""
    if raw == written:
        return None
    common = min(len(raw), len(written))
    different = np.frombuffer(raw, np.uint8, common) != np.frombuffer(written, np.uint8, common)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], different.astype(np.int8), [0]])))
    if edges.size > MAX_RUNS:
        edges = edges[[0, -1]]
    runs = [(int(a), raw[int(a) : int(b)]) for a, b in edges.reshape(-1, 2)]
    if len(raw) > common and any(raw[common:]):
        runs.append((common, raw[common:]))
    return (Leftover(part, len(raw), len(written), tuple(runs)),)


def patch(part: bytes, leftover: Leftover | None) -> bytes:
    """Put a file's leftovers back, where the part still has the layout that they belong to."""
    if leftover is None or len(part) != leftover.natural:
        return part
    out = bytearray(part[: leftover.size].ljust(leftover.size, b"\0"))
    for at, piece in leftover.runs:
        out[at : at + len(piece)] = piece
    return bytes(out)
