"""Random V5 programs: every operator on pieces of the inputs, each result also an output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import program_builders as b

from openkpu.kmodel import operators as o
from openkpu.kmodel import operators_v5 as o5
from openkpu.kmodel.program import (
    DType,
    KpuConv,
    KpuDownload,
    KpuUpload,
    Memory,
    Operand,
    Program,
    Requantize,
    Step,
)
from openkpu.kmodel.v5_call import dense

F32, U8, I8, I32, I64 = DType.F32, DType.U8, DType.I8, DType.I32, DType.I64
FLOATS, BYTES = 6000, 6000
"""Elements of the two inputs."""
CLAMPS = (o.NO_CLAMP, (0.0, 6.0), (-0.5, 1.0))


class Builder:
    """Hands out operands: sources are pieces of the inputs or constants, targets lie in main RAM."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.main = 0
        self.constants = bytearray()
        self.steps: list[Step] = []
        self.results: list[Operand] = []

    def shape(self, rank: int, most: int = 7) -> tuple[int, ...]:
        return tuple(int(n) for n in self.rng.integers(1, most, rank))

    def number(self, low: int, high: int) -> int:
        """A whole number in low..high."""
        return int(self.rng.integers(low, high, endpoint=True))

    def source(self, dtype: DType, *shape: int, strided: bool = False) -> Operand:
        """A piece of an input; with ``strided`` sometimes a view with gaps."""
        memory_start, total = (0, FLOATS) if dtype is F32 else (FLOATS * 4, BYTES)
        strides = None
        elements = int(np.prod(shape))
        if strided and self.rng.integers(2):
            strides = dense(tuple(n + self.number(0, 1) for n in shape))
            elements = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1
            strides = None if strides == dense(shape) else strides
        first = self.number(0, total - elements)
        return Operand(Memory.INPUT, memory_start + first * dtype.size, dtype, shape, strides)

    def target(self, dtype: DType, *shape: int, strided: bool = False) -> Operand:
        """A new place in main RAM."""
        strides = None
        if strided and self.rng.integers(2):
            strides = dense(tuple(n + self.number(0, 1) for n in shape))
            strides = None if strides == dense(shape) else strides
        found = Operand(Memory.MAIN, self.main, dtype, shape, strides)
        self.main += -(-found.size // 8) * 8
        return found

    def constant(self, array: np.ndarray[Any, Any]) -> Operand:
        self.constants += bytes(-len(self.constants) % 8)
        found = Operand(Memory.CONST, len(self.constants), DType(array.dtype.name), array.shape)
        self.constants += array.tobytes()
        return found

    def floats(self, *shape: int) -> np.ndarray[Any, Any]:
        return self.rng.standard_normal(shape).astype(np.float32)

    def clamp(self) -> o.Clamp:
        return CLAMPS[self.number(0, 2)]

    def add(self, step: Step, *results: Operand) -> None:
        self.steps.append(step)
        self.results += results or step.writes

    def program(self) -> Program:
        steps, outputs, position = list(self.steps), [], 0
        for r in self.results:
            out = Operand(Memory.OUTPUT, position, r.dtype, r.shape)
            position += -(-out.size // 8) * 8
            outputs.append(out)
            steps.append(o.CopyTensor(input=r, output=out))
        inputs = (
            Operand(Memory.INPUT, 0, F32, (2, FLOATS // 2)),
            Operand(Memory.INPUT, FLOATS * 4, U8, (2, BYTES // 2)),
        )
        return Program(
            version=5,
            inputs=inputs,
            outputs=tuple(outputs),
            steps=tuple(steps),
            main_bytes=self.main,
            constants=bytes(self.constants),
            input_bytes=FLOATS * 4 + BYTES,
            output_bytes=position,
        )


def arrays(seed: int = 0) -> list[np.ndarray[Any, Any]]:
    """Inputs for such programs."""
    rng = np.random.default_rng(seed)
    return [
        (rng.standard_normal((2, FLOATS // 2)) * 2).astype(np.float32),
        rng.integers(0, 256, (2, BYTES // 2), np.uint8),
    ]


def _elementwise(b_: Builder, dtype: DType, out: DType) -> dict[str, Operand]:
    shape = b_.shape(b_.number(1, 4))
    return {"input": b_.source(dtype, *shape, strided=True), "output": b_.target(out, *shape, strided=True)}


def _binary(m: Builder) -> None:
    shape = m.shape(m.number(1, 4))
    a, c = (tuple(1 if m.number(0, 3) == 0 else n for n in shape) for _ in range(2))
    out = np.broadcast_shapes(a, c)
    c = c[m.number(0, len(c) - 1) :] if len(out) == len(shape) and out == np.broadcast_shapes(a, c[-1:]) else c
    out = np.broadcast_shapes(a, c)
    op = list(o.BinaryOp)[m.number(0, 5)]
    m.add(
        o.Binary(
            input_a=m.source(F32, *a), input_b=m.source(F32, *c), output=m.target(F32, *out), op=op, clamp=m.clamp()
        )
    )


def _unary(m: Builder) -> None:
    ops = [
        o.UnaryOp.ABS,
        o.UnaryOp.CEIL,
        o.UnaryOp.FLOOR,
        o.UnaryOp.NEG,
        o.UnaryOp.ROUND,
        o.UnaryOp.SQUARE,
        o.UnaryOp.SIGN,
    ]
    m.add(o.Unary(**_elementwise(m, F32, F32), op=ops[m.number(0, len(ops) - 1)]))


def _quantize(m: Builder) -> None:
    io = _elementwise(m, F32, U8 if m.number(0, 2) else I8)
    if m.number(0, 3):
        m.add(o.QuantizeTensor(**io, scale=float(m.rng.uniform(0.004, 0.1)), zero_point=m.number(-20, 200)))
    else:
        m.add(o5.AffineQuantize(**io, multiplier=float(np.float32(m.rng.uniform(5, 99))), offset=12.25))


def _dequantize(m: Builder) -> None:
    io = _elementwise(m, U8, F32)
    if m.number(0, 3):
        scale = float(np.float32(m.rng.uniform(0.004, 0.1)))
        m.add(o.DequantizeTensor(**io, scale=scale, zero_point=m.number(0, 255)))
    else:
        m.add(o5.AffineDequantize(**io, multiplier=0.25, offset=0.0625))


def _requantize(m: Builder) -> None:
    m.add(Requantize(**_elementwise(m, U8, U8), table=m.rng.integers(0, 256, 256, np.uint8).tobytes()))


def _copy(m: Builder) -> None:
    dtype = (F32, U8)[m.number(0, 1)]
    m.add(o.CopyTensor(**_elementwise(m, dtype, dtype)))


def _concat(m: Builder) -> None:
    axis = m.number(0, 2)
    shapes = [list(m.shape(3))]
    shapes.append(list(shapes[0]))
    shapes[1][axis] = m.number(1, 5)
    whole = list(shapes[0])
    whole[axis] += shapes[1][axis]
    inputs = tuple(m.source(F32, *s) for s in shapes)
    m.add(o.ConcatTensors(inputs=inputs, output=m.target(F32, *whole), axis=axis))


def _transpose(m: Builder) -> None:
    dtype = (F32, U8)[m.number(0, 1)]
    shape = m.shape(m.number(2, 4), 9)
    perm = tuple(int(i) for i in m.rng.permutation(len(shape)))
    out = m.target(dtype, *(shape[i] for i in perm), strided=True)
    m.add(o.TransposeTensor(input=m.source(dtype, *shape, strided=True), output=out, perm=perm))


def _pad(m: Builder) -> None:
    dtype = (F32, U8)[m.number(0, 1)]
    shape = tuple(n + 1 for n in m.shape(m.number(2, 4), 5))
    mode = ("constant", "constant", "reflect", "symmetric", "edge")[m.number(0, 4)]
    interior: tuple[int, ...] = ()
    low = -1 if mode == "constant" else 0
    if mode == "constant" and m.number(0, 3) == 0:
        interior, low = (0,) * (len(shape) - 2) + (m.number(0, 2), m.number(1, 2)), 0
    pads = tuple((m.number(low, min(2, n - 1)), m.number(low if n > 2 else 0, min(2, n - 1))) for n in shape)
    between = tuple(n + (n - 1) * i for n, i in zip(shape, interior or (0,) * len(shape), strict=True))
    out = m.target(dtype, *(n + sum(p) for n, p in zip(between, pads, strict=True)))
    value = float(m.number(0, 9)) + (0.5 if dtype is F32 else 0)
    m.add(o.PadTensor(input=m.source(dtype, *shape), output=out, pads=pads, value=value, mode=mode, interior=interior))


def _slice(m: Builder) -> None:
    dtype = (F32, U8)[m.number(0, 1)]
    shape = m.shape(m.number(1, 4), 9)
    begin, end, stride, out = [], [], [], []
    for n in shape:
        first, last, step = m.number(0, n - 1), 0, m.number(1, 3)
        last = m.number(first + 1, n)
        if m.number(0, 5) == 0:
            first, last, step = last - 1, first - 1, -step
        begin.append(first), end.append(last), stride.append(step)
        out.append(-(-(last - first) // step))
    m.add(
        o.SliceTensor(
            input=m.source(dtype, *shape, strided=True),
            output=m.target(dtype, *out),
            begin=tuple(begin),
            end=tuple(end),
            stride=tuple(stride),
        )
    )


def _axes(m: Builder, rank: int) -> tuple[int, ...]:
    return tuple(sorted(int(i) for i in m.rng.permutation(rank)[: m.number(1, rank)]))


def _reduced(shape: tuple[int, ...], axes: tuple[int, ...], keep: bool) -> tuple[int, ...]:
    return tuple(1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes) or (1,)


def _reduce(m: Builder) -> None:
    shape = m.shape(m.number(1, 4), 9)
    axes, keep = _axes(m, len(shape)), bool(m.number(0, 1))
    op = list(o.ReduceOp)[m.number(0, 3)]
    out = m.target(F32, *_reduced(shape, axes, keep))
    m.add(o.Reduce(input=m.source(F32, *shape, strided=True), output=out, op=op, axes=axes, init=0.0, keep_dims=keep))


def _window(m: Builder, size: tuple[int, ...], kernel: tuple[int, int]) -> tuple[dict[str, Any], tuple[int, ...]]:
    pads = tuple((m.number(0, k // 2), m.number(0, k // 2)) for k in kernel)
    stride = (m.number(1, 2), m.number(1, 2))
    dilation = tuple(m.number(1, 2) if k > 1 and (k - 1) * 2 + 1 <= n else 1 for k, n in zip(kernel, size, strict=True))
    out = tuple(
        (n + sum(p) - (k - 1) * d - 1) // s + 1
        for n, p, k, d, s in zip(size, pads, kernel, dilation, stride, strict=True)
    )
    return {"pads": pads, "stride": stride, "dilation": dilation, "clamp": m.clamp()}, out


def _reduce_window(m: Builder) -> None:
    n, c, h, w = m.shape(2, 3) + tuple(x + 4 for x in m.shape(2, 9))
    kernel = (m.number(1, 5), m.number(1, 5))
    window, out = _window(m, (h, w), kernel)
    op = list(o.ReduceOp)[m.number(0, 3)]
    init = -o.FLT_MAX if op is o.ReduceOp.MAX else o.FLT_MAX if op is o.ReduceOp.MIN else 0.0
    source = m.source(F32, n, c, h, w, strided=True)
    m.add(o.ReduceWindow(input=source, output=m.target(F32, n, c, *out), op=op, kernel=kernel, init=init, **window))


def _conv(m: Builder) -> None:
    groups = m.number(1, 3)
    per, oc, n = m.number(1, 3), groups * m.number(1, 9), m.number(1, 2)
    h, w = m.number(5, 9), m.number(5, 24)
    kernel = (m.number(1, 3), m.number(1, 3))
    window, out = _window(m, (h, w), kernel)
    source = m.source(F32, n, groups * per, h, w, strided=True)
    weights, bias = m.floats(oc, per, *kernel), m.floats(oc)
    target = m.target(F32, n, oc, *out)
    if m.number(0, 3):
        m.add(o.Conv2D(input=source, output=target, weights=weights, bias=bias, groups=groups, **window))
    else:
        operands = {"weights": m.source(F32, *weights.shape), "bias": m.constant(bias)}
        m.add(o5.Conv2DFromMemory(input=source, output=target, groups=groups, **operands, **window))


def _matmul(m: Builder) -> None:
    rows, inner, columns = m.shape(3, 9)
    a, c, out = m.source(F32, rows, inner), m.source(F32, inner, columns), m.target(F32, rows, columns)
    if m.number(0, 2):
        m.add(o.MatMul(input_a=a, input_b=c, output=out, bias=m.floats(columns), clamp=m.clamp()))
    else:
        m.add(o5.MatMulFromMemory(input_a=a, input_b=c, output=out, bias=m.source(F32, columns), clamp=m.clamp()))


def _resize(m: Builder) -> None:
    dtype = (F32, U8)[m.number(0, 1)]
    n, c, h, w = m.shape(4, 6)
    out = m.target(dtype, n, c, m.number(1, 9), m.number(1, 9))
    mode = list(o.ResizeMode)[m.number(0, 1)]
    corners = bool(m.number(0, 1))
    half = not corners and bool(m.number(0, 1))
    source = m.source(dtype, n, c, h, w)
    m.add(o.ResizeImage(input=source, output=out, mode=mode, align_corners=corners, half_pixel_centers=half))


def _softmax(m: Builder) -> None:
    io = _elementwise(m, F32, F32)
    m.add(o.SoftmaxTensor(**io, axis=m.number(0, len(io["input"].shape) - 1), beta=(1.0, 0.5)[m.number(0, 1)]))


def _kpu(m: Builder) -> None:
    ic, oc, h, w = m.number(1, 6), m.number(1, 6), m.number(4, 9), m.number(4, 40)
    layer = b.kpu_layer(0, 4096, ic, oc, h, w, k=3 if m.number(0, 1) else 1, seed=m.number(0, 99))
    m.steps.append(KpuUpload(input=m.source(U8, ic, h, w), output=b.ai(0, ic, h, w)))
    main = m.target(U8, oc, h, w) if m.number(0, 1) else None
    m.steps.append(KpuConv(layer=layer, main_output=main))
    m.add(KpuDownload(input=b.ai(4096, oc, h, w), output=m.target(U8, oc, h, w)))
    m.results += [main] if main else []


def _more(m: Builder) -> None:
    """One of the operators that V5 alone has."""
    _MORE[m.number(0, len(_MORE) - 1)](m)


def _space(m: Builder) -> None:
    n, c, h, w = m.shape(4, 4)
    block = (m.number(1, 3), m.number(1, 3))
    pads = tuple((m.number(0, 2), 0) for _ in block)
    pads = tuple((p, -(x + p) % k) for x, (p, _), k in zip((h, w), pads, block, strict=True))
    padded = [x + sum(p) for x, p in zip((h, w), pads, strict=True)]
    out = m.target(F32, n * block[0] * block[1], c, padded[0] // block[0], padded[1] // block[1])
    m.add(o5.SpaceToBatch(input=m.source(F32, n, c, h, w), output=out, block=block, pads=pads))


def _batch(m: Builder) -> None:
    n, c, h, w = (x + 1 for x in m.shape(4, 3))
    block = (m.number(1, 2), m.number(1, 2))
    crops = tuple((m.number(0, 1), m.number(0, 0)) for _ in block)
    size = [x * k - sum(p) for x, k, p in zip((h, w), block, crops, strict=True)]
    source = m.source(F32, n * block[0] * block[1], c, h, w)
    m.add(o5.BatchToSpace(input=source, output=m.target(F32, n, c, *size), block=block, crops=crops))


def _broadcast(m: Builder) -> None:
    shape = m.shape(3)
    source = tuple(1 if m.number(0, 1) else n for n in shape)[m.number(0, 1) :]
    m.add(o5.Broadcast(input=m.source(F32, *source), output=m.target(F32, *shape)))


def _compare(m: Builder) -> None:
    shape = m.shape(3)
    op = list(o5.CompareOp)[m.number(0, 5)]
    dtype = (F32, U8)[m.number(0, 1)]
    a, c = m.source(dtype, *shape), m.source(dtype, *shape)
    m.add(o5.Compare(input_a=a, input_b=c, output=m.target(U8, *shape), op=op))


def _convert(m: Builder) -> None:
    m.add(o5.Convert(**_elementwise(m, U8, (F32, I32, I64)[m.number(0, 2)])))


def _cumsum(m: Builder) -> None:
    shape = m.shape(3)
    io = {"input": m.source(F32, *shape), "output": m.target(F32, *shape)}
    exclusive, reverse = bool(m.number(0, 1)), bool(m.number(0, 1))
    m.add(o5.CumSum(**io, axis=m.number(0, 2), exclusive=exclusive, reverse=reverse))


def _gather(m: Builder) -> None:
    shape, axis = m.shape(3), m.number(0, 2)
    index = m.rng.integers(0, shape[axis], m.shape(2, 4)).astype(np.int32)
    out = m.target(F32, *shape[:axis], *index.shape, *shape[axis + 1 :])
    m.add(o5.Gather(input=m.source(F32, *shape), indices=m.constant(index), output=out, axis=axis))


def _gather_nd(m: Builder) -> None:
    shape, depth = m.shape(3), m.number(1, 2)
    index = np.stack([m.rng.integers(0, shape[i], 4) for i in range(depth)], -1).astype(np.int32)
    out = m.target(F32, 4, *shape[depth:])
    m.add(o5.GatherNd(input=m.source(F32, *shape), indices=m.constant(index), output=out, batch_dims=0))


def _gather_elements(m: Builder) -> None:
    shape, axis = m.shape(3), m.number(0, 2)
    index = m.rng.integers(-shape[axis], shape[axis], shape).astype(np.int64)
    out = m.target(F32, *shape)
    m.add(o5.GatherElements(input=m.source(F32, *shape), indices=m.constant(index), output=out, axis=axis))


def _hardmax(m: Builder) -> None:
    shape = m.shape(3)
    m.add(o5.HardMax(input=m.source(F32, *shape), output=m.target(F32, *shape), axis=m.number(0, 2)))


def _layer_norm(m: Builder) -> None:
    shape, axis = m.shape(3), m.number(0, 2)
    scale, bias = (m.constant(m.floats(*shape[axis:])) for _ in range(2))
    io = {"input": m.source(F32, *shape), "output": m.target(F32, *shape)}
    m.add(o5.LayerNorm(**io, scale=scale, bias=bias, axis=axis, epsilon=float(np.float32(1e-5))))


def _one_hot(m: Builder) -> None:
    # as deep as an element of the numbers says too, which the vendor's kernel reads as 8 bytes
    index = m.rng.integers(0, 5, m.shape(2, 4)).astype(np.int32)
    axis = m.number(0, 2)
    depth, off, on = (m.constant(np.array([v], np.int64)) for v in (5, 3, 7))
    out = m.target(I64, *index.shape[:axis], 5, *index.shape[axis:])
    operands = {"depth": depth, "off": off, "on": on}
    m.add(o5.OneHot(indices=m.constant(index), output=out, axis=axis, negative_from_end=False, **operands))


def _reduce_arg(m: Builder) -> None:
    shape, axes, keep = m.shape(3, 9), (m.number(0, 2),), bool(m.number(0, 1))
    out = m.target((I32, I64)[m.number(0, 1)], *_reduced(shape, axes, keep))
    greatest, last = bool(m.number(0, 1)), bool(m.number(0, 1))
    source = m.source(F32, *shape)
    m.add(o5.ReduceArg(input=source, output=out, greatest=greatest, axes=axes, keep_dims=keep, last=last))


def _reduce_prod(m: Builder) -> None:
    shape = m.shape(3)
    axes, keep = _axes(m, 3), bool(m.number(0, 1))
    out = m.target(F32, *_reduced(shape, axes, keep))
    m.add(o5.ReduceProd(input=m.source(F32, *shape), output=out, axes=axes, keep_dims=keep))


def _sigmoid(m: Builder) -> None:
    m.add(o5.Sigmoid(**_elementwise(m, F32, F32)))


def _ternary(m: Builder) -> None:
    shape = m.shape(3)
    condition = m.constant((m.rng.random(shape) < 0.5).astype(np.float32))
    a, c = m.source(F32, *shape), m.source(F32, *shape)
    m.add(o5.Ternary(condition=condition, input_a=a, input_b=c, output=m.target(F32, *shape)))


def _top_k(m: Builder) -> None:
    shape, axis = m.shape(3, 9), m.number(0, 2)
    k = m.number(1, shape[axis])
    out = (*shape[:axis], k, *shape[axis + 1 :])
    values, indices = m.target(F32, *out), m.target(I64, *out)
    source = m.source(F32, *shape)
    largest = bool(m.number(0, 1))
    m.add(o5.TopK(input=source, output_values=values, output_indices=indices, k=k, axis=axis, largest=largest))


def _trilu(m: Builder) -> None:
    shape = m.shape(3)
    io = {"input": m.source(F32, *shape), "output": m.target(F32, *shape)}
    m.add(o5.Trilu(**io, upper=bool(m.number(0, 1)), k=m.number(-2, 2)))


_MORE: tuple[Callable[[Builder], None], ...] = (
    *(_space, _batch, _broadcast, _compare, _convert, _cumsum, _gather, _gather_nd, _gather_elements, _hardmax),
    *(_layer_norm, _one_hot, _reduce_arg, _reduce_prod, _sigmoid, _ternary, _top_k, _trilu),
)
COMMON: tuple[Callable[[Builder], None], ...] = (
    *(_binary, _unary, _quantize, _dequantize, _requantize, _copy, _concat, _transpose, _pad, _slice, _reduce),
    *(_reduce_window, _conv, _matmul, _resize, _softmax, _kpu),
)
MAKERS = {f.__name__.strip("_"): f for f in (*COMMON, *_MORE)}


def program(kinds: list[str], seed: int) -> Program:
    """A program with one step of each kind."""
    m = Builder(seed)
    for kind in kinds:
        MAKERS[kind](m)
    return m.program()
