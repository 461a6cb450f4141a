"""Pack a model with its known-answer test and run the script on the virtual board, in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from board_bench import Bench

from openkpu.flash.layout import Part
from openkpu.flash.pack import Layout, Request, plan
from openkpu.kat.known_answer import KnownAnswer, add

Change = Callable[[bytes], bytes]


def packed(*models: bytes, address: int | None = None, big_endian: bool = False) -> Layout:
    """A layout with models called m0.kmodel, m1.kmodel, ..."""
    with tempfile.TemporaryDirectory() as folder:
        requests = []
        for i, data in enumerate(models):
            path = Path(folder) / f"m{i}.kmodel"
            path.write_bytes(data)
            requests.append(Request(path, address, big_endian))
        return plan(requests)


def with_test(model: bytes, source: str = "noise", **options: int) -> KnownAnswer:
    return add(packed(model, **options), "m", source)


def run(test: KnownAnswer, change: dict[str, Change] | None = None, **options: object) -> list[str]:
    """The lines that the script prints; ``change`` alters files in flash by their names."""

    def altered(part: Part) -> bytes:
        function = (change or {}).get(part.name)
        return part.stored if function is None else replace(part, data=function(part.data)).stored

    flash = {p.address: altered(p) for p in test.layout.package.parts}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), flash=flash, **options)
        return bench.run(test.script).splitlines()
