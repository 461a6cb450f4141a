"""What the rules for V3 share: looking ahead, constants, gathering bytes, places that must not overlap."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from openkpu.codegen.gaps import is_read
from openkpu.codegen.retarget import U8, Rewriter, whole
from openkpu.kmodel import operators as t
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Memory, Operand

MOST_PIECES: Final = 1 << 16
"""Most copies that one movement may be written with; each costs 8 bytes of the file."""


def flat(r: Rewriter, o: Operand) -> Operand:
    """See a dense operand as a vector; a view that is read is gathered first."""
    place = r.at(o)
    if place.strides is not None:
        parent = whole(place)
        if parent is None or any(o is x for x in r.step.writes):
            raise r.refuse("V3 has no results in views that are not dense")
        r.main_bytes = max(r.main_bytes, parent.stop if parent.memory is Memory.MAIN else 0)
        cut = r.scratch(o.dtype, o.shape)
        taken = [range(d) for d in o.shape]
        all_bytes = replace(parent, dtype=U8, shape=(parent.elements * parent.dtype.size,))
        runs = rows(parent.shape, taken, o.dtype.size)
        gather(r, [replace(all_bytes, start=parent.start + a, shape=(n,)) for a, n in runs], cut)
        place = cut
    return replace(place, shape=(place.elements,))


def whole_bytes(r: Rewriter, o: Operand) -> Operand:
    """See a dense operand as bytes."""
    dense = flat(r, o)
    return replace(dense, dtype=U8, shape=(dense.elements * dense.dtype.size,))


def apart(r: Rewriter, source: Operand, target: Operand) -> Operand:
    """Return a source that a step can read while it writes ``target``: where both overlap, a copy of it.

    Steps that become one had a place between them, so their ends may lie in the same bytes.
    """
    if source.memory is not target.memory or source.stop <= target.start or target.stop <= source.start:
        return source
    copy = r.scratch(U8, (source.elements,))
    r.add(p.Concat(inputs=(replace(source, shape=(source.elements,)),), output=copy, quantized=True))
    return replace(copy, shape=source.shape)


def following(r: Rewriter, offset: int) -> p.Step | None:
    """Return the source step so many steps ahead; None behind the last."""
    i = r.position + offset
    return r.source.steps[i] if i < len(r.source.steps) else None


def only_reader(r: Rewriter, o: Operand, after: int) -> bool:
    """Whether nothing but the step that follows at ``after`` reads this value."""
    return not is_read(r.source, o, r.position + after)


def constant(r: Rewriter, o: Operand) -> NDArray[np.float32] | None:
    """Return what a constant operand holds, also one that was turned round before."""
    if o.memory is not Memory.CONST:
        index, array = r.folded.get((o.memory, o.start), (-1, None))
        written = [x for s in r.source.steps[index + 1 : r.position] for x in s.writes if x.memory is o.memory]
        if array is None or any(x.start < o.stop and o.start < x.stop for x in written):
            return None
        return array.reshape(o.shape) if array.size == o.elements else None
    return np.frombuffer(r.source.constants, np.float32, o.elements, o.start).reshape(o.shape)


def rows(shape: tuple[int, ...], taken: list[range], size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, length) in bytes of the runs of a slice, in order."""
    inner = len(shape)
    while inner and taken[inner - 1] == range(shape[inner - 1]):
        inner -= 1
    run = math.prod(shape[inner:])
    last = taken[inner - 1] if inner else range(1)
    if inner and last.step == 1:
        run, outer = run * len(last), inner - 1
    else:
        outer = inner
    strides = np.cumprod((1, *shape[:0:-1]))[::-1]
    base = int(last.start * strides[inner - 1]) if inner and outer < inner else 0
    for index in np.ndindex(*(len(x) for x in taken[:outer])):
        start = base + int(sum(taken[a][i] * strides[a] for a, i in enumerate(index)))
        yield start * size, run * size


def gather(r: Rewriter, pieces: list[Operand], out: Operand) -> None:
    """Copy pieces one after the other."""
    if len(pieces) > MOST_PIECES:
        raise r.refuse(f"V3 would need {len(pieces)} copies for it, limit {MOST_PIECES}")
    r.add(p.Concat(inputs=tuple(pieces), output=whole_bytes(r, out), quantized=out.dtype is U8))


def quantize(r: Rewriter, s: t.QuantizeTensor) -> None:
    """float32 -> uint8."""
    if s.output.dtype is not U8:
        raise r.refuse("V3 has no int8")
    bias = -s.zero_point * s.scale
    r.add(p.Quantize(input=flat(r, s.input), output=flat(r, s.output), scale=s.scale, bias=bias))
