"""The board's files: /sd and /flash, each a folder of this computer that a script cannot leave.

A mount may have an overlay: then what a script writes goes there, and the folder itself stays as it is.
"""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
from dataclasses import dataclass, field
from pathlib import Path


class _NumberedError(OSError):
    """An OSError as the firmware raises it: the number is its only argument, the text shows its name."""

    def __str__(self) -> str:
        number = self.args[0]
        return f"[Errno {number}] {errno.errorcode[number]}" if number in errno.errorcode else str(number)


_NumberedError.__name__ = _NumberedError.__qualname__ = "OSError"


def os_error(number: int) -> OSError:
    """Make such an error."""
    error = _NumberedError(number)
    error.errno = number
    return error


@dataclass(slots=True)
class Mount:
    """One file system. ``gone`` are names that a script removed although the folder below the overlay has them."""

    root: Path
    overlay: Path | None = None
    gone: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    """Names of files that the script wrote."""


class Storage:
    """Maps paths of the board to files of this computer. All errors are OSError with one number, as on the board."""

    def __init__(self, mounts: dict[str, Mount], cwd: str) -> None:
        self.mounts = mounts
        self.cwd = cwd

    def absolute(self, path: str) -> str:
        """The full path on the board, without . and .. parts."""
        return posixpath.normpath(posixpath.join(self.cwd, path))

    def locate(self, path: str, *, write: bool = False) -> Path:
        """Return the file of this computer behind a path of the board.

        ENODEV when nothing is mounted there, EPERM when it leaves the folder (through a link), ENOENT when removed.
        """
        mount, name = self._split(path)
        if mount.overlay is not None:
            top = self._inside(mount.overlay, name)
            if write:
                top.parent.mkdir(parents=True, exist_ok=True)
                return top
            if top.exists():
                return top
            if name in mount.gone:
                raise os_error(errno.ENOENT)
        return self._inside(mount.root, name)

    def _split(self, path: str) -> tuple[Mount, str]:
        full = self.absolute(path)
        head, _, rest = full.lstrip("/").partition("/")
        mount = self.mounts.get(head)
        if mount is None:
            raise os_error(errno.ENODEV)
        return mount, rest

    @staticmethod
    def _inside(root: Path, name: str) -> Path:
        if "\0" in name or "\\" in name or ":" in name:
            raise os_error(errno.EINVAL)
        target = root / name
        if not target.resolve().is_relative_to(root.resolve()):
            raise os_error(errno.EPERM)
        return target

    def for_writing(self, path: str, mode: str) -> Path:
        """Return the file to open with ``mode``; what is to be changed in place is copied into the overlay first."""
        mount, name = self._split(path)
        if not name:
            raise os_error(errno.EISDIR)
        if mount.overlay is not None and ("a" in mode or "+" in mode) and "w" not in mode:
            below = self.locate(path)
            above = self.locate(path, write=True)
            if below.is_file() and not above.exists():
                shutil.copyfile(below, above)
        target = self.locate(path, write=True)
        if not target.parent.is_dir():
            raise os_error(errno.ENOENT)
        mount.written.add(name)
        mount.gone.discard(name)
        return target

    def listdir(self, path: str = ".") -> list[str]:
        """Names in a folder, sorted."""
        if self.absolute(path) == "/":
            return sorted(self.mounts)
        mount, name = self._split(path)
        names: set[str] = set()
        found = False
        for root in (mount.root, mount.overlay):
            if root is None:
                continue
            folder = self._inside(root, name)
            if folder.is_dir():
                found = True
                names |= set(os.listdir(folder))
        if not found:
            raise os_error(errno.ENOENT)
        prefix = f"{name}/" if name else ""
        return sorted(n for n in names if prefix + n not in mount.gone)

    def is_dir(self, path: str) -> bool:
        """Whether it is a folder (the root is one)."""
        return self.absolute(path) == "/" or self.locate(path).is_dir()

    def chdir(self, path: str) -> None:
        """Change the working directory."""
        full = self.absolute(path)
        if not self.is_dir(full):
            raise os_error(errno.ENOENT)
        self.cwd = full

    def mkdir(self, path: str) -> None:
        """Make a folder."""
        if self.locate(path).exists():
            raise os_error(errno.EEXIST)
        self.locate(path, write=True).mkdir()
        mount, name = self._split(path)
        mount.gone.discard(name)

    def remove(self, path: str) -> None:
        """Remove a file or an empty folder."""
        mount, name = self._split(path)
        target = self.locate(path)
        if not target.exists() or not name:
            raise os_error(errno.ENOENT)
        if target.is_dir() and self.listdir(path):
            raise os_error(errno.EACCES)
        mount.written.discard(name)
        if mount.overlay is None or target.is_relative_to(mount.overlay):
            target.rmdir() if target.is_dir() else target.unlink()
        if mount.overlay is not None:
            mount.gone.add(name)

    def rename(self, old: str, new: str) -> None:
        """Rename a file."""
        source = self.locate(old)
        if not source.is_file():
            raise os_error(errno.ENOENT)
        target = self.for_writing(new, "w")
        mount, name = self._split(old)
        if mount.overlay is None or source.is_relative_to(mount.overlay):
            os.replace(source, target)
            mount.written.discard(name)
        else:
            shutil.copyfile(source, target)
        if mount.overlay is not None:
            mount.gone.add(name)
