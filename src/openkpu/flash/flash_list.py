"""``flash-list.json``, the table of contents of a flash package: a lenient reader, and a writer for the stock tools.

Files in the wild are not always JSON: addresses are hexadecimal (``0x00A00000``), and there are comments and commas too
many. The stock tool, kflash, works line by line: it puts quotes around what follows ``"address": `` up to the last
comma of the line, and only then reads JSON. So the writer gives every field its own line, and the address not the last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from openkpu.errors import FileFormatError

NAME: Final = "flash-list.json"
VERSION: Final = "0.1.0"
MAX_BYTES: Final = 1 << 20
MAX_ENTRIES: Final = 1000

# Nothing here backtracks (possessive repeats), and a text or comment that never ends reaches to the end of the file:
# the time stays proportional to the size, whatever the file holds.
_COMMENT: Final = r"//[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/|\Z)"
_TOKENS: Final = re.compile(
    r'(?P<text>"(?:\\.?|[^"\\])*+(?:"|\Z))'
    rf"|(?P<comment>{_COMMENT})"
    r"|(?P<hex>\b0[xX][0-9a-fA-F]+\b)"
    r"|(?P<zeros>\b0+(?=\d))"
    rf"|(?P<comma>,(?=(?:\s|{_COMMENT})*+[\]}}]))",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table."""

    address: int
    bin: str
    """Name of the member."""
    sha256_prefix: bool = False
    reverse4: bool = False


def _bad(what: str, why: str) -> FileFormatError:
    return FileFormatError(
        "E121",
        f"{NAME} in the package {what}",
        where=NAME,
        why=why,
        fix='It should look like {"version": "0.1.0", "files": [{"address": 3145728, "bin": "m.kmodel", '
        '"sha256Prefix": false}]}.',
    )


def _strict(text: str) -> str:
    """Turn what is found in the wild into JSON."""

    def plain(match: re.Match[str]) -> str:
        if match["text"] is not None:
            return match["text"]
        return str(int(match["hex"], 16)) if match["hex"] is not None else ""

    return _TOKENS.sub(plain, text)


def parse(raw: bytes) -> list[Entry]:
    """Read the table; E121 says what is wrong with it."""
    if len(raw) > MAX_BYTES:
        raise _bad("is too large", f"{len(raw)} bytes, at most {MAX_BYTES} make sense")
    try:
        data = json.loads(_strict(raw.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        raise _bad("is not text", str(error)) from None
    except (ValueError, RecursionError) as error:
        raise _bad("cannot be read", str(error)) from None
    files = data.get("files") if isinstance(data, dict) else None
    if not isinstance(files, list):
        raise _bad("has no list of files", "there is no list called 'files'")
    if len(files) > MAX_ENTRIES:
        raise _bad("lists too many files", f"{len(files)} files, at most {MAX_ENTRIES} make sense")
    return [_entry(i, f) for i, f in enumerate(files)]


def _entry(i: int, data: Any) -> Entry:
    if not isinstance(data, dict):
        raise _bad("is damaged", f"file {i} is no object with address and bin")
    name = data.get("bin")
    if not isinstance(name, str) or not name:
        raise _bad("is damaged", f"file {i} has no name: bin is {name!r}")
    return Entry(
        _address(name, data.get("address")),
        name,
        _flag(name, "sha256Prefix", data.get("sha256Prefix", False)),
        _flag(name, "reverse4Bytes", data.get("reverse4Bytes", False)),
    )


def _address(name: str, value: Any) -> int:
    if isinstance(value, str):
        try:
            value = int(value.strip(), 0)
        except ValueError:
            value = repr(value)
    if isinstance(value, int) and value.bit_length() > 32:
        raise _bad("is damaged", f"the address of {name} has more than 32 bits")
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _bad("is damaged", f"the address of {name} is {value}, a byte address such as 3145728 is needed")
    return value


def _flag(name: str, key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _bad("is damaged", f"{key} of {name} is {value!r}, true or false is needed")
    return value


def render(entries: Sequence[Entry]) -> str:
    """Write the table so that both JSON readers and kflash's line-by-line reader understand it."""
    files: list[dict[str, Any]] = []
    for e in entries:
        file: dict[str, Any] = {"address": e.address, "bin": e.bin, "sha256Prefix": e.sha256_prefix}
        if e.reverse4:
            file["reverse4Bytes"] = True
        files.append(file)
    return json.dumps({"version": VERSION, "files": files}, indent=2) + "\n"
