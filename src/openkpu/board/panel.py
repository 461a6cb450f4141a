"""The display's memory, in the orientation in which the script draws."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_V5: Final = np.round(np.arange(32) * 255 / 31).astype(np.uint8)
_V6: Final = np.round(np.arange(64) * 255 / 63).astype(np.uint8)


def rgb_of(color: int) -> tuple[int, int, int]:
    """The RGB888 of a colour as the firmware writes it: RGB565 with its bytes swapped."""
    p = (color & 0xFF) << 8 | color >> 8 & 0xFF
    return int(_V5[p >> 11]), int(_V6[p >> 5 & 63]), int(_V5[p & 31])


def color_of(rgb: tuple[int, int, int]) -> int:
    """The firmware's colour for RGB888: 5, 6 and 5 bits, rounded, with the bytes swapped."""
    r, g, b = (max(0, min(255, v)) for v in rgb)
    p = int(r * 31 / 255 + 0.5) << 11 | int(g * 63 / 255 + 0.5) << 5 | int(b * 31 / 255 + 0.5)
    return (p & 0xFF) << 8 | p >> 8


class Panel:
    """RGB888 pixels, (height, width, 3). Everything that is drawn is clipped to it."""

    def __init__(self, width: int, height: int) -> None:
        self.pixels: NDArray[np.uint8] = np.zeros((height, width, 3), np.uint8)

    @property
    def width(self) -> int:
        """Pixels in a row."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    def turn(self) -> None:
        """Swap width and height; the content is scrambled on the chip, here black."""
        self.pixels = np.zeros((self.width, self.height, 3), np.uint8)

    def fill(self, x0: int, y0: int, x1: int, y1: int, color: int) -> None:
        """Fill [x0, x1) x [y0, y1) with a colour."""
        self.pixels[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = rgb_of(color)

    def put(self, x: int, y: int, rgb: NDArray[np.uint8]) -> None:
        """Copy a picture, (h, w, 3), with its top left corner at (x, y)."""
        h, w = rgb.shape[:2]
        left, top = max(0, -x), max(0, -y)
        right, bottom = min(w, self.width - x), min(h, self.height - y)
        if left < right and top < bottom:
            self.pixels[y + top : y + bottom, x + left : x + right] = rgb[top:bottom, left:right]
