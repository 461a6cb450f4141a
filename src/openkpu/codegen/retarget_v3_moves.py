"""Rules for V3: movements of values, as copies of byte ranges or by the runtime's pooling."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np

from openkpu.codegen.retarget import F32, U8, Rewriter, Rule
from openkpu.codegen.retarget_v3_tools import (
    constant,
    flat,
    following,
    gather,
    only_reader,
    quantize,
    rows,
    whole_bytes,
)
from openkpu.kmodel import operators as t
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Operand


def _copy(r: Rewriter, s: t.CopyTensor) -> None:
    r.add(p.Concat(inputs=(whole_bytes(r, s.input),), output=whole_bytes(r, s.output)))


def _concat(r: Rewriter, s: t.ConcatTensors) -> None:
    outer = math.prod(s.output.shape[: s.axis])
    parts = [whole_bytes(r, o) for o in s.inputs]
    pieces = []
    for i in range(outer):
        for part in parts:
            n = part.elements // outer
            pieces.append(replace(part, start=part.start + i * n, shape=(n,)))
    gather(r, pieces, s.output)


def _transpose(r: Rewriter, s: t.TransposeTensor) -> None:
    shape = s.input.shape
    known = constant(r, s.input) if s.input.dtype is F32 else None
    if known is not None:
        r.folded[s.output.memory, s.output.start] = (r.position, np.ascontiguousarray(known.transpose(s.perm)))
    moved = [a for a in s.perm if shape[a] != 1]
    if known is not None and not _other_readers(r, s.output):
        return
    if moved == sorted(moved):
        r.add(p.Concat(inputs=(whole_bytes(r, s.input),), output=whole_bytes(r, s.output)))
        return
    axes = [a for a in range(len(shape)) if shape[a] != 1]
    # TensorFlow's flatten brings the first of some dimensions behind all others
    if s.input.dtype is F32 and moved == axes[1:] + axes[:1]:
        c = shape[axes[0]]
        n = s.input.elements // c
        r.add(
            p.Flatten(
                input=replace(flat(r, s.input), shape=(c, 1, n)), output=replace(flat(r, s.output), shape=(1, n, c))
            )
        )
        return
    pieces = []
    block = next((i for i in range(len(shape), 0, -1) if s.perm[i - 1 :] != tuple(range(i - 1, len(shape)))), 0)
    inner = math.prod(shape[block:]) * s.input.dtype.size
    strides = np.cumprod((1, *shape[:0:-1]))[::-1] * s.input.dtype.size
    for index in np.ndindex(*(shape[a] for a in s.perm[:block])):
        start = int(sum(i * strides[a] for i, a in zip(index, s.perm[:block], strict=True)))
        pieces.append((start, inner))
    gather(r, _pieces(r, s.input, pieces), s.output)


def _other_readers(r: Rewriter, o: Operand) -> bool:
    """Whether a value is read by anything but as the right side of matrix products."""
    readers = [
        (step, x)
        for step in r.source.steps[r.position + 1 :]
        for x in step.reads
        if x.memory is o.memory and x.start < o.stop and o.start < x.stop
    ]
    return not all(isinstance(step, t.MatMul) and x is step.input_b for step, x in readers)


def _slice(r: Rewriter, s: t.SliceTensor) -> None:
    """By the pooling on uint8 maps, else row by row."""
    shape = s.input.shape
    taken = [range(b, e, k) for b, e, k in zip(s.begin, s.end, s.stride, strict=True)]
    whole = all(len(x) == d for x, d in zip(taken[:-2], shape[:-2], strict=True))
    c = math.prod(shape[:-2])
    if s.input.dtype is U8 and whole and min(s.stride[-2:]) > 0 and len(shape) >= 3:
        r.add(
            p.QuantizedMaxPool(
                input=replace(flat(r, s.input), shape=(c, *shape[-2:])),
                output=replace(flat(r, s.output), shape=(c, *s.output.shape[-2:])),
                kernel=(1, 1),
                stride=(s.stride[-1], s.stride[-2]),
                padding=(-s.begin[-1], -s.begin[-2]),
            )
        )
        return
    runs = list(rows(shape, taken, s.input.dtype.size))
    gather(r, _pieces(r, s.input, runs), s.output)


def _pad(r: Rewriter, s: t.PadTensor) -> None:
    """Cropping is a slice; what is put in comes from a run of bytes that hold the value."""
    if s.mode != "constant" or any(s.interior):
        raise r.refuse("V3 pads with a constant only")
    shape = s.input.shape
    if all(a <= 0 and b <= 0 for a, b in s.pads):
        _slice(
            r,
            t.SliceTensor(
                input=s.input,
                output=s.output,
                begin=tuple(-a for a, _ in s.pads),
                end=tuple(d + b for d, (_, b) in zip(shape, s.pads, strict=True)),
                stride=(1,) * len(shape),
            ),
        )
        return
    if s.input.dtype is not U8:
        _quantize_before(r, s)
        return
    if any(pair != (0, 0) for pair in s.pads[:-2]):
        raise r.refuse("V3 pads height and width only")
    source = flat(r, s.input)
    if min(min(pair) for pair in s.pads) < 0:
        crop = tuple((min(a, 0), min(b, 0)) for a, b in s.pads)
        shape = tuple(d + a + b for d, (a, b) in zip(shape, crop, strict=True))
        source = r.scratch(U8, shape)
        _pad(r, replace(s, output=source, pads=crop))
        source = replace(source, shape=(source.elements,))
    (top, bottom), (left, right) = (tuple(max(0, n) for n in pair) for pair in s.pads[-2:])
    h, w = shape[-2:]
    width = w + left + right
    n = min(source.elements, max(top * width + left, right + left, right + bottom * width, 1))
    filler = r.scratch(U8, (n,))
    value = bytes([int(s.value) & 0xFF]) * 256
    r.add(p.Requantize(input=replace(source, shape=(n,)), output=filler, table=value))
    pieces: list[Operand] = []

    def fill(count: int) -> None:
        while count > 0:
            pieces.append(replace(filler, shape=(min(count, n),)))
            count -= n

    for i in range(source.elements // w):
        y = i % h
        fill(left + (top * width if y == 0 else 0))
        pieces.append(replace(source, start=source.start + i * w, shape=(w,)))
        fill(right + (bottom * width if y == h - 1 else 0))
    gather(r, pieces, s.output)


def _quantize_before(r: Rewriter, s: t.PadTensor) -> None:
    """Pad floats and quantize: quantize and pad with what the value becomes."""
    q = following(r, 1)
    follows = isinstance(q, t.QuantizeTensor) and (q.input.memory, q.input.start) == (s.output.memory, s.output.start)
    if not isinstance(q, t.QuantizeTensor) or not follows or not only_reader(r, s.output, 1):
        raise r.refuse("V3 pads uint8 only")
    r.taken = 2
    counts = r.scratch(U8, s.input.shape)
    quantize(r, replace(q, input=s.input, output=counts))
    value = float(np.clip(np.rint(s.value / q.scale) + q.zero_point, 0, 255))
    _pad(r, replace(s, input=counts, output=replace(q.output, shape=s.output.shape), value=value))


def _pieces(r: Rewriter, source: Operand, places: list[tuple[int, int]]) -> list[Operand]:
    whole = whole_bytes(r, source)
    return [replace(whole, start=whole.start + start, shape=(n,)) for start, n in places]


def _resize(r: Rewriter, s: t.ResizeImage) -> None:
    if s.mode is not t.ResizeMode.NEAREST or s.align_corners or s.half_pixel_centers:
        raise r.refuse("V3 resizes by nearest neighbour only")
    c = math.prod(s.input.shape[:-2])
    r.add(
        p.ResizeNearest(
            input=replace(flat(r, s.input), shape=(c, *s.input.shape[-2:])),
            output=replace(flat(r, s.output), shape=(c, *s.output.shape[-2:])),
        )
    )


RULES: Final[dict[type[p.Step], Rule]] = {
    t.CopyTensor: _copy,
    t.ConcatTensors: _concat,
    t.TransposeTensor: _transpose,
    t.SliceTensor: _slice,
    t.PadTensor: _pad,
    t.ResizeImage: _resize,
}
