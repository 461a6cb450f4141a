"""Check the direction of imports in ``src/openkpu`` against the table in ``tools/rooms.py``.

Prints every import that breaks the rule and exits with 1 if there is one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))

from rooms import ROOMS

PACKAGE: Final = Path(__file__).parents[1] / "src" / "openkpu"


def room_of(file: Path, package: Path) -> str:
    """Return the room of a Python file: its top folder, or its own name at the top."""
    first = file.relative_to(package).parts[0]
    return first.removesuffix(".py")


def imported_rooms(source: str, known: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Yield (line, room) for every import of a part of openkpu, wherever in the file it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "(relative import)"
                continue
            names = [f"{node.module}.{a.name}" for a in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "openkpu":
                room = parts[1] if len(parts) > 1 else "__init__"
                # `from openkpu import load` is a name of the public API, not a room.
                yield node.lineno, room if room in known or room == "_native" else "__init__"


def broken(package: Path = PACKAGE, rooms: dict[str, frozenset[str]] = ROOMS) -> list[str]:
    """Return one line of text for every import that the table does not allow, and for every room it does not know."""
    found = []
    known = frozenset(rooms)
    for file in sorted(package.rglob("*.py")):
        room = room_of(file, package)
        place = file.relative_to(package.parent)
        if room not in rooms:
            found.append(f"{place}: the room '{room}' is not in tools/rooms.py")
            continue
        for line, target in imported_rooms(file.read_text(), known):
            # The native kernels belong to the accelerator's room.
            allowed = room == "kpu" if target == "_native" else target == room or target in rooms[room]
            if not allowed:
                found.append(f"{place}:{line}: '{room}' may not import '{target}'")
    return found


def upward(rooms: dict[str, frozenset[str]] = ROOMS) -> list[str]:
    """Return every entry of the table that is not above its room: with none, imports cannot run in a circle."""
    order = [*rooms]
    return [
        f"'{room}' lists '{target}', which is not above it"
        for i, (room, targets) in enumerate(rooms.items())
        for target in sorted(targets)
        if target not in order[:i]
    ]


if __name__ == "__main__":
    problems = upward() + broken()
    print("\n".join(problems) if problems else "Imports run downwards only.")
    sys.exit(1 if problems else 0)
