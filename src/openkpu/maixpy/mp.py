"""MicroPython's traits that show: 32-bit floats, printed forms, argument checks, error numbers."""

from __future__ import annotations

import errno
import math
import struct
import types
from collections.abc import Callable, Sequence
from typing import Any, Final

from openkpu.board.storage import os_error as os_error
from openkpu.errors import OpenKPUError

MISSING: Final = object()
"""The default of an argument that was not given."""


def f32(value: float) -> float:
    """Round to the firmware's 32-bit float."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def float_text(value: float) -> str:
    """A float as the firmware prints it: 7 significant digits of its 32-bit value."""
    value = f32(value)
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    text = f"{value:.7g}"
    return text if "." in text or "e" in text else text + ".0"


def to_repr(value: Any) -> str:
    """``repr`` with the firmware's floats, also inside tuples, lists and dicts."""
    kind = type(value)
    if kind is float:
        return float_text(value)
    if kind is tuple:
        inner = ", ".join(map(to_repr, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if kind is list:
        return "[" + ", ".join(map(to_repr, value)) + "]"
    if kind is dict:
        return "{" + ", ".join(f"{to_repr(k)}: {to_repr(v)}" for k, v in value.items()) + "}"
    if isinstance(value, BaseException):
        return f"{kind.__name__}({', '.join(map(to_repr, value.args))}{',' if len(value.args) == 1 else ''})"
    return repr(value)


def to_str(value: Any) -> str:
    """``str`` as the firmware's ``print`` shows it."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, BaseException):
        return exception_text(value)
    return to_repr(value) if type(value) in (float, tuple, list, dict) else str(value)


def exception_text(error: BaseException) -> str:
    """The text of an exception; an OSError of one number shows its name."""
    args = error.args
    if isinstance(error, RecursionError):
        return "maximum recursion depth exceeded"  # the host's text says more, and differs between its versions
    if isinstance(error, OpenKPUError):
        return f"{error.code}: {error.what}: {error.why}"
    if isinstance(error, OSError) and error.errno is not None:
        args = (error.errno,)
    if not args:
        return ""
    if len(args) == 1:
        if isinstance(error, OSError) and isinstance(args[0], int) and args[0] in errno.errorcode:
            return f"[Errno {args[0]}] {errno.errorcode[args[0]]}"
        return to_str(args[0]) if not isinstance(error, KeyError) else to_repr(args[0])
    return to_repr(args)


def exact_int(*values: Any) -> bool:
    """Whether all are of type int itself; the firmware's checks take no bool."""
    return all(type(v) is int for v in values)


def need_int(value: Any) -> int:
    """An int from an int or bool; the firmware's TypeError for anything else."""
    if isinstance(value, int):
        return int(value)
    raise TypeError(f"can't convert {type(value).__name__} to int")


def need_float(value: Any) -> float:
    """A 32-bit float from a number; the firmware's TypeError for anything else."""
    if isinstance(value, int | float):
        return f32(value)
    raise TypeError(f"can't convert {type(value).__name__} to float")


def need_array(value: Any, length: int | None = None) -> Sequence[Any]:
    """A tuple or list; with ``length`` of exactly that length."""
    if not isinstance(value, tuple | list):
        raise TypeError(f"object '{type(value).__name__}' isn't a tuple or list")
    if length is not None and len(value) != length:
        raise ValueError(f"requested length {length} but object has length {len(value)}")
    return value


def bytes_of(value: Any) -> bytes:
    """The bytes of an object with the buffer protocol."""
    try:
        return bytes(memoryview(value))
    except TypeError:
        view = getattr(value, "_buffer", None)
        if view is None:
            raise TypeError("object with buffer protocol required") from None
        return bytes(view())


def module(name: str, doc: str, members: dict[str, Any]) -> types.ModuleType:
    """A module of the board with these members."""
    made = types.ModuleType(name, doc)
    made.__dict__.update(members)
    return made


def positional(args: tuple[Any, ...], least: int, most: int | None = None) -> None:
    """Check the number of positional arguments; the firmware's TypeError."""
    if len(args) < least:
        raise TypeError(f"function missing {least - len(args)} required positional arguments")
    if most is not None and len(args) > most:
        raise TypeError(f"function expected at most {most} arguments, got {len(args)}")


def arguments(spec: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, least: int = 0) -> dict[str, Any]:
    """Match arguments to names as ``mp_arg_parse_all`` does: too many or unknown ones are a TypeError."""
    positional(args, least)
    if len(args) > len(spec):
        raise TypeError("extra positional arguments given")
    values = dict(spec)
    for name, value in zip(spec, args, strict=False):
        values[name] = value
    for name, value in kwargs.items():
        if name not in spec or name in list(spec)[: len(args)]:
            raise TypeError("extra keyword arguments given")
        values[name] = value
    return values


Function = Callable[..., Any]
