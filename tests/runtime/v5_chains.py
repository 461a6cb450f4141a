"""Random V5 programs whose steps feed each other, in memories so small that values are often written over.

Half of the programs are ``crowded``: their steps mostly write to places that are or were in use, or a few bytes from
them, also onto their own inputs; and they read pieces of memory that no single step wrote. What such a step means is
clear all the same: it reads everything, then writes.
"""

from __future__ import annotations

from dataclasses import replace
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
BUFFER = 1_600
"""Bytes of the input and the output buffer."""


class Chain:
    """Adds steps that read what earlier ones wrote. ``tensors`` and ``maps`` are what is whole in the memories."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.crowded = self.number(0, 1) == 1
        self.steps: list[Step] = []
        self.constants = bytearray()
        shape = (1, self.number(1, 6), self.number(1, 6), (self.number(1, 9), self.number(1, 36))[self.number(0, 1)])
        self.source = Operand(Memory.MAIN, 8 * self.number(0, 300), U8, shape)
        if self.number(0, 2) == 0:
            self.source = Operand(Memory.INPUT, 0, U8, shape)
        self.tensors = [self.source]
        self.maps: list[Operand] = []
        self.places = [(self.source.memory, self.source.start, self.source.stop)]
        """Where something was written, whether it is still there or not."""

    def number(self, low: int, high: int) -> int:
        """A whole number in low..high."""
        return int(self.rng.integers(low, high, endpoint=True))

    def pick(self, dtype: DType | None = None) -> Operand | None:
        """A tensor, the younger the likelier; in crowded programs sometimes bytes that are none."""
        if self.crowded and dtype is U8 and self.number(0, 3) == 0:
            return self.bytes()
        found = [t for t in self.tensors if dtype is None or t.dtype is dtype]
        return found[-1 - min(self.number(0, 3), len(found) - 1)] if found else None

    def bytes(self) -> Operand | None:
        """Bytes around a place in use, of a tensor, of two side by side, or of parts."""
        shape = self.tensors[self.number(0, len(self.tensors) - 1)].shape if self.tensors else (1, 2, 4, 8)
        factor = (1, 1, 2)[self.number(0, 2)]
        return self.near(U8, (shape[0], factor * shape[1], *shape[2:]))

    def near(self, dtype: DType, shape: tuple[int, ...], strides: tuple[int, ...] | None = None) -> Operand | None:
        """An operand at, or a bit beside, where something begins, or that ends where it ends."""
        memory, start, stop = self.places[-1 - min(self.number(0, 5), len(self.places) - 1)]
        found = Operand(memory, 0, dtype, shape, strides)
        at = (start, start, stop, stop - found.size, start + 8 * self.number(-4, 4))[self.number(0, 4)]
        found = replace(found, start=at // dtype.size * dtype.size)
        return found if found.start >= 0 and found.stop <= (MAIN if memory is Memory.MAIN else BUFFER) else None

    def target(self, dtype: DType, shape: tuple[int, ...], *away_from: Operand) -> Operand | None:
        """A place in main RAM, dense or with gaps, not on the step's inputs unless the program is crowded."""
        strides = None
        if self.number(0, 4) == 0:
            wide = dense((*shape[:-1], shape[-1] + self.number(0, 2)))
            strides = None if wide == dense(shape) else wide
        if self.crowded and self.number(0, 3) and (found := self.near(dtype, shape, strides)) is not None:
            return found
        if self.number(0, 9) == 0 and (found := Operand(Memory.OUTPUT, 0, dtype, shape, strides)).stop <= BUFFER:
            return found
        for _ in range(20):
            found = Operand(Memory.MAIN, 8 * self.number(0, MAIN // 8), dtype, shape, strides)
            apart = all(
                x.memory is not Memory.MAIN or x.stop <= found.start or found.stop <= x.start for x in away_from
            )
            if found.stop <= MAIN and apart:
                return found
        return None

    def line(self) -> int:
        """Where a map may start: often where one is."""
        if self.crowded and self.maps and self.number(0, 1):
            return self.maps[self.number(0, len(self.maps) - 1)].start // 64
        return 8 * self.number(0, LINES)

    def write(self, step: Step, *written: Operand) -> None:
        """Add a step; what lay where it writes is gone."""
        self.steps.append(step)
        for w in written:
            for known in (self.tensors, self.maps):
                known[:] = [t for t in known if t.memory is not w.memory or t.stop <= w.start or w.stop <= t.start]
        for w in written:
            (self.maps if w.memory is Memory.AI else self.tensors).append(w)
            if w.memory is not Memory.AI:
                self.places.append((w.memory, w.start, w.stop))

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
            *(self._concat, self._join, self._constant, self._kpu, self._kpu, self._kpu, self._kpu),
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
        clamp = (0.0, float(self.number(1, 6))) if self.number(0, 2) == 0 else o.NO_CLAMP
        self.write(o.Binary(input_a=a, input_b=c, output=out, op=o.BinaryOp(self.number(0, 5)), clamp=clamp), out)

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

    def _join(self) -> None:
        """A concatenation of two tensors as a step of its own."""
        if (x := self.pick()) is None:
            return
        y = next((t for t in self.tensors if t.dtype is x.dtype and t.shape == x.shape and t != x), x)
        axis = self.number(0, 3)
        shape = tuple(2 * n if i == axis else n for i, n in enumerate(x.shape))
        if x.elements < 600 and (out := self.target(x.dtype, shape, x, y)) is not None:
            self.write(o.ConcatTensors(inputs=(x, y), output=out, axis=axis), out)

    def _constant(self) -> None:
        """A copy of constant bytes."""
        shape = (1, self.number(1, 4), self.number(1, 4), self.number(1, 9))
        x = Operand(Memory.CONST, len(self.constants), U8, shape)
        if (out := self.target(U8, shape)) is not None:
            self.constants += self.rng.integers(0, 256, -(-x.elements // 4) * 4, np.uint8).tobytes()
            self.write(o.CopyTensor(input=x, output=out), out)

    def _kpu(self) -> None:
        """Upload, a layer, or download."""
        kind = self.number(0, 2)
        if kind == 0 and (x := self.pick(U8)) is not None and x.strides is None:
            out = b.ai(self.line(), *(x.shape[1:] if x.shape[0] == 1 else x.shape))
            self.write(KpuUpload(input=x, output=out), out)
        elif self.maps:
            m = self.maps[self.number(0, len(self.maps) - 1)]
            if kind == 1:
                self._layer(m)
            elif kind == 2:
                if self.crowded and self.number(0, 3) == 0:
                    m = b.ai(self.line(), *m.shape)  # whatever is there
                shape = m.shape if len(m.shape) == 4 else (1, *m.shape)
                if (out := self.target(U8, shape)) is not None:
                    out = replace(out, strides=None)
                    self.write(KpuDownload(input=m, output=out), out)

    def _layer(self, m: Operand) -> None:
        """A KPU layer, often onto its input or another map, sometimes with its result in main RAM too."""
        *batch, c, h, w = m.shape
        target = (m.start // 64, self.line())[self.number(0, 1)] if self.crowded else self.line()
        channels = c if self.number(0, 1) else self.number(1, 6)
        layer = b.kpu_layer(m.start // 64, target, c, channels, h, w, k=(1, 3)[self.number(0, 1)])
        batches = batch[0] if batch else 1
        step, main = KpuConv(layer=layer, batches=batches), None
        if self.number(0, 5) == 0 and (main := self.target(U8, (batches, *layer.output_shape))) is not None:
            main = replace(main, strides=None)
            step = replace(step, main_output=main)
        self.write(step, step.output, *([] if main is None else [main]))

    def program(self) -> Program:
        """The program; its outputs are two tensors that are still whole, and in crowded programs bytes besides."""
        outputs = [t for t in self.tensors if t.memory in (Memory.MAIN, Memory.OUTPUT)][-2:]
        if self.crowded:
            outputs += [found for _ in range(2) if (found := self.bytes()) is not None]
        return Program(
            version=5,
            inputs=(self.source,),
            outputs=tuple(outputs),
            steps=tuple(self.steps),
            main_bytes=MAIN,
            input_bytes=BUFFER,
            output_bytes=BUFFER,
            constants=bytes(self.constants),
        )


def program(seed: int, steps: int) -> Program:
    """A program of about so many steps."""
    chain = Chain(seed)
    for _ in range(steps):
        chain.step()
    return chain.program()
