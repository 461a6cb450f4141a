"""Which room of the package may import which: the one place where the rule is written.

A room is a folder or a file directly in ``src/openkpu``. The rooms are listed in the order in which data flows; a room
imports only rooms above it, and of those only the ones named here. ``python tools/check_imports.py`` holds it.
"""

from __future__ import annotations

from typing import Final

ROOMS: Final[dict[str, frozenset[str]]] = {
    room: frozenset(may.split())
    for room, may in {
        # The ground: errors, the chip's numbers, optional packages, writing files, the JSON file beside a model.
        "errors": "",
        "k210": "",
        "extras": "errors",
        "files": "errors",
        "sidecar": "errors",
        # The chip: its accelerator, the files it loads, its CPU operators, the simulated device.
        "kpu": "errors k210",
        "kmodel": "errors k210 kpu",
        "ops": "errors k210 kmodel",
        "runtime": "errors k210 kpu kmodel ops",
        "api": "errors files k210 kmodel runtime",
        # The compiler, in the order of its stages.
        "graph": "errors",
        "importers": "errors extras graph",
        "float": "errors extras graph",
        "estimate": "errors k210 kpu kmodel",
        "passes": "errors k210 kpu graph estimate",
        "lower": "errors k210 kpu graph float passes estimate",
        "schedule": "errors k210 graph",
        "quantize": "errors k210 kpu graph float lower",
        "codegen": "errors k210 kpu kmodel graph estimate lower schedule quantize",
        "compiled": "k210 kmodel api graph estimate lower quantize codegen",
        "compiler": "errors extras k210 kpu kmodel api graph importers float passes estimate lower quantize codegen "
        "compiled",
        "convert": "errors kmodel api lower codegen",
        # The board's flash: packages, images, the serial port.
        "flash": "errors files extras k210 kmodel api",
        # The virtual board: its memories and devices, and the modules that a script imports.
        "board": "errors files extras k210 kmodel api estimate flash",
        "maixpy": "errors k210 kpu kmodel runtime board",
        # The proof that a real board equals the simulator.
        "kat": "errors k210 kmodel runtime api float flash board maixpy",
        # What people see.
        "analyze": "errors extras sidecar k210 kpu kmodel runtime api graph float estimate lower quantize compiler",
        "evaluation": "errors extras api float compiler analyze",
        "report": "errors files k210 kmodel runtime api graph estimate lower compiler convert analyze evaluation flash "
        "board kat",
        "__init__": "errors api compiler convert analyze evaluation board",
        "cli": "__init__ errors files sidecar k210 kpu kmodel api compiler convert analyze flash board kat report",
        "__main__": "cli",
    }.items()
}
"""Room -> the rooms it may import. ``__init__`` is the public API: it imports lazily, and only ``cli`` asks it."""
