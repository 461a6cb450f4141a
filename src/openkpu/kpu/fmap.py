"""How a feature map lies in AI RAM.

AI RAM is 32768 lines of 64 bytes. Narrow maps share lines: up to width 16 four channels lie side by side in a
line (16 bytes each), up to width 32 two (32 bytes each); wider maps take ``ceil(width / 64)`` lines a row and one
channel a line::

    byte(c, y, x) = line*64 + (c // group) * row_lines*height*64 + (c % group) * (64 // group) + y*row_lines*64 + x

Source: kendryte-standalone-sdk ``kpu.c`` (``kpu_upload_core``), checked against every shipped V3 file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openkpu.k210 import AI_LINE_BYTES


@dataclass(frozen=True, slots=True)
class FeatureMapLayout:
    """The layout of one uint8 feature map (channels, height, width) in AI RAM."""

    channels: int
    height: int
    width: int

    @property
    def group(self) -> int:
        """Channels that share a line: 4, 2 or 1."""
        return 4 if self.width <= 16 else 2 if self.width <= 32 else 1

    @property
    def row_lines(self) -> int:
        """Lines of one row (``row_switch_addr``)."""
        return -(-self.width // AI_LINE_BYTES)

    @property
    def channel_lines(self) -> int:
        """Lines of one channel group (``channel_switch_addr``)."""
        return self.row_lines * self.height

    @property
    def lines(self) -> int:
        """Lines of the whole map."""
        return self.channel_lines * -(-self.channels // self.group)

    @property
    def bytes(self) -> int:
        """Bytes of the whole map, padding included."""
        return self.lines * AI_LINE_BYTES


def view(
    ai_ram: NDArray[np.uint8],
    line: int,
    channel_lines: int,
    row_lines: int,
    group: int,
    channels: int,
    height: int,
    width: int,
) -> NDArray[np.uint8]:
    """Return a writable view (channel groups, group, height, width) of AI RAM addressed by the raw registers.

    ``IndexError`` if any byte lies outside AI RAM. Channels beyond ``channels`` in the last group are part of the view.
    """
    groups = -(-channels // group)
    start = line * AI_LINE_BYTES
    strides = (channel_lines * AI_LINE_BYTES, AI_LINE_BYTES // group, row_lines * AI_LINE_BYTES, 1)
    shape = (groups, group, height, width)
    last = start + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if last >= ai_ram.size:
        raise IndexError(f"feature map reaches byte {last} of AI RAM, which has {ai_ram.size}")
    return np.ndarray(shape, np.uint8, ai_ram.data, start, strides)


def load(ai_ram: NDArray[np.uint8], line: int, channels: int, height: int, width: int) -> NDArray[np.uint8]:
    """Gather a feature map that starts at ``line`` as a dense uint8 array (channels, height, width)."""
    lay = FeatureMapLayout(channels, height, width)
    v = view(ai_ram, line, lay.channel_lines, lay.row_lines, lay.group, channels, height, width)
    return v.reshape(-1, height, width)[:channels].copy()


def store(ai_ram: NDArray[np.uint8], line: int, array: NDArray[np.uint8]) -> None:
    """Scatter a dense uint8 array (channels, height, width) to AI RAM from ``line`` on; padding bytes keep theirs."""
    channels, height, width = array.shape
    lay = FeatureMapLayout(channels, height, width)
    v = view(ai_ram, line, lay.channel_lines, lay.row_lines, lay.group, channels, height, width)
    whole = channels // lay.group
    v[:whole] = array[: whole * lay.group].reshape(whole, lay.group, height, width)
    if channels % lay.group:
        v[whole, : channels % lay.group] = array[whole * lay.group :]
