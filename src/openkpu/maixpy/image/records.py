"""Result objects of the firmware: every field is a method, also an element by index, and the print-out is like JSON."""

from __future__ import annotations

from typing import Any, ClassVar

from openkpu.maixpy.image.arguments import check, type_name


class Record:
    """A tuple of values with a name for each."""

    __slots__ = ("_values",)
    __iter__ = None
    FIELDS: ClassVar[tuple[str, ...]] = ()
    NAME: ClassVar[str] = ""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self._values = values

    def __init_subclass__(cls) -> None:
        """Make a method of every field that the class does not define itself."""
        super().__init_subclass__()
        for at, name in enumerate(cls.FIELDS):
            if name not in cls.__dict__:
                setattr(cls, name, _getter(at, name))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            check(index.step is None or index.step == 1, "only slices with step=1 (aka None) are supported")
            return self._values[index]
        if not isinstance(index, int):
            raise TypeError(f"{self.NAME} indices must be integers, not {type_name(index)}")
        if not -len(self._values) <= index < len(self._values):
            raise IndexError(f"{self.NAME} index out of range")
        return self._values[index]

    def __repr__(self) -> str:
        pairs = zip(self.FIELDS, self._values, strict=False)
        return "{" + ", ".join(f'"{name}":{_shown(value)}' for name, value in pairs) + "}"


def _shown(value: object) -> str:
    return f"{value:f}" if isinstance(value, float) else str(value)


def _getter(at: int, name: str) -> Any:
    def get(self: Record) -> Any:
        return self._values[at]

    get.__name__ = name
    get.__doc__ = f"Return {name}."
    return get
