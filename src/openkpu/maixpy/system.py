"""The modules ``sys``, ``gc``, ``micropython``, ``random``, and those that are the host's own under other names."""

from __future__ import annotations

import array
import binascii
import cmath
import collections
import errno
import gc as host_gc
import hashlib
import heapq
import itertools
import json
import math
import re
import struct
import sys as host_sys
import traceback
import types
import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from openkpu.board.device import Device
from openkpu.maixpy import mp

HOST: Final[dict[str, tuple[types.ModuleType, str]]] = {
    "math": (math, ""),
    "cmath": (cmath, ""),
    "array": (array, "array"),
    "json": (json, "load loads dump dumps"),
    "struct": (struct, "calcsize pack pack_into unpack unpack_from"),
    "binascii": (binascii, "a2b_base64 b2a_base64 hexlify unhexlify crc32"),
    "hashlib": (hashlib, "md5 sha1 sha256"),
    "heapq": (heapq, "heapify heappop heappush"),
    "zlib": (zlib, "decompress"),
    "re": (re, "compile match search sub"),
    "errno": (errno, ""),
    "collections": (collections, "OrderedDict deque namedtuple"),
}
"""Board module -> the host's module and the names that the firmware has of it (empty: all public ones)."""


class Implementation(NamedTuple):
    """``sys.implementation``."""

    name: str
    version: tuple[int, int, int]


def _of_text(value: Any) -> Any:
    """A str as its bytes, which MicroPython takes wherever it takes bytes."""
    return value.encode() if isinstance(value, str) else value


def _pack(layout: str, *values: Any) -> bytes:
    """As struct.pack; text counts as bytes."""
    return struct.pack(layout, *map(_of_text, values))


def _readable(value: Any) -> Any:
    """An object of the board with a buffer (a feature map) as one of the host's, which Python 3.11 cannot see."""
    view = getattr(value, "_buffer", None)
    return _of_text(value) if view is None else view()


def _unpack(layout: str, data: Any) -> tuple[Any, ...]:
    """As struct.unpack, from any object with a buffer."""
    return struct.unpack(layout, _readable(data))


def _unpack_from(layout: str, data: Any, offset: int = 0) -> tuple[Any, ...]:
    """As struct.unpack_from, from any object with a buffer."""
    return struct.unpack_from(layout, _readable(data), offset)


def _crc32(data: Any, crc: int = 0) -> int:
    """As binascii.crc32, of any object with a buffer."""
    return binascii.crc32(_readable(data), crc)


class _AnyByteArray(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, bytearray)


class ByteArray(bytearray, metaclass=_AnyByteArray):
    """``bytearray`` of the board, which also takes text without an encoding; what it makes are the host's."""

    def __new__(cls, *args: Any) -> Any:
        """Make a bytearray."""
        return bytearray(*map(_of_text, args)) if len(args) == 1 else bytearray(*args)


def build_host(name: str) -> types.ModuleType:
    """Make a module of the board from the host's."""
    source, names = HOST[name]
    chosen = names.split() or [n for n in dir(source) if not n.startswith("_")]
    members = {n: getattr(source, n) for n in chosen}
    if source is struct:
        members |= {"pack": _pack, "unpack": _unpack, "unpack_from": _unpack_from}
    if source is binascii:
        members["crc32"] = _crc32
    return mp.module(f"u{name}", f"As the host's {name}.", members)


def board_traceback(error: BaseException, files: set[str]) -> str:
    """A traceback as MicroPython prints it: the script's own lines only, without their text.

    Lines of endless recursion are counted, not repeated. MicroPython knows no ``RecursionError``.
    """
    calls = [
        f'  File "{frame.f_code.co_filename}", line {number}, in {frame.f_code.co_name}\n'
        for frame, number in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename in files
    ]
    lines = []
    for line, same in itertools.groupby(calls):
        repeats = len(list(same)) - 1
        lines.append(line)
        lines.append(line if repeats == 1 else f"  the line above {repeats} more times\n" if repeats else "")
    if isinstance(error, SyntaxError) and error.filename in files:
        lines.append(f'  File "{error.filename}", line {error.lineno}\n')
        return "Traceback (most recent call last):\n" + "".join(lines) + f"SyntaxError: {error.msg}\n"
    head = "Traceback (most recent call last):\n" if lines else ""
    name = "RuntimeError" if isinstance(error, RecursionError) else type(error).__name__
    return f"{head}{''.join(lines)}{name}: {mp.exception_text(error)}\n"


def build_sys(
    device: Device, path: list[str], modules: dict[str, types.ModuleType], files: set[str]
) -> types.ModuleType:
    """Make ``sys``; ``path`` and ``modules`` are the importer's own."""

    def print_exception(error: BaseException, file: Any = None) -> None:
        """Print a traceback, to a stream if given."""
        text = board_traceback(error, files)
        if file is None or file is console:
            device.print(text)
        else:
            file.write(text)

    def leave(code: Any = 0) -> None:
        """End the script."""
        raise SystemExit(code)

    console = Console(device)
    members: dict[str, Any] = {
        "path": path,
        "argv": [],
        "modules": modules,
        "version": "3.4.0",
        "version_info": (3, 4, 0),
        "implementation": Implementation("micropython", (0, 6, 2)),
        "platform": "MaixPy",
        "byteorder": "little",
        "maxsize": host_sys.maxsize,
        "exit": leave,
        "print_exception": print_exception,
        "stdin": console,
        "stdout": console,
        "stderr": console,
    }
    return mp.module("sys", "The interpreter.", members)


class Console:
    """The serial console as a stream."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def write(self, text: Any) -> int:
        """Print."""
        self._device.print(text if isinstance(text, str) else bytes(text).decode("utf-8", "replace"))
        return len(text)

    def readline(self, *_: Any) -> str:
        """A line that somebody types."""
        return self._device.input_line() + "\n"

    def read(self, *_: Any) -> str:
        """As readline."""
        return self.readline()

    def flush(self) -> None:
        """Nothing to do."""


def build_gc(device: Device) -> types.ModuleType:
    """Make ``gc``: the board's GC heap, which holds images and what the script allocates."""
    state = {"threshold": -1, "enabled": True}

    def collect() -> int:
        """Free what nobody uses any more."""
        host_gc.collect()
        device.collect()
        device.poll()
        return 0

    def threshold(*args: Any) -> int | None:
        """How much may be allocated until a collection."""
        if not args:
            return state["threshold"]
        state["threshold"] = mp.need_int(args[0])
        return None

    def switch(on: bool) -> Callable[[], None]:
        def change() -> None:
            state["enabled"] = on

        return change

    members: dict[str, Callable[..., Any]] = {
        "collect": collect,
        "threshold": threshold,
        "mem_free": lambda: device.gc.free,
        "mem_alloc": lambda: device.gc.used,
        "enable": switch(True),
        "disable": switch(False),
        "isenabled": lambda: state["enabled"],
    }
    return mp.module("gc", "The GC heap.", members)


def build_micropython(device: Device) -> types.ModuleType:
    """Make ``micropython``."""

    def same(value: Any) -> Any:
        return value

    def nothing(*_: Any) -> None:
        return None

    def mem_info(*_: Any) -> None:
        gc = device.gc
        device.print(f"GC: total: {gc.size}, used: {gc.used}, free: {gc.free}\n")

    def schedule(function: Callable[[Any], Any], arg: Any) -> None:
        function(arg)

    members: dict[str, Any] = {"const": same, "mem_info": mem_info, "schedule": schedule}
    members |= dict.fromkeys(("native", "viper", "asm_thumb"), same)
    quiet = ("opt_level", "alloc_emergency_exception_buf", "kbd_intr", "heap_lock", "heap_unlock")
    members |= dict.fromkeys(quiet, nothing)
    return mp.module("micropython", "The interpreter's own things.", members)


def build_random(device: Device) -> types.ModuleType:
    """Make ``random`` from the board's seeded generator."""
    r = device.random
    names = ("seed", "getrandbits", "randrange", "randint", "choice", "random", "uniform")
    return mp.module("urandom", "Random numbers, the same with the same seed.", {n: getattr(r, n) for n in names})


def build_thread(device: Device) -> types.ModuleType:
    """Make ``_thread`` on the host's threads."""
    import _thread

    def start_new_thread(
        function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
    ) -> int:
        """Run a function beside the script."""

        def run() -> None:
            try:
                function(*args, **(kwargs or {}))
            except SystemExit:
                return
            except BaseException as error:
                device.print(f"Unhandled exception in thread: {type(error).__name__}: {mp.exception_text(error)}\n")

        if not device.full_firmware:
            device.warn("this firmware build is taken to have threads; the minimum builds have none")
        return _thread.start_new_thread(run, ())

    members = {
        "start_new_thread": start_new_thread,
        "allocate_lock": _thread.allocate_lock,
        "get_ident": _thread.get_ident,
        "exit": _thread.exit,
        "stack_size": lambda *_: 0,
    }
    return mp.module("_thread", "Threads.", members)
