"""Add a known-answer test to a layout of the flash: input, expected results and the script that compares them.

The test of a kmodel V3 goes layer by layer, which needs room in main RAM for results that normally stay in AI RAM. So
the package holds a copy of the model whose scratch buffer (``main_mem_usage`` in its header) is larger; its layers are
the same bytes.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from openkpu.api import load
from openkpu.board.budget import ModelCost, bill
from openkpu.board.firmware import PROFILES
from openkpu.board.model_file import LoadFault, ModelFile, from_file
from openkpu.errors import InputError, MemoryLimitError
from openkpu.flash.image import KMODELS
from openkpu.flash.kfpkg import Package
from openkpu.flash.layout import Part, aligned, free_address
from openkpu.flash.pack import Layout, Placed, describe
from openkpu.kat import checks as compared
from openkpu.kat import data as stored
from openkpu.kat import script
from openkpu.kat.checks import Check, Missing
from openkpu.kat.picture import NOISE, TestInput, test_input
from openkpu.kmodel.detect import Kind
from openkpu.kmodel.program import Program
from openkpu.kmodel.v3 import HEADER

BUDGETS: Final = (3 << 20, 1 << 20, 256 << 10, 64 << 10)
"""Bytes of expected results to put into flash, as many as there is room for."""
MARGIN: Final = 32 * 1024
"""Bytes of the system heap that stay free: what the script's list or picture passes through, fragments."""


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """A layout with its test."""

    layout: Layout
    script_name: str
    script: str
    model: str
    input: str
    firmware: str
    """The largest firmware build that leaves the memory for the test."""
    outputs: int
    """Comparisons of the whole model's outputs."""
    layers: int
    """Comparisons of single layers."""
    by_checksum: int
    missing: tuple[Missing, ...]
    main_bytes: tuple[int, int]
    """Scratch buffer of the model, and of the copy in the package."""

    @property
    def notes(self) -> list[str]:
        """What a user should know, one sentence each."""
        notes = []
        before, after = self.main_bytes
        if after != before:
            notes.append(
                f"the package holds a copy of {self.model} whose header asks for {after:,} bytes of scratch buffer "
                f"instead of {before:,}, so that every layer's result has a place in main RAM; the layers are the same "
                "bytes. Pack again without --kat for your product"
            )
        if self.by_checksum:
            notes.append(f"{self.by_checksum} comparison(s) are by CRC-32: flash has no room for all results")
        notes += [f"not compared: {m}" for m in self.missing]
        return notes

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for ``--json``."""
        return {
            "script": self.script_name,
            "model": self.model,
            "input": self.input,
            "firmware": self.firmware,
            "outputs": self.outputs,
            "layers": self.layers,
            "by_checksum": self.by_checksum,
            "not_compared": [str(m) for m in self.missing],
            "main_bytes": list(self.main_bytes),
        }


def add(layout: Layout, stem: str, source: str = NOISE) -> KnownAnswer:
    """Return the layout with the test of its one model. ``source``: a picture's path, or ``NOISE``.

    ``stem`` names the files: ``STEM_kat.py`` and ``STEM_kat.bin``. E470: not one model, E471: a model that MaixPy does
    not load whole, E472-E474 and E331: inputs and outputs, E330: no firmware leaves room for it, E320: no room in
    flash; E1xx-E3xx when the model cannot be run.
    """
    part = _model(layout).part
    program = load(part.data).program
    file = _examined(part)
    given = test_input(program, source, part.name)
    checks, missing = compared.run(program, file, given.array)
    firmware, room = _room(part.name, file)
    checks, too_large, main_bytes = _affordable(checks, room, program, file)
    model = replace(part, data=_with_main_bytes(part.data, main_bytes)) if program.version == 3 else part
    others = [p for p in layout.package.parts if p.name != part.name]
    # the script goes from the whole model down to its first layer
    order = sorted(checks, key=lambda c: (c.layers != 0, -c.layers, c.output))
    data, where = _place([*others, model], order, given, f"{stem}_kat.bin")
    absent = tuple(sorted((*missing, *too_large, *data.dropped), key=lambda m: m.layer))
    whole = [c for c in order if c.layers == 0]
    text = script.render(
        title=f"{part.name}, {given.title}",
        model=(model.address, model.size, zlib.crc32(model.stored)),
        data=(where.address, where.size, zlib.crc32(where.data)),
        checks=data.checks,
        input_offset=data.input_offset,
        kind=given.kind,
        size=(given.array.size, 1) if given.kind == "list" else (given.array.shape[-1], given.array.shape[-2]),
        shapes=tuple(map(compared.v4_shape, whole)) if program.version == 4 else (),
        missing=tuple(map(str, absent)),
    )
    name = f"{stem}_kat.py"
    parts = tuple(sorted((*others, model, where), key=lambda p: p.address))
    return KnownAnswer(
        layout=describe(Package(parts, dict(layout.package.extras) | {name: text.encode()})),
        script_name=name,
        script=text,
        model=part.name,
        input=given.title,
        firmware=firmware,
        outputs=len(whole),
        layers=data.checks - len(whole),
        by_checksum=data.checks - data.whole,
        missing=absent,
        main_bytes=(program.main_bytes, main_bytes),
    )


def _model(layout: Layout) -> Placed:
    models = [p for p in layout.placed if p.kind.kind in KMODELS]
    if len(models) != 1:
        raise InputError(
            "E470",
            "a known-answer test is for one model",
            where=", ".join(p.part.name for p in models) or "the files",
            why=f"there are {len(models)} models among the files",
            fix="Pack each model with --kat into a package of its own.",
        )
    if models[0].kind.kind not in (Kind.V3, Kind.V4) or models[0].part.reverse4:
        raise _not_loaded(models[0].part.name, f"it is {models[0].kind.title}")
    return models[0]


def _not_loaded(name: str, why: str) -> InputError:
    return InputError(
        "E471",
        f"{name} cannot be tested on a board",
        where=name,
        why=f"{why}; kpu.load takes a plain kmodel V3 or V4",
        fix="Test the plain file (without :be), or compile the source model to kmodel V3.",
    )


def _examined(part: Part) -> ModelFile:
    """Return the model as the firmware's loader sees it."""
    try:
        file = from_file(part.stored, v4=True)
    except LoadFault as fault:
        raise _not_loaded(part.name, f"the loader gives error {fault.code}: {fault.why}") from fault
    if file.run_fault:
        raise _not_loaded(part.name, f"the firmware gives error {file.run_fault} when it runs")
    return file


def _room(name: str, file: ModelFile) -> tuple[str, int]:
    """Return the largest firmware build beside which the model fits, and the bytes that are left then; E330."""
    cost = ModelCost(file.version, file.size, file.main_bytes)
    bills = [
        bill(f, cost, camera=False, lcd=False)
        for f in sorted(PROFILES.values(), key=lambda f: -f.footprint)
        if f.v4 or file.version == 3
    ]
    for b in bills:
        if b.left >= MARGIN:
            return b.firmware.name, b.left - MARGIN
    best = bills[-1]
    raise MemoryLimitError(
        "E330",
        f"{name} does not fit into the memory of a board",
        where=name,
        why=f"beside firmware {best.firmware.name}, without camera and display, {best.left - MARGIN:,} bytes are left",
        fix="Compile a smaller model, or stream this one with kpu.load_flash, without a test.",
    )


def _affordable(
    checks: list[Check], room: int, program: Program, file: ModelFile
) -> tuple[list[Check], list[Missing], int]:
    """Leave out layers whose results have no room in main RAM; return the size of the scratch buffer that is needed."""
    kept, large, main_bytes = [], [], program.main_bytes
    for check in checks:
        need = compared.main_bytes_for(check, program, file)
        if need > program.main_bytes + room:
            large.append(Missing(check.layers - 1, check.name, f"its {need:,} bytes do not fit into main RAM"))
        else:
            kept.append(check)
            main_bytes = max(main_bytes, need)
    return kept, large, main_bytes


def _with_main_bytes(data: bytes, main_bytes: int) -> bytes:
    """Return a V3 file that asks for a scratch buffer of this size."""
    header = HEADER.unpack(data, 0) | {"main_mem_usage": main_bytes}
    return HEADER.pack(**header) + data[HEADER.size :]


def _place(parts: list[Part], checks: list[Check], given: TestInput, name: str) -> tuple[stored.Data, Part]:
    """Put as many of the expected results as possible into flash, behind the model where there is room; E320."""
    start = aligned(parts[-1].end)
    for budget in BUDGETS:
        data = stored.build(checks, given.stored, budget)
        with suppress(MemoryLimitError):
            return data, Part(name, free_address(parts, len(data.content), start), data.content)
    data = stored.build(checks, given.stored, 0)
    return data, Part(name, free_address(parts, len(data.content)), data.content)
