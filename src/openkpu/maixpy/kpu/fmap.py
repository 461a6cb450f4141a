"""The result of a run as a script sees it: a view of the model's memory, overwritten by the next run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy import mp

_STEP: Final = "only slices with step=1 (aka None) are supported"


class kpu_fmap:  # noqa: N801 - the name that the firmware shows
    """A feature map. ``data`` is uint8, an alias of the model's main memory at ``address`` of the chip."""

    def __init__(
        self,
        data: NDArray[np.uint8],
        address: int,
        shape: tuple[int, int, int],
        typecode: str,
        index: int,
        say: Callable[[str], None],
        crash: Callable[[], NoReturn],
    ) -> None:
        self._data = data
        self._address = address
        self._w, self._h, self._ch = shape
        self._code = typecode
        self._index = index
        self._say = say
        self._crash = crash

    def size(self) -> int:
        """Bytes."""
        return self._data.size

    def index(self) -> int:
        """Number of the layer that made it."""
        return self._index

    def w(self) -> int:
        """Width; the size in bytes where the model does not end with a KPU layer."""
        return self._w

    def h(self) -> int:
        """Height."""
        return self._h

    def ch(self) -> int:
        """Channels."""
        return self._ch

    def typecode(self) -> str:
        """Crashes the board."""
        self._crash()

    def __repr__(self) -> str:
        return (
            f'{{"fmap": "data"=0x{self._address:x}, "size"={self.size()}, "index": {self._index}, "w": {self._w}, '
            f'"h": {self._h}, "ch": {self._ch}, "typecode": {self._code}}}'
        )

    def _buffer(self) -> NDArray[np.uint8]:
        return self._data

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self._data)  # type: ignore[arg-type]

    def _items(self) -> NDArray[Any] | None:
        if self._code == "B":
            return self._data
        return self._data[: self._data.size // 4 * 4].view(np.float32) if self._code == "f" else None

    def _slice(self, index: slice, count: int) -> slice:
        if index.step not in (None, 1):
            raise OSError(_STEP)
        start, stop, _ = index.indices(count)
        return slice(start, max(start, stop))

    def __getitem__(self, index: Any) -> Any:
        items = self._items()
        if items is None:
            self._say("typecode don't support read!\r\n")
            raise TypeError("'kpu_fmap' object isn't subscriptable")
        if isinstance(index, slice):
            return tuple(items[self._slice(index, items.size)].tolist())
        return items[self._one(index, items.size)].item()

    def __setitem__(self, index: Any, value: Any) -> None:
        items = self._items()
        if items is None:
            self._say("typecode don't support write!\r\n")
            raise TypeError("'kpu_fmap' object doesn't support item assignment")
        if not isinstance(index, slice):
            items[self._one(index, items.size)] = self._value(value)
            return
        place = self._slice(index, items.size)
        if isinstance(value, list):
            if len(value) != place.stop - place.start:
                raise OSError("cannot grow or shrink image")
            items[place] = [self._value(v) for v in value]
        else:
            items[place] = self._value(value)

    @staticmethod
    def _one(index: Any, count: int) -> int:
        if not isinstance(index, int):
            raise TypeError(f"kpu_fmap indices must be integers, not {type(index).__name__}")
        position = index + count if index < 0 else index
        if not 0 <= position < count:
            raise IndexError("kpu_fmap index out of range")
        return position

    def _value(self, value: Any) -> Any:
        return mp.need_int(value) & 0xFF if self._code == "B" else np.float32(mp.need_float(value))

    __iter__ = None  # as on the board: take fmap[:]
