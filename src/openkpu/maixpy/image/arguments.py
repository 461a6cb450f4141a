"""Arguments the way the firmware takes them, with MicroPython's errors.

Optional arguments come by position or by keyword, the keyword wins, unknown keywords are ignored; coordinates are a
tuple, a list or separate numbers. A float is not an integer: ``draw_rectangle(1.5, ...)`` raises ``TypeError`` as on
the board. Sources: MaixPy-v1 ``py_helper.c``; MicroPython 1.12 ``py/obj.c``, ``py/argcheck.c``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORD = 1 << 32


def type_name(value: object) -> str:
    """Return the name of a type in MicroPython's messages."""
    return type(value).__name__


def int32(value: int) -> int:
    """Wrap a number as a C ``int`` does."""
    return (value + _WORD // 2) % _WORD - _WORD // 2


def get_int(value: object) -> int:
    """Return a C ``int``; True and False count as 1 and 0, everything else is a ``TypeError``."""
    if isinstance(value, int):
        return int32(int(value))
    raise TypeError(f"can't convert {type_name(value)} to int")


def get_float(value: object) -> float:
    """Return a float rounded to 32 bits; ``TypeError`` for what is no number."""
    if isinstance(value, int | float):
        return float(np.float32(value))
    raise TypeError(f"can't convert {type_name(value)} to float")


def get_items(value: object, count: int | None = None) -> Sequence[Any]:
    """Return a tuple or list, of exactly ``count`` elements when given."""
    if not isinstance(value, tuple | list):
        raise TypeError(f"object '{type_name(value)}' is not a tuple or list")
    if count is not None and len(value) != count:
        raise ValueError(f"requested length {count} but object has length {len(value)}")
    return value


def get_text(value: object) -> str | bytes:
    """Return a string or bytes."""
    if isinstance(value, str | bytes):
        return value
    raise TypeError(f"can't convert '{type_name(value)}' object to str implicitly")


def divide(a: int, b: int) -> int:
    """Divide as the RISC-V core does: towards zero, and -1 for a division by zero."""
    return -1 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def to_uint8(a: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert floats to ``uint8_t`` as the RISC-V core does: truncate, negative becomes 0, keep the low 8 bits."""
    low: NDArray[np.uint8] = (np.maximum(np.trunc(a), 0).astype(np.int64) & 0xFF).astype(np.uint8)
    return low


def check(condition: bool, text: str) -> None:
    """Raise the firmware's ``OSError(text)`` unless the condition holds."""
    if not condition:
        raise OSError(text)


def check_count(given: int, least: int, most: int | None = None) -> None:
    """Check the number of positional arguments, the object itself included."""
    if most is not None and least == most and given != least:
        raise TypeError(f"function takes {least} positional arguments but {given} were given")
    if given < least:
        raise TypeError(f"function missing {least - given} required positional arguments")
    if most is not None and given > most:
        raise TypeError(f"function expected at most {most} arguments, got {given}")


def positional(values: tuple[Any, ...], keywords: dict[str, Any], least: int, most: int | None = None) -> None:
    """Check a call of a method that takes ``least`` to ``most`` arguments by position and none by keyword."""
    if keywords:
        raise TypeError("function does not take keyword arguments")
    check_count(len(values) + 1, least + 1, (least if most is None else most) + 1)


class Arguments:
    """The arguments of one call. Positions count from 0 and do not include the image itself."""

    __slots__ = ("keywords", "values")

    def __init__(self, values: tuple[Any, ...], keywords: dict[str, Any], required: int = 0) -> None:
        check_count(len(values) + 1, required + 1)
        self.values = values
        self.keywords = keywords

    def has(self, position: int, name: str) -> bool:
        """Whether an optional argument was given."""
        return name in self.keywords or len(self.values) > position

    def get(self, position: int, name: str) -> Any:
        """Return an optional argument that was given."""
        return self.keywords[name] if name in self.keywords else self.values[position]

    def integer(self, position: int, name: str, default: int) -> int:
        """Return an integer."""
        return get_int(self.get(position, name)) if self.has(position, name) else default

    def number(self, position: int, name: str, default: float) -> float:
        """Return a 32-bit float."""
        return get_float(self.get(position, name)) if self.has(position, name) else float(np.float32(default))

    def flag(self, position: int, name: str, default: bool = False) -> bool:
        """Return an integer as a truth value."""
        return bool(self.integer(position, name, default))

    def group(self, position: int, count: int) -> tuple[Sequence[Any], int]:
        """Return ``count`` values that come as one tuple or list or as separate arguments, and the next position."""
        if isinstance(self.values[position], tuple | list):
            return get_items(self.values[position], count), position + 1
        check(len(self.values) - position >= count, "Not enough positional arguments!")
        return self.values[position : position + count], position + count

    def integers(self, position: int, count: int) -> tuple[list[int], int]:
        """``group`` of integers."""
        items, position = self.group(position, count)
        return [get_int(v) for v in items], position

    def roi(self, position: int, width: int, height: int, name: str = "roi") -> tuple[int, int, int, int]:
        """Return a region (x, y, w, h) cut to the picture; the whole picture when it was not given."""
        if not self.has(position, name):
            return 0, 0, width, height
        x, y, w, h = (_int16(get_int(v)) for v in get_items(self.get(position, name), 4))
        check(w >= 1 and h >= 1, "Invalid ROI dimensions!")
        check(x < width and y < height and x + w > 0 and y + h > 0, "ROI does not overlap on the image!")
        left, top = max(x, 0), max(y, 0)
        return left, top, min(x + w, width) - left, min(y + h, height) - top


def _int16(value: int) -> int:
    """Wrap a number as the rectangle's 16-bit fields do."""
    return (value + 0x8000) % 0x10000 - 0x8000
