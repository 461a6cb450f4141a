"""Rules for V3: the few tensor operations that its runtime has, alone or in groups of steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.codegen import retarget_layer
from openkpu.codegen.bytecode import bytecode
from openkpu.codegen.gaps import is_read
from openkpu.codegen.retarget import F32, U8, Rewriter, Rule, unlimited, whole
from openkpu.codegen.tensor_steps import SIGMOID
from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as v4
from openkpu.kmodel import operators_v5 as v5
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Memory, Operand

MOST_PIECES: Final = 1 << 16
"""Most copies that one movement may be written with; each costs 8 bytes of the file."""


def _same(r: Rewriter, s: Any) -> None:
    """The same step."""
    r.add(replace(s, **{k: r.at(o) for k in ("input", "output") if isinstance(o := getattr(s, k), Operand)}))


def _upload(r: Rewriter, s: p.KpuUpload) -> None:
    shape = s.output.shape[-3:]
    if math.prod(s.output.shape) != math.prod(shape):
        raise r.refuse("V3 uploads one picture at a time")
    source = replace(_flat(r, s.input), shape=shape)
    r.add(p.KpuUpload(input=source, output=replace(s.output, shape=shape)))


def _flat(r: Rewriter, o: Operand) -> Operand:
    """See a dense operand as a vector; a view that is read is gathered first."""
    place = r.at(o)
    if place.strides is not None:
        parent = whole(place)
        if parent is None or any(o is x for x in r.step.writes):
            raise r.refuse("V3 has no results in views that are not dense")
        r.main_bytes = max(r.main_bytes, parent.stop if parent.memory is Memory.MAIN else 0)
        cut = r.scratch(o.dtype, o.shape)
        taken = [range(d) for d in o.shape]
        whole_bytes = replace(parent, dtype=U8, shape=(parent.elements * parent.dtype.size,))
        rows = _rows(parent.shape, taken, o.dtype.size)
        _gather(r, [replace(whole_bytes, start=parent.start + a, shape=(n,)) for a, n in rows], cut)
        place = cut
    return replace(place, shape=(place.elements,))


def _bytes(r: Rewriter, o: Operand) -> Operand:
    flat = _flat(r, o)
    return replace(flat, dtype=U8, shape=(flat.elements * flat.dtype.size,))


def _apart(r: Rewriter, source: Operand, target: Operand) -> Operand:
    """Return a source that a step can read while it writes ``target``: where both overlap, a copy of it.

    Steps that become one had a place between them, so their ends may lie in the same bytes.
    """
    if source.memory is not target.memory or source.stop <= target.start or target.stop <= source.start:
        return source
    copy = r.scratch(U8, (source.elements,))
    r.add(p.Concat(inputs=(replace(source, shape=(source.elements,)),), output=copy, quantized=True))
    return replace(copy, shape=source.shape)


def _next(r: Rewriter, offset: int) -> p.Step | None:
    i = r.position + offset
    return r.source.steps[i] if i < len(r.source.steps) else None


def _only_reader(r: Rewriter, o: Operand, after: int) -> bool:
    """Whether nothing but the step that follows at ``after`` reads this value."""
    return not is_read(r.source, o, r.position + after)


def _constant(r: Rewriter, o: Operand) -> NDArray[np.float32] | None:
    """Return what a constant operand holds, also one that was turned round before."""
    if o.memory is not Memory.CONST:
        index, array = r.folded.get((o.memory, o.start), (-1, None))
        written = [x for s in r.source.steps[index + 1 : r.position] for x in s.writes if x.memory is o.memory]
        if array is None or any(x.start < o.stop and o.start < x.stop for x in written):
            return None
        return array.reshape(o.shape) if array.size == o.elements else None
    return np.frombuffer(r.source.constants, np.float32, o.elements, o.start).reshape(o.shape)


# -- uint8 and float ------------------------------------------------------------------------------------------------
def _dequantize(r: Rewriter, s: t.DequantizeTensor) -> None:
    """Alone, with a scale for each channel behind it, or with a maximum that commutes with it."""
    if s.input.dtype is not U8:
        raise r.refuse("V3 has no int8")
    if not (_channelwise(r, s) or _maximum(r, s)):
        r.add(
            p.Dequantize(
                input=_flat(r, s.input), output=_flat(r, s.output), scale=s.scale, bias=-s.zero_point * s.scale
            )
        )


def _channelwise(r: Rewriter, s: t.DequantizeTensor) -> bool:
    """Constants for each channel that are multiplied, divided, added or subtracted behind it join it."""
    scale = np.full(1, s.scale, np.float64)
    bias = np.full(1, -s.zero_point * s.scale, np.float64)
    value, steps, shape = s.output, 1, None
    while True:
        b = _next(r, steps)
        if not isinstance(b, t.Binary) or b.op.value > t.BinaryOp.DIV.value or not unlimited(b.clamp):
            break
        if (b.input_a.memory, b.input_a.start) != (value.memory, value.start) or not _only_reader(r, value, steps):
            break
        k = _constant(r, b.input_b)
        if k is None or not _by_channel(k.shape, b.output.shape):
            break
        by = k.reshape(-1).astype(np.float64)
        if b.op in (t.BinaryOp.MUL, t.BinaryOp.DIV):
            by = by if b.op is t.BinaryOp.MUL else 1 / by
            scale, bias = scale * by, bias * by
        else:
            bias = bias + (by if b.op is t.BinaryOp.ADD else -by)
        value, shape, steps = b.output, b.output.shape, steps + 1
    if shape is None:
        return False
    c = max(scale.size, bias.size)
    n = value.elements // c
    r.taken = steps
    out = replace(r.at(value), shape=(c, n))
    r.add(
        p.ChannelwiseDequantize(
            input=replace(_apart(r, _flat(r, s.input), out), shape=(c, n)),
            output=out,
            scale=np.broadcast_to(scale, c).astype(np.float32),
            bias=np.broadcast_to(bias, c).astype(np.float32),
        )
    )
    return True


def _by_channel(constant: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a constant has one value for each entry of the first dimension that is not 1, or is one value."""
    if math.prod(constant) == 1 or constant == shape:
        return math.prod(constant) == 1 or all(d == 1 for d in shape[2:])
    full = (1,) * (len(shape) - len(constant)) + tuple(constant)
    axis = next((i for i, d in enumerate(full) if d != 1), 0)
    return full[axis] == shape[axis] and math.prod(full) == full[axis] and math.prod(shape[:axis]) == 1


def _maximum(r: Rewriter, s: t.DequantizeTensor) -> bool:
    """Dequantize, maximum over windows [, quantize with the same numbers]: the maximum of the bytes."""
    w = _next(r, 1)
    if not isinstance(w, t.ReduceWindow) or w.op is not t.ReduceOp.MAX or w.input.start != s.output.start:
        return False
    if not unlimited(w.clamp) or w.dilation != (1, 1) or w.input.memory is not s.output.memory or s.scale <= 0:
        return False
    if (
        not _only_reader(r, s.output, 1)
        or w.input.elements != w.input.shape[-3] * w.input.shape[-2] * w.input.shape[-1]
    ):
        return False
    q = _next(r, 2)
    back = (
        isinstance(q, t.QuantizeTensor)
        and (q.scale, q.zero_point) == (s.scale, s.zero_point)
        and q.input.start == w.output.start
        and _only_reader(r, w.output, 2)
    )
    if w.init > -s.zero_point * s.scale + 1e-6 * abs(s.scale):
        return False
    shape, size = w.input.shape[-3:], w.output.shape[-3:]
    target: Operand
    if back:
        assert isinstance(q, t.QuantizeTensor)
        target = r.at(q.output)
        r.taken = 3
    else:
        r.taken = 2
        target = r.scratch(U8, size)
    (top, _), (left, _) = w.pads
    source = _apart(r, _flat(r, s.input), target)
    r.add(
        p.QuantizedMaxPool(
            input=replace(source, shape=shape),
            output=replace(target, shape=size),
            kernel=w.kernel[::-1],
            stride=w.stride[::-1],
            padding=(left, top),
        )
    )
    if not back:
        n = (w.output.elements,)
        out = _flat(r, w.output)
        bias = -s.zero_point * s.scale
        r.add(p.Dequantize(input=replace(target, shape=n), output=out, scale=s.scale, bias=bias))
    return True


def _affine_dequantize(r: Rewriter, s: v5.AffineDequantize) -> None:
    r.add(p.Dequantize(input=_flat(r, s.input), output=_flat(r, s.output), scale=s.multiplier, bias=s.offset))


def _quantize(r: Rewriter, s: t.QuantizeTensor) -> None:
    if s.output.dtype is not U8:
        raise r.refuse("V3 has no int8")
    bias = -s.zero_point * s.scale
    r.add(p.Quantize(input=_flat(r, s.input), output=_flat(r, s.output), scale=s.scale, bias=bias))


def _requantize(r: Rewriter, s: p.Requantize) -> None:
    r.add(p.Requantize(input=_flat(r, s.input), output=_flat(r, s.output), table=s.table))


# -- floats ---------------------------------------------------------------------------------------------------------
def _binary(r: Rewriter, s: t.Binary) -> None:
    same = s.input_a.elements == s.input_b.elements == s.output.elements
    constant = Memory.CONST in (s.input_a.memory, s.input_b.memory)
    if s.op is not t.BinaryOp.ADD or not unlimited(s.clamp) or not same or constant:
        raise r.refuse(
            f"V3 adds two computed tensors of one shape; this is {s.op.name.lower()} of {s.input_a.shape} and "
            f"{s.input_b.shape}" + (", one of them constant" if constant else "")
        )
    r.add(p.Add(input_a=_flat(r, s.input_a), input_b=_flat(r, s.input_b), output=_flat(r, s.output)))


def _matmul(r: Rewriter, s: t.MatMul) -> None:
    w = _constant(r, s.input_b)
    rows, inner = s.input_a.shape[-2:]
    activations = {t.NO_CLAMP: p.Activation.LINEAR, (0.0, t.FLT_MAX): p.Activation.RELU, (0.0, 6.0): p.Activation.RELU6}
    clamp = (max(s.clamp[0], -t.FLT_MAX), min(s.clamp[1], t.FLT_MAX))
    if w is None or rows != 1 or clamp not in activations:
        raise r.refuse("V3 multiplies one vector by a constant matrix, with no limits, ReLU or ReLU6 behind")
    r.add(
        p.FullyConnected(
            input=_flat(r, s.input_a),
            output=_flat(r, s.output),
            weights=np.ascontiguousarray(w.reshape(inner, -1).T),
            bias=np.asarray(s.bias, np.float32),
            activation=activations[clamp],
        )
    )


def _reduce(r: Rewriter, s: t.Reduce) -> None:
    axes = {a % len(s.input.shape) for a in s.axes}
    shape = s.input.shape
    first = next((i for i in range(len(shape)) if i in axes and shape[i] != 1), len(shape))
    trailing = all(shape[i] == 1 or i in axes for i in range(first, len(shape)))
    if s.op is not t.ReduceOp.MEAN or not trailing or s.init != 0:
        raise r.refuse(f"V3 averages over the last dimensions only; this is {s.op.name.lower()} over {tuple(axes)}")
    c = math.prod(shape[:first])
    r.add(
        p.GlobalAveragePool(
            input=replace(_flat(r, s.input), shape=(c, s.input.elements // c)), output=_flat(r, s.output)
        )
    )


def _window(r: Rewriter, s: t.ReduceWindow) -> None:
    if (
        s.op is not t.ReduceOp.MEAN
        or not unlimited(s.clamp)
        or s.dilation != (1, 1)
        or math.prod(s.input.shape[:-3]) != 1
    ):
        raise r.refuse(f"V3 pools floats by the mean only; this is {s.op.name.lower()}")
    (top, _), (left, _) = s.pads
    r.add(
        p.AveragePool(
            input=replace(_flat(r, s.input), shape=s.input.shape[-3:]),
            output=replace(_flat(r, s.output), shape=s.output.shape[-3:]),
            kernel=s.kernel[::-1],
            stride=s.stride[::-1],
            padding=(left, top),
        )
    )


def _softmax(r: Rewriter, s: t.SoftmaxTensor) -> None:
    axis = s.axis % len(s.input.shape)
    if any(d != 1 for d in s.input.shape[axis + 1 :]) or s.beta != 1:
        raise r.refuse("V3's softmax works on the innermost dimension, without a factor")
    length = s.input.shape[axis]
    source, out = _flat(r, s.input), _flat(r, s.output)
    for i in range(s.input.elements // length):
        places = [replace(o, start=o.start + i * length * F32.size, shape=(length,)) for o in (source, out)]
        r.add(p.Softmax(input=places[0], output=places[1]))


def _sigmoid(r: Rewriter, s: v5.Sigmoid) -> None:
    r.add(p.Logistic(input=_flat(r, s.input), output=_flat(r, s.output)))


def _nnil(r: Rewriter, s: v4.NnilUnary) -> None:
    if not s.code.startswith(bytecode(SIGMOID)):
        raise r.refuse("of functions of floats V3 has the sigmoid only")
    r.add(p.Logistic(input=_flat(r, s.input), output=_flat(r, s.output)))


# -- movements ------------------------------------------------------------------------------------------------------
def _copy(r: Rewriter, s: t.CopyTensor) -> None:
    r.add(p.Concat(inputs=(_bytes(r, s.input),), output=_bytes(r, s.output)))


def _concat(r: Rewriter, s: t.ConcatTensors) -> None:
    outer = math.prod(s.output.shape[: s.axis])
    parts = [_bytes(r, o) for o in s.inputs]
    pieces = []
    for i in range(outer):
        for part in parts:
            n = part.elements // outer
            pieces.append(replace(part, start=part.start + i * n, shape=(n,)))
    _gather(r, pieces, s.output)


def _transpose(r: Rewriter, s: t.TransposeTensor) -> None:
    shape = s.input.shape
    constant = _constant(r, s.input) if s.input.dtype is F32 else None
    if constant is not None:
        r.folded[s.output.memory, s.output.start] = (r.position, np.ascontiguousarray(constant.transpose(s.perm)))
    moved = [a for a in s.perm if shape[a] != 1]
    if constant is not None and not _other_readers(r, s.output):
        return
    if moved == sorted(moved):
        r.add(p.Concat(inputs=(_bytes(r, s.input),), output=_bytes(r, s.output)))
        return
    axes = [a for a in range(len(shape)) if shape[a] != 1]
    # TensorFlow's flatten brings the first of some dimensions behind all others
    if s.input.dtype is F32 and moved == axes[1:] + axes[:1]:
        c = shape[axes[0]]
        n = s.input.elements // c
        r.add(
            p.Flatten(
                input=replace(_flat(r, s.input), shape=(c, 1, n)), output=replace(_flat(r, s.output), shape=(1, n, c))
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
    _gather(r, _pieces(r, s.input, pieces), s.output)


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
                input=replace(_flat(r, s.input), shape=(c, *shape[-2:])),
                output=replace(_flat(r, s.output), shape=(c, *s.output.shape[-2:])),
                kernel=(1, 1),
                stride=(s.stride[-1], s.stride[-2]),
                padding=(-s.begin[-1], -s.begin[-2]),
            )
        )
        return
    pieces = list(_rows(shape, taken, s.input.dtype.size))
    _gather(r, _pieces(r, s.input, pieces), s.output)


def _rows(shape: tuple[int, ...], taken: list[range], size: int) -> Iterator[tuple[int, int]]:
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
    source = _flat(r, s.input)
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
    _gather(r, pieces, s.output)


def _quantize_before(r: Rewriter, s: t.PadTensor) -> None:
    """Pad floats and quantize: quantize and pad with what the value becomes."""
    q = _next(r, 1)
    follows = isinstance(q, t.QuantizeTensor) and (q.input.memory, q.input.start) == (s.output.memory, s.output.start)
    if not isinstance(q, t.QuantizeTensor) or not follows or not _only_reader(r, s.output, 1):
        raise r.refuse("V3 pads uint8 only")
    r.taken = 2
    counts = r.scratch(U8, s.input.shape)
    _quantize(r, replace(q, input=s.input, output=counts))
    value = float(np.clip(np.rint(s.value / q.scale) + q.zero_point, 0, 255))
    _pad(r, replace(s, input=counts, output=replace(q.output, shape=s.output.shape), value=value))


def _pieces(r: Rewriter, source: Operand, places: list[tuple[int, int]]) -> list[Operand]:
    whole = _bytes(r, source)
    return [replace(whole, start=whole.start + start, shape=(n,)) for start, n in places]


def _gather(r: Rewriter, pieces: list[Operand], out: Operand) -> None:
    if len(pieces) > MOST_PIECES:
        raise r.refuse(f"V3 would need {len(pieces)} copies for it, limit {MOST_PIECES}")
    r.add(p.Concat(inputs=tuple(pieces), output=_bytes(r, out), quantized=out.dtype is U8))


def _resize(r: Rewriter, s: t.ResizeImage) -> None:
    if s.mode is not t.ResizeMode.NEAREST or s.align_corners or s.half_pixel_centers:
        raise r.refuse("V3 resizes by nearest neighbour only")
    c = math.prod(s.input.shape[:-2])
    r.add(
        p.ResizeNearest(
            input=replace(_flat(r, s.input), shape=(c, *s.input.shape[-2:])),
            output=replace(_flat(r, s.output), shape=(c, *s.output.shape[-2:])),
        )
    )


def _unary(r: Rewriter, s: t.Unary) -> None:
    raise r.refuse(f"of functions of floats V3 has the sigmoid only; this is {s.op.value}")


V3_RULES: Final[dict[type[p.Step], Rule]] = {
    p.KpuConv: retarget_layer.conv,
    p.KpuDownload: retarget_layer.download,
    p.KpuUpload: _upload,
    p.KpuAddPadding: _same,
    p.KpuRemovePadding: _same,
    p.Requantize: _requantize,
    t.DequantizeTensor: _dequantize,
    t.QuantizeTensor: _quantize,
    t.Binary: _binary,
    t.Unary: _unary,
    t.MatMul: _matmul,
    t.Reduce: _reduce,
    t.ReduceWindow: _window,
    t.SoftmaxTensor: _softmax,
    t.CopyTensor: _copy,
    t.ConcatTensors: _concat,
    t.TransposeTensor: _transpose,
    t.SliceTensor: _slice,
    t.PadTensor: _pad,
    t.ResizeImage: _resize,
    v4.NnilUnary: _nnil,
    v5.Sigmoid: _sigmoid,
    v5.AffineDequantize: _affine_dequantize,
}
