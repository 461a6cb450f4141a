"""What is known of the tensors in a V5 program's memories, so that steps can read where a value came from.

Much of what the chip's CPU does between KPU layers moves bytes: download, dequantise, concatenate, quantise with
another scale, upload. Seen from its end such a chain is bytes at another place, taken through a table of 256 values.
This module follows the program and says for every tensor which sources its elements equal, each with its table: the
deepest source that is still in its memory is the cheapest to read, and what then nobody reads need not be computed
(``plan`` leaves it out). Tables are computed by the same operators as the steps, so results are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel import operators as o
from openkpu.kmodel import operators_v5 as o5
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Memory
from openkpu.ops import v5_elementwise as elementwise
from openkpu.runtime import boxes
from openkpu.runtime.boxes import Box
from openkpu.runtime.memories import Memories, get
from openkpu.runtime.v5_native import feature_maps
from openkpu.runtime.v5_steps import dequantize_numbers, quantize_numbers

Array = NDArray[Any]
BYTES: Final = np.arange(256).astype(np.uint8)
MOST_CHANNELS: Final = 16
"""Channels up to which a tensor is taken apart for arithmetic with one constant a channel."""


@dataclass(frozen=True, slots=True)
class Source:
    """Elements that a tensor's equal: ``table[array]``, or ``array`` itself where there is no table.

    ``line`` is (multiplier, offset) where the table is that of one dequantisation.
    """

    array: Array
    table: Array | None = None
    line: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Some elements of a tensor and their sources, the deepest first; the arrays have the box's shape."""

    box: Box
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """A step writes ``target``, whose elements equal those of every source.

    ``quantize`` is (floats, multiplier, offset) where only computing gives them.
    """

    target: Array
    sources: tuple[Source, ...]
    quantize: tuple[Array, float, float] | None = None


class Knowledge:
    """Which tensors lie in the memories, and their sources, at one point of the program."""

    def __init__(self) -> None:
        self._tensors: list[tuple[Array, tuple[int, int], list[tuple[Source, tuple[int, int]]]]] = []

    def parts(self, tensor: Array) -> list[Part]:
        """A tensor in parts whose sources are known; the last source of each is the tensor itself."""
        low, high = boxes.extent(tensor)
        found: list[Part] = []
        for target, (first, stop), sources in self._tensors:
            if first < low or stop > high or target.dtype != tensor.dtype:
                continue
            if (located := boxes.locate(target, tensor)) is None:
                continue
            box, splits = located
            all_sources = [s for s, _ in sources] + [Source(target)]
            found.append(Part(box, tuple(Source(boxes.split(s.array, splits), s.table, s.line) for s in all_sources)))
        if sum(part.box.elements for part in found) == tensor.size:
            return found
        return [Part(boxes.whole(tensor), (Source(tensor),))]

    def forget(self, written: Array) -> None:
        """Bytes were overwritten: no tensor and no source is there any more."""
        low, high = boxes.extent(written)

        def hit(array: Array, extent: tuple[int, int]) -> bool:
            return extent[0] < high and low < extent[1] and boxes.overlap(array, written)

        self._tensors = [
            (t, e, [s for s in sources if not hit(s[0].array, s[1])])
            for t, e, sources in self._tensors
            if not hit(t, e)
        ]

    def learn(self, target: Array, sources: Iterable[Source] = ()) -> None:
        """A tensor was written (after ``forget``)."""
        self._tensors.append((target, boxes.extent(target), [(s, boxes.extent(s.array)) for s in sources]))


def moves(known: Knowledge, m: Memories, step: p.Step) -> list[Move] | None:
    """What a step writes, in terms of sources; None where it is not about moving bytes."""
    rule = _RULES.get(type(step))
    return None if rule is None else rule(known, m, step)


def _same(parts: list[Part], target: Array) -> list[Move]:
    return [Move(part.box.of(target), part.sources) for part in parts]


def _copy(known: Knowledge, m: Memories, s: Any) -> list[Move] | None:
    return _same(known.parts(get(m, s.input)), get(m, s.output))


def _upload(known: Knowledge, m: Memories, s: p.KpuUpload) -> list[Move] | None:
    found: list[Move] = []
    channels = _channels(m, s.input)
    for view, which in feature_maps(m, s.output):
        found += _same(known.parts(channels[which].reshape(view.shape)), view)
    return found


def _download(known: Knowledge, m: Memories, s: p.KpuDownload) -> list[Move] | None:
    found: list[Move] = []
    channels = _channels(m, s.output)
    for view, which in feature_maps(m, s.input):
        found += _same(known.parts(view), channels[which].reshape(view.shape))
    return found


def _channels(m: Memories, operand: p.Operand) -> Array:
    _, _, h, w = (1, *operand.shape)[-4:]
    return get(m, operand).reshape(-1, h, w)


def _transpose(known: Knowledge, m: Memories, s: o.TransposeTensor) -> list[Move] | None:
    target = get(m, s.output)
    return [Move(boxes.transposed(q.box, s.perm).of(target), q.sources) for q in known.parts(get(m, s.input))]


def _concat(known: Knowledge, m: Memories, s: o.ConcatTensors) -> list[Move] | None:
    out, axis = get(m, s.output), s.axis % len(s.output.shape)
    first, found = 0, []
    for x in s.inputs:
        stop = first + x.shape[axis]
        found += _same(known.parts(get(m, x)), out[(slice(None),) * axis + (slice(first, stop),)])
        first = stop
    return found


def _slice(known: Knowledge, m: Memories, s: o.SliceTensor) -> list[Move] | None:
    x, target = get(m, s.input), get(m, s.output)
    found = []
    for part in known.parts(x):
        kept = boxes.sliced(part.box, x.shape, s.begin, s.stride, target.shape)
        if kept is None:
            return None
        box, cuts = kept
        if box.elements:
            sources = tuple(Source(q.array[cuts], q.table, q.line) for q in part.sources)
            found.append(Move(box.of(target), sources))
    return found


def _through(sources: Iterable[Source], function: Callable[[Array], Array], dtype: Any) -> tuple[Source, ...]:
    """The sources whose elements are of ``dtype`` by way of bytes, with ``function`` after their tables."""
    found = []
    for s in sources:
        table = BYTES if s.table is None and s.array.dtype == np.uint8 else s.table
        if table is not None and table.dtype == dtype:
            found.append(Source(s.array, function(table)))
    return tuple(found)


def _requantize(known: Knowledge, m: Memories, s: p.Requantize) -> list[Move] | None:
    table, target = np.frombuffer(s.table, np.uint8), get(m, s.output)
    parts = known.parts(get(m, s.input))
    return [Move(q.box.of(target), _through(q.sources, lambda x: table[x], np.uint8)) for q in parts]


def _dequantize(known: Knowledge, m: Memories, s: o.DequantizeTensor | o5.AffineDequantize) -> list[Move] | None:
    x, target, numbers = get(m, s.input), get(m, s.output), dequantize_numbers(s)
    if x.dtype != np.uint8:
        return None
    found = []
    for part in known.parts(x):
        sources = _through(part.sources, lambda b: elementwise.dequantize_tensor(b, *numbers), np.uint8)
        lines = [numbers if q.table is None or np.array_equal(q.table, BYTES) else None for q in part.sources]
        sources = tuple(Source(q.array, q.table, line) for q, line in zip(sources, lines, strict=True))
        found.append(Move(part.box.of(target), sources))
    return found


def _quantize(known: Knowledge, m: Memories, s: o.QuantizeTensor | o5.AffineQuantize) -> list[Move] | None:
    x, target, numbers = get(m, s.input), get(m, s.output), quantize_numbers(s)
    if x.dtype != np.float32 or target.dtype != np.uint8:
        return None
    found = []
    for part in known.parts(x):
        sources = _through(
            part.sources, lambda f: elementwise.quantize_tensor(f, *numbers, np.dtype(np.uint8)), np.float32
        )
        floats = None if sources else (part.sources[-1].array, *numbers)
        found.append(Move(part.box.of(target), sources, floats))
    return found


def _binary(known: Knowledge, m: Memories, s: o.Binary) -> list[Move] | None:
    """With a constant that is the same for every element of a channel."""
    constants = [x.memory is Memory.CONST for x in (s.input_a, s.input_b)]
    if sum(constants) != 1:
        return None
    a, b, target = get(m, s.input_a), get(m, s.input_b), get(m, s.output)
    x, constant = (b, a) if constants[0] else (a, b)
    if x.shape != target.shape or x.dtype != np.float32 or constant.dtype != np.float32:
        return None
    spread = np.broadcast_to(constant, x.shape)
    found = []
    for part in known.parts(x):
        whole, first = part.box.of(target), part.box.of(spread)
        along = [i for i, stride in enumerate(first.strides) if stride and first.shape[i] > 1]
        if len(along) > 1 or any(first.shape[i] > MOST_CHANNELS for i in along):
            return None
        for k in range(first.shape[along[0]] if along else 1):
            cut = tuple(slice(k, k + 1) if i in along else slice(None) for i in range(first.ndim))
            value = first[cut].reshape(-1)[:1]

            def arithmetic(f: Array, value: Array = value) -> Array:
                return elementwise.binary(s.op, *((value, f) if constants[0] else (f, value)), s.clamp)

            pieces = (Source(q.array[cut], q.table) for q in part.sources)
            found.append(Move(whole[cut], _through(pieces, arithmetic, np.float32)))
    return found


_RULES: Final[dict[type[p.Step], Callable[[Knowledge, Memories, Any], list[Move] | None]]] = {
    p.KpuUpload: _upload,
    p.KpuDownload: _download,
    p.Requantize: _requantize,
    o.CopyTensor: _copy,
    o.TransposeTensor: _transpose,
    o.ConcatTensors: _concat,
    o.SliceTensor: _slice,
    o.DequantizeTensor: _dequantize,
    o5.AffineDequantize: _dequantize,
    o.QuantizeTensor: _quantize,
    o5.AffineQuantize: _quantize,
    o.Binary: _binary,
}
