"""The memories of a running session, and how operands are read from and written to them."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from openkpu.k210 import AI_LINE_BYTES
from openkpu.kmodel.program import Memory, Operand
from openkpu.kpu import fmap
from openkpu.kpu.fmap import FeatureMapLayout

Engine = Literal["native", "reference"]
"""The fast kernels, or the NumPy specification."""
Rounding = Literal["device", "simulator"]
"""Whose arithmetic the CPU operators follow where the chip's build and the vendor's PC simulator differ."""


class Memories(Protocol):
    """The memories of a running session, uint8, and how its steps compute."""

    ai: NDArray[np.uint8]
    main: NDArray[np.uint8]
    engine: Engine
    rounding: Rounding

    def ram(self, memory: Memory) -> NDArray[np.uint8]:
        """Return a memory's bytes; not for AI RAM, whose operands have a layout of their own."""
        ...


def get(m: Memories, operand: Operand) -> NDArray[Any]:
    """An operand's value: a view of main RAM, constants or buffers, or a dense copy of a feature map."""
    if operand.memory is Memory.AI:
        *batch, c, h, w = operand.shape
        line = operand.start // AI_LINE_BYTES
        if not batch:
            return fmap.load(m.ai, line, c, h, w)
        step = FeatureMapLayout(c, h, w).lines
        return np.stack([fmap.load(m.ai, line + i * step, c, h, w) for i in range(batch[0])])
    flat = m.ram(operand.memory)[operand.start : operand.stop].view(operand.dtype.numpy)
    if operand.strides is None:
        return flat.reshape(operand.shape)
    return as_strided(flat, operand.shape, tuple(s * flat.itemsize for s in operand.strides))


def put(m: Memories, operand: Operand, value: NDArray[Any]) -> None:
    """Store a value that has the operand's number of elements."""
    if operand.memory is Memory.AI:
        *batch, c, h, w = operand.shape
        maps = value.reshape(batch[0] if batch else 1, c, h, w)
        step = FeatureMapLayout(c, h, w).lines
        for i, one in enumerate(maps):
            fmap.store(m.ai, operand.start // AI_LINE_BYTES + i * step, one)
        return
    get(m, operand)[...] = value.reshape(operand.shape)
