"""A virtual board inside the test's process: run pieces of MaixPy script, look at what they print."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import program_builders as b

from openkpu.board.config import BoardConfig
from openkpu.board.device import Device
from openkpu.kmodel import v3
from openkpu.kmodel.program import Dequantize, DType, Program
from openkpu.maixpy.script import Script


class Bench:
    """One board; ``run`` executes source in the same ``__main__`` each time and returns what it printed."""

    def __init__(
        self,
        folder: Path,
        *,
        sd: Mapping[str, bytes] | None = None,
        flash: Mapping[int, bytes] | None = None,
        **options: Any,
    ) -> None:
        self.sd = folder / "sd"
        for name in ("sd", "flash"):
            (folder / name).mkdir(exist_ok=True)
        for name, data in (sd or {}).items():
            (self.sd / name).write_bytes(data)
        options.setdefault("firmware", "minimum-v4")
        config = BoardConfig("test.py", sd=str(self.sd), flash_folder=str(folder / "flash"), **options)
        self.events: list[tuple[str, dict[str, Any], bytes]] = []
        self.device = Device(config, self._take)
        for address, data in (flash or {}).items():
            self.device.flash.write(address, data)
        self.script = Script(self.device)
        self.scope = self.script.main()
        self.run("import KPU as kpu, sensor, image, lcd, time, gc")

    def _take(self, kind: str, data: bytes = b"", /, **fields: Any) -> None:
        self.events.append((kind, fields, data))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [fields for k, fields, _ in self.events if k == kind]

    def run(self, source: str) -> str:
        """What the source prints."""
        before = len(self.events)
        try:
            self.script.run_source(textwrap.dedent(source).encode(), "test.py", self.scope)
        finally:
            text = "".join(f["text"] for k, f, _ in self.events[before:] if k == "text")
            self.printed = text
        return text

    def eval(self, source: str) -> Any:
        self.run(f"_ = {source}")
        return self.scope["_"]

    @property
    def notes(self) -> str:
        return "\n".join(f["text"] for f in self.of("note"))


def kmodel(*steps: Any, **options: Any) -> bytes:
    return v3.write(b.program(*steps, **options))


def image_model(c: int = 3, h: int = 16, w: int = 16, oc: int = 4) -> bytes:
    """One KPU layer; the result is uint8 (oc, h, w) at the start of the main buffer."""
    return kmodel(b.conv(0, 8192, c, oc, h, w, to_main=0, k=3, bn_mul=60))


def float_model(oc: int, c: int = 3, h: int = 8, w: int = 8, seed: int = 0, **options: Any) -> bytes:
    """A KPU layer and a Dequantize: float32 (oc, h, w) as output 0, about -8..8."""
    return v3.write(float_program(oc, c, h, w, seed, **options))


def float_program(oc: int, c: int = 3, h: int = 8, w: int = 8, seed: int = 0, **options: Any) -> Program:
    size = oc * h * w
    at = -(-4 * size // 64) * 64
    conv = b.conv(0, 8192, c, oc, h, w, to_main=at, k=1, seed=seed, bn_mul=8, **options)
    out = b.main(0, DType.F32, oc, h, w)
    return b.program(conv, Dequantize(input=conv.main_output, output=out, scale=1 / 16, bias=-8.0), outputs=(out,))


def vector_model(inputs: int = 4, outputs: int = 3) -> bytes:
    """Fully connected only, as for a list."""
    return kmodel(b.fully_connected(64, 0, inputs, outputs))


def v4_header(main: int = 4096, version: int = 4, nodes: int = 2, inputs: int = 1, outputs: int = 1) -> bytes:
    """The start of a V4 file (what follows is zeros)."""
    words = (0x4B4D444C, version, 0, 1, 0, main, nodes, inputs, outputs, 0)
    return np.array(words, "<u4").tobytes() + bytes(160)
