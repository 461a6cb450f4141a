"""The modules ``os`` (also ``uos``) and ``io`` (also ``uio``) on the board's files."""

from __future__ import annotations

import errno
import io
import types
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from openkpu.board.device import Device
from openkpu.maixpy import mp

DIRECTORY, FILE = 0x4000, 0x8000
CLUSTER: Final = 4096


class Uname(NamedTuple):
    """What ``os.uname`` returns."""

    sysname: str
    nodename: str
    release: str
    version: str
    machine: str


class Functions:
    """The functions of ``os``; every public method is one."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._storage = device.storage

    def getcwd(self) -> str:
        """The working directory."""
        return self._storage.cwd

    def chdir(self, *args: Any) -> None:
        """Change the working directory."""
        mp.positional(args, 1, 1)
        self._storage.chdir(self._path(args[0]))

    def listdir(self, *args: Any) -> list[str]:
        """Names in a folder."""
        mp.positional(args, 0, 1)
        return self._storage.listdir(self._path(args[0]) if args else ".")

    def ilistdir(self, *args: Any) -> Iterator[tuple[str, int, int]]:
        """(name, kind, 0) of everything in a folder."""
        where = self._path(args[0]) if args else "."
        for name in self.listdir(where):
            yield name, DIRECTORY if self._storage.is_dir(f"{where}/{name}") else FILE, 0

    def mkdir(self, *args: Any) -> None:
        """Make a folder."""
        mp.positional(args, 1, 1)
        self._guard(self._storage.mkdir, self._path(args[0]))

    def remove(self, *args: Any) -> None:
        """Remove a file."""
        mp.positional(args, 1, 1)
        self._guard(self._storage.remove, self._path(args[0]))

    rmdir = remove

    def rename(self, *args: Any) -> None:
        """Rename a file."""
        mp.positional(args, 2, 2)
        self._guard(self._storage.rename, self._path(args[0]), self._path(args[1]))

    def stat(self, *args: Any) -> tuple[int, ...]:
        """The ten numbers of a file; kind first, size seventh."""
        mp.positional(args, 1, 1)
        path = self._path(args[0])
        if self._storage.is_dir(path):
            return (DIRECTORY, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        file = self._storage.locate(path)
        if not file.is_file():
            raise mp.os_error(errno.ENOENT)
        return (FILE, 0, 0, 0, 0, 0, file.stat().st_size, 0, 0, 0)

    def statvfs(self, *args: Any) -> tuple[int, ...]:
        """The ten numbers of a file system: 3 MiB for /flash, 8 GiB for /sd."""
        mp.positional(args, 1, 1)
        full = self._storage.absolute(self._path(args[0]))
        blocks = (3 * 1024**2 if full.startswith("/flash") else 8 * 1024**3) // CLUSTER
        return (CLUSTER, CLUSTER, blocks, blocks // 2, blocks // 2, 0, 0, 0, 0, 255)

    def uname(self) -> Uname:
        """What this is."""
        return Uname("MaixPy", "MaixPy", "1.12.0", "v0.6.2 (virtual board)", "Sipeed_M1 with kendryte-k210")

    def urandom(self, *args: Any) -> bytes:
        """Random bytes, the same in every run with the same seed."""
        mp.positional(args, 1, 1)
        return self._device.random.randbytes(mp.need_int(args[0]))

    def sync(self) -> None:
        """Nothing to do."""

    def mount(self, *_: Any, **__: Any) -> None:
        """Accepted: /sd and /flash are mounted already."""

    umount = mount

    def flash_format(self) -> None:
        """Not done."""
        self._device.warn("os.flash_format does nothing on the virtual board")

    @staticmethod
    def _path(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(f"can't convert '{type(value).__name__}' object to str implicitly")
        return value

    @staticmethod
    def _guard(function: Any, *args: str) -> None:
        try:
            function(*args)
        except OSError as error:
            raise mp.os_error(error.errno or errno.EIO) from None


def build_os(device: Device) -> types.ModuleType:
    """Make the module ``os`` for one board."""
    f = Functions(device)
    return mp.module("uos", "The board's files.", {n: getattr(f, n) for n in dir(f) if not n.startswith("_")})


def board_open(device: Device) -> Any:
    """Make ``open`` for one board."""

    def open(file: Any, mode: str = "r", *_: Any, **__: Any) -> Any:
        """Open a file of the board."""
        if not isinstance(file, str):
            raise TypeError(f"can't convert '{type(file).__name__}' object to str implicitly")
        if not isinstance(mode, str) or not set(mode) <= set("rwaxbt+") or not mode:
            raise ValueError("invalid mode")
        return device.open_file(file, mode)

    return open


def build_io(device: Device) -> types.ModuleType:
    """Make the module ``io`` for one board."""
    members = {"StringIO": io.StringIO, "BytesIO": io.BytesIO, "open": board_open(device)}
    return mp.module("uio", "Streams.", members)
