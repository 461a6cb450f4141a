"""The objects that run_yolo2 returns."""

from __future__ import annotations

from openkpu.maixpy import mp
from openkpu.maixpy.kpu.region import Found


class kpu_yolo2_find:  # noqa: N801 - the name that the firmware shows
    """One object, in pixels of the model's input. Everything is a method, as on the board."""

    def __init__(self, found: Found, index: int, count: int) -> None:
        self._found = found
        self._index = index
        self._count = count

    def rect(self) -> tuple[int, int, int, int]:
        """(x, y, w, h)."""
        return self._found.x, self._found.y, self._found.w, self._found.h

    def x(self) -> int:
        """Left edge."""
        return self._found.x

    def y(self) -> int:
        """Top edge."""
        return self._found.y

    def w(self) -> int:
        """Width."""
        return self._found.w

    def h(self) -> int:
        """Height."""
        return self._found.h

    def value(self) -> float:
        """Score, 0 to 1."""
        return mp.f32(self._found.score)

    def classid(self) -> int:
        """Number of the class."""
        return self._found.label

    def index(self) -> int:
        """Position in the list."""
        return self._index

    def objnum(self) -> int:
        """Length of the list."""
        return self._count

    def __repr__(self) -> str:
        f = self._found
        return (
            f'{{"x":{f.x}, "y":{f.y}, "w":{f.w}, "h":{f.h}, "value":{self.value():f}, "classid":{f.label}, '
            f'"index":{self._index}, "objnum":{self._count}}}'
        )
