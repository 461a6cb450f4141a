"""The checking mode: which memory mistakes does a program make?

Every byte of both memories knows the step that wrote it last. A read of bytes that nobody wrote, or that belong to
another value than the one meant, is a planning mistake that shows on the chip as wrong numbers; here it has a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from openkpu.k210 import AI_LINE_BYTES, AI_RAM_BYTES
from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as v4
from openkpu.kmodel import operators_v5 as v5
from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType, Memory, Operand, Program, Step
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.kpu.monitor import Monitor
from openkpu.ops.elementwise import QUANTIZED_ADD_GROUP

UNINITIALISED: Final = "uninitialised"
"""Bytes are read that nobody wrote."""
OVERLAP: Final = "overlap"
"""A value that is still needed was overwritten, wholly or in part."""
IN_PLACE: Final = "in-place"
"""A step's input and output overlap in a way that its loop does not allow."""
STALE: Final = "stale"
"""The 15 undefined pixels of a padded 4x4 map reach a result."""
OVERRUN: Final = "overrun"
"""A step that works on groups of 8 bytes writes past the main buffer."""
OVERFLOW: Final = "overflow"
"""A KPU result left its 36 bits."""
SEGMENT: Final = "segment"
"""A KPU result lies below every segment of the activation table."""

_NOBODY: Final = -2
_INPUT: Final = -1
_CHUNK: Final = 1 << 20

_ELEMENTWISE: Final = (
    p.Add,
    p.QuantizedAdd,
    p.Quantize,
    p.Requantize,
    p.Softmax,
    p.L2Normalization,
    p.Logistic,
    p.KpuRemovePadding,
    t.Binary,
    t.Unary,
    t.QuantizeTensor,
    t.DequantizeTensor,
    t.CopyTensor,
    t.SoftmaxTensor,
    v4.QuantizedBinary,
    v4.TableLookup,
    v4.NnilUnary,
    v5.AffineQuantize,
    v5.AffineDequantize,
    v5.Compare,
    v5.Convert,
    v5.Sigmoid,
    v5.Ternary,
)
"""Loops that read element i before they write element i: the output may lie on the input if both start together."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake. ``step`` is its index, -1 for the model's outputs."""

    step: int
    layer: str
    kind: str
    message: str


Index = NDArray[np.int64] | slice


def offsets(operand: Operand) -> Index:
    """Where the operand's data bytes are.

    Addresses in the operand's shape in AI RAM (no padding of rows); a slice elsewhere, or the addresses of the
    bytes of a view.
    """
    if operand.memory is not Memory.AI:
        if operand.strides is None:
            return slice(operand.start, operand.stop)
        size = operand.dtype.size
        at = np.array([operand.start], np.int64)
        for n, stride in zip(operand.shape, operand.strides, strict=True):
            at = (at[:, None] + np.arange(n, dtype=np.int64) * (stride * size)).reshape(-1)
        return (at[:, None] + np.arange(size, dtype=np.int64)).reshape(-1)
    *batch, c, h, w = operand.shape
    lay = FeatureMapLayout(c, h, w)
    if batch:
        one = offsets(Operand(Memory.AI, operand.start, operand.dtype, (c, h, w)))
        assert not isinstance(one, slice)
        return one + np.arange(batch[0], dtype=np.int64)[:, None, None, None] * lay.bytes
    channel = np.arange(c, dtype=np.int64)
    base = operand.start + channel // lay.group * (lay.channel_lines * 64) + channel % lay.group * (64 // lay.group)
    rows = np.arange(h, dtype=np.int64) * (lay.row_lines * 64)
    return base[:, None, None] + rows[:, None] + np.arange(w, dtype=np.int64)


class _Shadow:
    """For every byte of one memory: who wrote it last, and whether it is a stale pixel."""

    def __init__(self, size: int) -> None:
        self.owner = np.full(size, _NOBODY, np.int16)
        self.stale = np.zeros(size, bool)


def _same_map(a: Operand, b: Operand) -> bool:
    """Whether two maps have one size, or one is some rows of a group of channels of the other, which share lines."""
    if a.shape[1:] == b.shape[1:]:
        return True
    rows, whole = sorted((a, b), key=lambda o: o.size)
    c, h, w = rows.shape[-3:]
    lay = FeatureMapLayout(*whole.shape[-3:])
    line, beside = divmod((rows.start - whole.start) // 64, lay.row_lines)
    inside = rows.start >= whole.start and line % lay.height + h <= lay.height
    return w == lay.width and c <= lay.group and not beside and inside


def _cut_between_channels(whole: Operand, part: Operand) -> bool:
    """Whether a map may be some channels of maps side by side, and ``part`` one of those maps."""
    c, h, w = part.shape[-3:]
    group = FeatureMapLayout(c, h, w).channel_lines * AI_LINE_BYTES
    return whole.shape[-2:] == (h, w) and (whole.start - part.start) % group == 0


def _count_owners(owners: NDArray[np.int16]) -> dict[int, int]:
    """Owner -> number of bytes, in ascending order."""
    flat = owners.reshape(-1)
    total = np.zeros(1, np.int64)
    for first in range(0, flat.size, _CHUNK):  # in pieces, since bincount widens its input to 8 bytes an element
        part = np.bincount(flat[first : first + _CHUNK].astype(np.int64) - _NOBODY, minlength=total.size)
        part[: total.size] += total
        total = part
    return {int(i) + _NOBODY: int(total[i]) for i in np.flatnonzero(total)}


def _label(index: int, step: Step) -> str:
    return step.name or f"step {index} ({type(step).__name__})"


class Checker:
    """Follows one run; ``findings`` holds what it found."""

    def __init__(self, program: Program) -> None:
        self.findings: list[Finding] = []
        self._program = program
        self._shadow = {
            Memory.AI: _Shadow(AI_RAM_BYTES),
            Memory.MAIN: _Shadow(program.main_bytes + QUANTIZED_ADD_GROUP),
            Memory.INPUT: _Shadow(program.input_bytes),
            Memory.OUTPUT: _Shadow(program.output_bytes),
        }
        self._written: dict[int, list[Operand]] = {_INPUT: list(program.inputs)}
        for operand in program.inputs:
            self._own(operand, _INPUT)

    def _own(self, operand: Operand, owner: int) -> None:
        at = offsets(operand)
        shadow = self._shadow[operand.memory]
        shadow.owner[at] = owner
        shadow.stale[at] = False

    def _name(self, owner: int) -> str:
        return "the input" if owner == _INPUT else _label(owner, self._program.steps[owner])

    def _report(self, index: int, kind: str, message: str) -> None:
        layer = _label(index, self._program.steps[index]) if index >= 0 else "model output"
        self.findings.append(Finding(index, layer, kind, message))

    def before(self, index: int, step: Step) -> None:
        """Look at what the step is about to read."""
        for operand in step.reads:
            if operand.memory is Memory.CONST:
                continue
            if isinstance(step, p.KpuRemovePadding):
                self._read(index, operand, slice(operand.start, operand.stop, 16), typed=True)
            else:
                self._read(
                    index,
                    operand,
                    offsets(operand),
                    typed=not isinstance(step, p.Concat),
                    may_be_stale=isinstance(step, p.KpuConv),
                )
        self._in_place(index, step)

    def _read(self, index: int, operand: Operand, at: Index, *, typed: bool, may_be_stale: bool = False) -> None:
        shadow = self._shadow[operand.memory]
        owners = shadow.owner[at]
        place = f"{operand.memory.value} memory {operand.start}..{operand.stop} ({operand.dtype.value} {operand.shape})"
        counts = _count_owners(owners)
        unknown = counts.pop(_NOBODY, 0)
        if unknown:
            self._report(index, UNINITIALISED, f"reads {place}, of which nobody wrote {unknown} of {owners.size} bytes")
        problem = self._foreign(operand, list(counts), typed=typed)
        if problem:
            self._report(index, OVERLAP, f"reads {place}, but {problem}")
        if not may_be_stale and shadow.stale[at].any():
            self._report(index, STALE, f"reads {place} with undefined pixels of a padded 4x4 map")

    def _foreign(self, operand: Operand, owners: list[int], *, typed: bool) -> str:
        """Say which of the writers of a value's bytes cannot belong to the value, or ``""``."""
        pieces = {owner: self._piece(operand, owner) for owner in owners}
        dense = {owner: piece for owner, piece in pieces.items() if piece.strides is None}
        whole = [o for o, piece in dense.items() if piece.start <= operand.start and piece.stop >= operand.stop]
        if len(owners) > 1 and whole:
            # One step wrote all of it, others wrote into it later (or it was the later one's neighbourhood).
            victim = min(whole)
            culprits = " and ".join(self._name(o) for o in owners if o != victim)
            return f"{culprits} overwrote part of what {self._name(victim)} had left there"
        for owner, piece in pieces.items():
            inside = operand.start <= piece.start and piece.stop <= operand.stop
            step = self._program.steps[owner] if owner >= 0 else None
            lines = isinstance(step, p.KpuUpload) and piece.shape[-1] == 64  # as they lie in AI RAM, whatever they hold
            # bytes that were copied into their place are parts of a larger value, of which any stretch may be read
            part = isinstance(step, t.CopyTensor | t.ConcatTensors) and piece.dtype is operand.dtype is DType.U8
            # and maps side by side are one map, of which any whole channels may be read
            part = part or (operand.memory is Memory.AI and (lines or _cut_between_channels(operand, piece)))
            if owner not in whole and not inside and not part:
                return f"{self._name(owner)} wrote {piece.start}..{piece.stop} there, which only overlaps it"
            if operand.memory is Memory.AI and not (lines or _same_map(operand, piece)):
                return f"{self._name(owner)} left a map of shape {piece.shape} there"
            raw = owner >= 0 and isinstance(self._program.steps[owner], p.Concat)
            if typed and not raw and operand.dtype is not piece.dtype:
                return f"{self._name(owner)} left {piece.dtype.value} there"
        # parts side by side are fine; parts that overlap mean that one lost bytes to the other
        order = sorted(dense, key=lambda owner: (dense[owner].start, owner))
        for a, b in pairwise(order):
            interleaved = pieces[a].strides is not None and pieces[b].strides is not None
            if pieces[b].start < pieces[a].stop and not interleaved:
                first, second = sorted((a, b))
                return f"{self._name(second)} overwrote part of what {self._name(first)} had left there"
        return ""

    def _piece(self, operand: Operand, owner: int) -> Operand:
        """What ``owner`` wrote in the operand's memory (the piece that touches it)."""
        pieces = [o for o in self._written[owner] if o.memory is operand.memory]
        touching = [o for o in pieces if o.start < operand.stop and operand.start < o.stop]
        return (touching or pieces)[0]

    def _in_place(self, index: int, step: Step) -> None:
        for source in step.reads:
            for target in step.writes:
                if source.memory is not target.memory or source.stop <= target.start or target.stop <= source.start:
                    continue
                together = source.start == target.start and target.dtype.size <= source.dtype.size
                if isinstance(step, t.Binary | v4.QuantizedBinary):  # a smaller operand is read again and again
                    together = together and source.elements == target.elements
                if not (together and isinstance(step, _ELEMENTWISE)):
                    where = f"{target.memory.value} memory"
                    self._report(
                        index,
                        IN_PLACE,
                        f"writes {where} {target.start}..{target.stop} while it reads {source.start}..{source.stop}",
                    )

    def after(self, index: int, step: Step) -> None:
        """Account for what the step wrote."""
        stale = self._stale_pixels(step)
        written = []
        for operand in step.writes:
            rounded = self._rounded(step, operand)
            written.append(rounded)
            self._own(rounded, index)
            if rounded.stop > self._program.main_bytes and rounded.memory is Memory.MAIN:
                self._report(
                    index,
                    OVERRUN,
                    f"writes whole groups of 8 bytes, up to {rounded.stop}, but the main "
                    f"buffer has {self._program.main_bytes}",
                )
            if stale is not None:
                shadow = self._shadow[operand.memory].stale
                shadow[offsets(operand)] = stale if operand.memory is Memory.AI else stale.reshape(-1)
        self._written[index] = written

    def _rounded(self, step: Step, operand: Operand) -> Operand:
        """The operand with the up to 7 bytes more that V3's DMA and QUANTIZED_ADD write."""
        if (
            self._program.version != 3
            or operand.memory is Memory.AI
            or not isinstance(step, p.KpuConv | p.QuantizedAdd)
            or operand.size % 8 == 0
        ):
            return operand
        return Operand(Memory.MAIN, operand.start, DType.U8, (-(-operand.size // 8) * 8,))

    def _stale_pixels(self, step: Step) -> NDArray[np.bool_] | None:
        """Which bytes of the step's output are undefined: (c, h, w) bool, or None."""
        if isinstance(step, p.KpuAddPadding):
            stale = np.ones(step.output.shape, bool)
            stale[:, 0, 0] = False
            return stale
        if isinstance(step, p.KpuConv):
            pixels = self._shadow[Memory.AI].stale[offsets(step.input)].any(axis=0)
            if pixels.any() and step.layer.kernel == 1 and step.layer.registers.pool_type == 0:
                return np.broadcast_to(pixels, step.layer.output_shape)
        return None

    def kpu(self, index: int, step: p.KpuConv, monitor: Monitor) -> None:
        """Look at what the KPU computed."""
        pixels = self._shadow[Memory.AI].stale[offsets(step.input)].any()
        if pixels and (step.layer.kernel != 1 or step.layer.registers.pool_type != 0):
            self._report(
                index, STALE, "a 3x3 window or a pool mixes undefined pixels of a padded 4x4 map into its result"
            )
        for what, count, low, high in (
            ("convolution", monitor.conv_overflow, monitor.conv_min, monitor.conv_max),
            ("batch norm", monitor.bn_overflow, monitor.bn_min, monitor.bn_max),
        ):
            if count:
                self._report(
                    index, OVERFLOW, f"{count} of {monitor.values} {what} results leave signed 36 bits ({low}..{high})"
                )
        if monitor.no_segment:
            self._report(
                index, SEGMENT, f"{monitor.no_segment} results lie below every segment of the activation table"
            )

    def finish(self) -> None:
        """Look at the model's outputs."""
        for operand in self._program.outputs:
            self._read(-1, operand, offsets(operand), typed=False)
