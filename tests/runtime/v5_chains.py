"""Random V5 programs whose steps feed each other, in memories so small that values are often written over."""

from __future__ import annotations

from typing import Any

import numpy as np
import program_builders as b

from openkpu.kmodel import operators as o
from openkpu.kmodel.program import DType, KpuConv, KpuDownload, KpuUpload, Memory, Operand, Program, Requantize, Step
from openkpu.kmodel.v5_call import dense

F32, U8 = DType.F32, DType.U8
MAIN = 6_000
"""Bytes of main RAM: a handful of tensors."""
LINES = 4
"""Maps start at 8 times 0 to this."""


class Chain:
    """Adds steps that read what earlier ones wrote. ``tensors`` and ``maps`` are what is whole in the memories."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.steps: list[Step] = []
        self.constants = bytearray()
        shape = (1, self.number(1, 6), self.number(1, 6), (self.number(1, 9), self.number(1, 36))[self.number(0, 1)])
        self.source = Operand(Memory.MAIN, 8 * self.number(0, 300), U8, shape)
        self.tensors = [self.source]
        self.maps: list[Operand] = []

    def number(self, low: int, high: int) -> int:
        """A whole number in low..high."""
        return int(self.rng.integers(low, high, endpoint=True))

    def pick(self, dtype: DType | None = None) -> Operand | None:
        """A tensor, the younger the likelier."""
        found = [t for t in self.tensors if dtype is None or t.dtype is dtype]
        return found[-1 - min(self.number(0, 3), len(found) - 1)] if found else None

    def target(self, dtype: DType, shape: tuple[int, ...], *away_from: Operand) -> Operand | None:
        """A place in main RAM, dense or with gaps, not on the step's inputs."""
        strides = None
        if self.number(0, 4) == 0:
            wide = dense((*shape[:-1], shape[-1] + self.number(0, 2)))
            strides = None if wide == dense(shape) else wide
        for _ in range(20):
            found = Operand(Memory.MAIN, 8 * self.number(0, MAIN // 8), dtype, shape, strides)
            apart = all(
                x.memory is not Memory.MAIN or x.stop <= found.start or found.stop <= x.start for x in away_from
            )
            if found.stop <= MAIN and apart:
                return found
        return None

    def write(self, step: Step, *written: Operand) -> None:
        """Add a step; what lay where it writes is gone."""
        self.steps.append(step)
        for w in written:
            for known in (self.tensors, self.maps):
                known[:] = [t for t in known if t.memory is not w.memory or t.stop <= w.start or w.stop <= t.start]
        for w in written:
            (self.maps if w.memory is Memory.AI else self.tensors).append(w)

    def constant(self, array: np.ndarray[Any, Any]) -> Operand:
        found = Operand(Memory.CONST, len(self.constants), F32, array.shape)
        self.constants += array.astype(np.float32).tobytes()
        return found

    def step(self) -> None:
        """One random step, where one fits."""
        kinds = (
            *(
                self._dequantize,
                self._dequantize,
                self._quantize,
                self._quantize,
                self._move,
                self._slice,
                self._binary,
            ),
            *(self._concat, self._kpu, self._kpu, self._kpu),
        )
        kinds[self.number(0, len(kinds) - 1)]()

    def _dequantize(self) -> None:
        if (x := self.pick(U8)) is not None and (out := self.target(F32, x.shape, x)) is not None:
            scale = float(np.float32(self.rng.uniform(0.01, 0.1)))
            self.write(o.DequantizeTensor(input=x, output=out, scale=scale, zero_point=self.number(0, 255)), out)

    def _quantize(self) -> None:
        if (x := self.pick(F32)) is not None and (out := self.target(U8, x.shape, x)) is not None:
            scale = float(np.float32(self.rng.uniform(0.01, 0.1)))
            self.write(o.QuantizeTensor(input=x, output=out, scale=scale, zero_point=self.number(0, 255)), out)

    def _move(self) -> None:
        """Copy, transpose or, of bytes, a table."""
        if (x := self.pick()) is None:
            return
        kind = self.number(0, 2)
        perm = tuple(int(i) for i in self.rng.permutation(4)) if kind == 0 else (0, 1, 2, 3)
        if (out := self.target(x.dtype, tuple(x.shape[i] for i in perm), x)) is None:
            return
        if kind == 0:
            self.write(o.TransposeTensor(input=x, output=out, perm=perm), out)
        elif kind == 1 and x.dtype is U8:
            table = self.rng.integers(0, 256, 256, np.uint8).tobytes()
            self.write(Requantize(input=x, output=out, table=table), out)
        else:
            self.write(o.CopyTensor(input=x, output=out), out)

    def _slice(self) -> None:
        if (x := self.pick()) is None:
            return
        begin = tuple(self.number(0, n - 1) if self.number(0, 2) == 0 else 0 for n in x.shape)
        stride = tuple(self.number(1, 2) for _ in x.shape)
        shape = tuple(-(-(n - f) // s) for n, f, s in zip(x.shape, begin, stride, strict=True))
        if (out := self.target(x.dtype, shape, x)) is not None:
            self.write(o.SliceTensor(input=x, output=out, begin=begin, end=x.shape, stride=stride), out)

    def _binary(self) -> None:
        if (x := self.pick(F32)) is None or (out := self.target(F32, x.shape, x)) is None:
            return
        constant = self.constant(self.rng.uniform(0.5, 2, (1, x.shape[1], 1, 1) if self.number(0, 1) else (1,)))
        a, c = (x, constant) if self.number(0, 1) else (constant, x)
        self.write(o.Binary(input_a=a, input_b=c, output=out, op=o.BinaryOp(self.number(0, 5))), out)

    def _concat(self) -> None:
        """Parts that steps write side by side into one tensor, as V5 files do it."""
        if (x := self.pick(U8)) is None or x.shape[0] != 1:
            return
        n, c, h, w = x.shape
        if (out := self.target(F32, (n, 2 * c, h, w), x)) is None or out.strides is not None:
            return
        parts = [Operand(Memory.MAIN, out.start + i * c * h * w * 4, F32, x.shape) for i in range(2)]
        for part in parts[:: 1 - 2 * self.number(0, 1)]:
            scale = float(np.float32(self.rng.uniform(0.01, 0.1)))
            self.write(o.DequantizeTensor(input=x, output=part, scale=scale, zero_point=self.number(0, 255)), part)
        if self.number(0, 1):
            window = {"kernel": (3, 3), "stride": (1, 1), "dilation": (1, 1), "pads": ((1, 1), (1, 1))}
            self.write(
                o.ReduceWindow(
                    input=parts[0], output=parts[1], op=o.ReduceOp.MAX, init=-1e9, clamp=o.NO_CLAMP, **window
                ),
                parts[1],
            )
        self.tensors = [t for t in self.tensors if t not in parts]
        self.tensors.append(out)

    def _kpu(self) -> None:
        """Upload, a layer, or download."""
        kind = self.number(0, 2)
        if kind == 0 and (x := self.pick(U8)) is not None and x.shape[0] == 1:
            line = 8 * self.number(0, LINES)
            self.write(KpuUpload(input=x, output=b.ai(line, *x.shape[1:])), b.ai(line, *x.shape[1:]))
        elif kind == 1 and self.maps:
            m = self.maps[self.number(0, len(self.maps) - 1)]
            c, h, w = m.shape
            line = 8 * self.number(0, LINES)
            layer = b.kpu_layer(m.start // 64, line, c, self.number(1, 6), h, w, k=(1, 3)[self.number(0, 1)])
            self.write(step := KpuConv(layer=layer), step.output)
        elif kind == 2 and self.maps:
            m = self.maps[self.number(0, len(self.maps) - 1)]
            if (out := self.target(U8, (1, *m.shape))) is not None and out.strides is None:
                self.write(KpuDownload(input=m, output=out), out)

    def program(self) -> Program:
        """The program, with two of the tensors that are still whole as outputs."""
        outputs = [t for t in self.tensors if t.memory is Memory.MAIN][-2:]
        return Program(
            version=5,
            inputs=(self.source,),
            outputs=tuple(outputs),
            steps=tuple(self.steps),
            main_bytes=MAIN,
            constants=bytes(self.constants),
        )


def program(seed: int, steps: int) -> Program:
    """A program of about so many steps."""
    chain = Chain(seed)
    for _ in range(steps):
        chain.step()
    return chain.program()
