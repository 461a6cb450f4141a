"""The program that runs in the chip's SRAM and writes its flash, and where to find it.

It is the work of the makers of kflash and is not part of this package. The Python package ``kflash`` (MIT licence, part
of the extra ``flash``) holds it as text in its source; it is read from there, without running that code. Any other
program that speaks the same protocol can be given as a file.
"""

from __future__ import annotations

import ast
import binascii
import importlib.util
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openkpu.api import read_file
from openkpu.errors import SetupError

MAX_BYTES: Final = 512 * 1024
_NAME: Final = "ISP_PROG"


@dataclass(frozen=True, slots=True)
class Stub:
    """A flash program, and where it is from."""

    data: bytes
    source: str


def find(file: Path | None = None) -> Stub:
    """Return the flash program from ``file``, or the one inside the installed package ``kflash``; E524, E533."""
    if file is not None:
        data = read_file(file)
        if not data or len(data) > MAX_BYTES or data[:4] == b"\x7fELF":
            raise _unusable(str(file), f"a plain binary of 1 to {MAX_BYTES} bytes is needed")
        return Stub(data, str(file))
    module = _kflash()
    if module is None:
        raise SetupError(
            "E524",
            "the program that writes flash is missing",
            why="the chip's ROM can only load programs into SRAM; flash is written by a program of the makers of "
            "kflash, which is not part of OpenKPU",
            fix="pip install 'openkpu[flash]' brings it (in the package kflash), or give one with --bootloader FILE.",
        )
    return Stub(_embedded(module), f"the package kflash, {module.name}")


def _kflash() -> Path | None:
    """Return the source file of the installed package ``kflash``."""
    try:
        spec = importlib.util.find_spec("kflash")
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


def _embedded(module: Path) -> bytes:
    """Return the program in a source file of kflash: a zlib stream in hexadecimal, assigned to a name."""
    try:
        tree = ast.parse(module.read_text("utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        raise _unusable(str(module), f"it cannot be read: {error}") from error
    texts = [
        node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and any(isinstance(t, ast.Name) and t.id == _NAME for t in node.targets)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    if not texts:
        raise _unusable(str(module), f"it has no {_NAME}")
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(binascii.unhexlify(texts[0]), MAX_BYTES)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise _unusable(str(module), f"its {_NAME} is damaged: {error}") from error
    if not data or not unpacker.eof:
        raise _unusable(str(module), f"its {_NAME} has an impossible size")
    return data


def _unusable(where: str, why: str) -> SetupError:
    return SetupError(
        "E533",
        "this is no flash program",
        where=where,
        why=why,
        fix="pip install --force-reinstall kflash, or give the plain binary of a flash program with --bootloader FILE.",
    )
