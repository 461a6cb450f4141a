"""Where a script runs: its builtins, its imports, its ``__main__``. The host's modules stay as they are.

The script's code sees builtins of its own (``open``, ``print``, ``exec``, ``input``, ``__import__``): a function takes
its builtins from the globals it was made with. So ``import time`` in the script gives the board's ``time``
while everything else in this process keeps the host's.
"""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Callable
from typing import Any, Final

from openkpu.board.device import Device
from openkpu.maixpy import absent, clock_modules, files, fpioa, image, kpu, lcd, machine, maix, mp, sensor, system
from openkpu.maixpy.image.image import image_class

SAME: Final = {
    f"u{n}": n for n in ("time", "os", "io", "json", "struct", "binascii", "random", "collections", "re")
} | {
    "uhashlib": "hashlib",
    "uheapq": "heapq",
    "uzlib": "zlib",
    "uerrno": "errno",
    "uarray": "array",
    "usys": "sys",
}
"""A module's other name -> its name here."""
MISSING_BUILTINS: Final = ("breakpoint", "copyright", "credits", "license", "quit", "exit", "help")


class Script:
    """One script on one board."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.modules: dict[str, types.ModuleType] = {}
        self.path = ["", ".", "/sd", "/flash"] if "sd" in device.storage.mounts else ["", ".", "/flash"]
        self.files: set[str] = set()
        self.image = image.build(device)
        device.image_class = image_class(device.full_firmware)
        self._makers: dict[str, Callable[[], types.ModuleType]] = {
            "KPU": lambda: kpu.build(device),
            "sensor": lambda: sensor.build(device),
            "lcd": lambda: lcd.build(device),
            "image": lambda: self.image,
            "Maix": lambda: maix.build(device),
            "machine": lambda: machine.build(device),
            "fpioa_manager": lambda: fpioa.build_manager(device, self.load("Maix").FPIOA),
            "board": lambda: maix.build_board(device, self.load("Maix")),
            "time": lambda: clock_modules.build(device),
            "os": lambda: files.build_os(device),
            "io": lambda: files.build_io(device),
            "sys": lambda: system.build_sys(device, self.path, self.modules, self.files),
            "gc": lambda: system.build_gc(device),
            "micropython": lambda: system.build_micropython(device),
            "random": lambda: system.build_random(device),
            "_thread": lambda: system.build_thread(device),
        }
        self.builtins = self._builtins()

    # -- builtins -------------------------------------------------------------------------------------------------

    def _builtins(self) -> dict[str, Any]:
        names = {n: v for n, v in vars(builtins).items() if n not in MISSING_BUILTINS}
        names |= {
            "open": files.board_open(self.device),
            "print": self._print,
            "input": self._input,
            "repr": mp.to_repr,
            "bytearray": system.ByteArray,
            "exec": self._exec,
            "execfile": self._execfile,
            "__import__": self._import,
        }
        return names

    def _print(self, *values: Any, sep: str = " ", end: str = "\n", file: Any = None, **_: Any) -> None:
        text = sep.join(map(mp.to_str, values)) + end
        if file is None:
            self.device.print(text)
        else:
            file.write(text)

    def _input(self, prompt: str = "") -> str:
        self.device.print(prompt)
        return self.device.input_line()

    def _exec(self, source: Any, scope: dict[str, Any] | None = None, local: dict[str, Any] | None = None) -> None:
        """``exec``; without namespaces it works on the module's globals, inside functions too, as MicroPython does."""
        if scope is None:
            scope = sys._getframe(1).f_globals
        scope.setdefault("__builtins__", self.builtins)
        code = compile(source, "<string>", "exec") if isinstance(source, str | bytes) else source
        self.files.add("<string>")
        exec(code, scope, local)

    def _execfile(self, name: str) -> None:
        self.run_source(self.device.open(name), name, sys._getframe(1).f_globals)

    # -- imports --------------------------------------------------------------------------------------------------

    def _import(
        self, name: str, scope: Any = None, local: Any = None, names: Any = (), level: int = 0
    ) -> types.ModuleType:
        if level:
            package = (scope or {}).get("__package__") or (scope or {}).get("__name__", "")
            base = package.rsplit(".", level - 1)[0] if level > 1 else package
            name = f"{base}.{name}" if name else base
            names = names or ("",)
        top, _, rest = name.partition(".")
        found = made = self.load(top)
        for part in rest.split(".") if rest else ():
            made = self._submodule(made, part)
        for n in names or ():
            if n and n != "*" and not hasattr(made, n) and hasattr(made, "__path__"):
                self._submodule(made, n)
        return made if names else found

    def _submodule(self, parent: types.ModuleType, name: str) -> types.ModuleType:
        full = f"{parent.__name__}.{name}"
        made = self.modules.get(full)
        if made is None:
            value = getattr(parent, name, None)
            if isinstance(value, types.ModuleType):
                return value
            folder = getattr(parent, "__path__", None)
            made = self._from_file(f"{folder}/{name}", full) if folder else None
            if made is None:
                raise ImportError(f"no module named '{full}'")
            setattr(parent, name, made)
        return made

    def load(self, name: str) -> types.ModuleType:
        """Import a module of the board, or a file of the script's."""
        made = self.modules.get(SAME.get(name, name)) or self.modules.get(name)
        if made is not None:
            return made
        plain = SAME.get(name, name)
        maker = self._makers.get(plain)
        if maker is not None:
            made = maker()
        elif plain in system.HOST:
            made = system.build_host(plain)
        if made is not None:
            self.modules[plain] = made
            return made
        for folder in self.path:
            made = self._from_file(f"{folder}/{name}" if folder not in ("", ".") else name, name)
            if made is not None:
                return made
        if name in absent.ABSENT:
            self.modules[name] = made = absent.build(self.device, name)
            return made
        if name in sys.stdlib_module_names or name in ("numpy", "cv2", "PIL"):
            self.device.warn(f"import {name}: this computer may have it, a board does not")
        raise ImportError(f"no module named '{name}'")

    def _from_file(self, path: str, name: str) -> types.ModuleType | None:
        storage = self.device.storage
        for candidate, folder in ((f"{path}/__init__.py", path), (f"{path}.py", None)):
            try:
                file = storage.locate(candidate)
                if not file.is_file():
                    continue
                source = self.device.open(candidate)
            except OSError:
                continue
            made = types.ModuleType(name)
            made.__dict__["__builtins__"] = self.builtins
            made.__dict__["__package__"] = name if folder else name.rpartition(".")[0]
            if folder:
                made.__dict__["__path__"] = storage.absolute(folder)
            self.modules[name] = made
            try:
                self.run_source(source, candidate, made.__dict__)
            except BaseException:
                self.modules.pop(name, None)
                raise
            return made
        return None

    # -- running --------------------------------------------------------------------------------------------------

    def main(self) -> dict[str, Any]:
        """The globals that the firmware's boot script leaves for the script."""
        made = types.ModuleType("__main__")
        self.modules["__main__"] = made
        scope = made.__dict__
        for name in ("__doc__", "__package__", "__loader__", "__spec__"):
            scope.pop(name, None)
        scope["__builtins__"] = self.builtins
        for name in ("os", "sys", "time"):
            scope[name] = self.load(name)
        return scope

    def run_source(self, source: bytes, name: str, scope: dict[str, Any]) -> None:
        """Compile and run; ``name`` is what tracebacks show."""
        self.files.add(name)
        try:
            code = compile(source, name, "exec", dont_inherit=True)
        except TabError:
            code = compile(_tabs_of_eight(source), name, "exec", dont_inherit=True)
        exec(code, scope)


def _tabs_of_eight(source: bytes) -> bytes:
    """Indentation with every tab replaced as MicroPython counts it, which takes mixtures that Python refuses."""
    lines = source.splitlines(keepends=True)
    bare = [line.lstrip(b" \t") for line in lines]
    return b"".join(line[: len(line) - len(rest)].expandtabs(8) + rest for line, rest in zip(lines, bare, strict=True))
