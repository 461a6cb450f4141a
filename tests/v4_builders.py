"""V4 programs that use every operator of the runtime, with random shapes and parameters, for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import program_builders as b

from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as v4
from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType, Memory, Operand, Program, QuantizedTerm, Step
from openkpu.kmodel.v4_ops_elementwise import UNARY_OPS

U8, F32 = DType.U8, DType.F32


@dataclass
class Builder:
    """Collects steps; every result gets a place of its own in main RAM and is an output of the program."""

    rng: np.random.Generator
    stop: int = 0
    steps: list[Step] = field(default_factory=list)
    inputs: list[Operand] = field(default_factory=list)

    def new(self, dtype: DType, *shape: int) -> Operand:
        operand = b.main(self.stop, dtype, *shape)
        self.stop = -(-operand.stop // 8) * 8
        return operand

    def input(self, dtype: DType, *shape: int) -> Operand:
        operand = self.new(dtype, *shape)
        self.inputs.append(operand)
        return operand

    def add(self, step: Step) -> None:
        self.steps.append(step)

    def floats(self, *shape: int) -> np.ndarray[Any, Any]:
        return self.rng.normal(size=shape).astype(np.float32)

    def bytes(self, *shape: int) -> np.ndarray[Any, Any]:
        return self.rng.integers(0, 256, shape).astype(np.uint8)

    def int(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def term(self) -> QuantizedTerm:
        return QuantizedTerm(self.int(-128, 128), self.int(1, 1 << 14), self.int(0, 14))

    def program(self, constants: bytes = b"") -> Program:
        outputs = [o for s in self.steps for o in s.writes if o.memory is Memory.MAIN]
        return Program(
            version=4,
            inputs=tuple(_three(o) for o in self.inputs),
            outputs=tuple(_three(o) for o in outputs),
            steps=tuple(self.steps),
            main_bytes=self.stop,
            constants=constants,
        )


def _three(o: Operand) -> Operand:
    return Operand(o.memory, o.start, o.dtype, o.shape[1:]) if len(o.shape) == 4 and o.shape[0] == 1 else o


def every_operator(seed: int) -> Program:
    """Every operator of V4 at least once; shapes and parameters follow the seed."""
    q = Builder(np.random.default_rng(seed))
    n, c, h, w = 1, 2 * q.int(1, 3), q.int(4, 9), q.int(4, 9)
    x, x2 = q.input(F32, n, c, h, w), q.input(F32, n, c, h, w)
    u, u2 = q.input(U8, n, c, h, w), q.input(U8, n, c, h, w)
    row = q.input(F32, 1, 1, 1, w)
    byte_row = q.input(U8, 1, 1, 1, w)
    constants = q.floats(c).tobytes()
    constants += bytes(-len(constants) % 8)
    each = Operand(Memory.CONST, 0, F32, (1, c, 1, 1))
    clamp = (-0.5, 1.0)
    for op in list(t.BinaryOp)[:6]:
        for other in (x2, row, each):
            q.add(t.Binary(input_a=x, input_b=other, output=q.new(F32, n, c, h, w), op=op))
        terms = {name: q.term() for name in "abo"}
        for other8 in (u2, byte_row):
            q.add(v4.QuantizedBinary(input_a=u, input_b=other8, output=q.new(U8, n, c, h, w), op=op, **terms))
    q.add(t.Binary(input_a=x, input_b=x2, output=q.new(F32, n, c, h, w), op=t.BinaryOp.ADD, clamp=clamp))
    q.add(t.ConcatTensors(inputs=(x, x2), output=q.new(F32, n, 2 * c, h, w), axis=1))
    q.add(t.ConcatTensors(inputs=(u, u2, u), output=q.new(U8, n, c, h, 3 * w), axis=3))
    _windows(q, x, u, clamp)
    scale = 1 / q.int(1, 100)
    q.add(t.QuantizeTensor(input=x, output=q.new(U8, *x.shape), scale=scale, zero_point=q.int(-300, 300)))
    q.add(t.DequantizeTensor(input=u, output=q.new(F32, *u.shape), scale=scale, zero_point=q.int(-300, 300)))
    left, right = b.main(x.start, F32, h, w), b.main(x2.start, F32, w, c)
    q.add(t.MatMul(input_a=left, input_b=right, output=q.new(F32, h, c), bias=q.floats(c), clamp=clamp))
    left, right = b.main(u.start, U8, h, w), b.main(u2.start, U8, w, c)
    bias = q.rng.integers(-999, 999, c).astype(np.int32)
    offsets = {"a_offset": q.int(-255, 0), "b_offset": q.int(-255, 0)}
    q.add(v4.QuantizedMatMul(input_a=left, input_b=right, output=q.new(U8, h, c), bias=bias, o=q.term(), **offsets))
    _movement(q, x, u)
    for op in t.ReduceOp:
        for axes in ((1,), (2, 3), (0, 1, 2, 3)):
            shape = tuple(1 if i in axes else d for i, d in enumerate(x.shape))
            axes = tuple(i for i in axes if x.shape[i] > 1)
            q.add(t.Reduce(input=x, output=q.new(F32, *shape), op=op, axes=axes, init=float(np.float32(0.25))))
    q.add(t.SoftmaxTensor(input=left_of(x, h, w), output=q.new(F32, h, w), axis=1, beta=1.5))
    for function in UNARY_OPS:
        q.add(t.Unary(input=x, output=q.new(F32, *x.shape), op=function))
    table = q.bytes(256).tobytes()
    q.add(p.Requantize(input=u, output=q.new(U8, *u.shape), table=table))
    q.add(t.PadTensor(input=u, output=q.new(U8, 1, c, h, 256), pads=((0, 0),) * 3 + ((0, 256 - w),), value=7))
    q.add(v4.TableLookup(input=u, table=b.main(q.steps[-1].writes[0].start, U8, 256), output=q.new(U8, *u.shape)))
    code = bytes.fromhex(
        "03 01 45 03 26 44 04 05 80 06 0000803e 42 03 29 40 A0"
    )  # clamp(min(max(x, x), -x), 0, 1) / 4 + x * x
    q.add(v4.NnilUnary(input=x, output=q.new(F32, *x.shape), code=code))
    _kpu(q, u, u2)
    return q.program(constants)


def left_of(o: Operand, *shape: int) -> Operand:
    return Operand(o.memory, o.start, o.dtype, shape)


def _windows(q: Builder, x: Operand, u: Operand, clamp: tuple[float, float]) -> None:
    """Convolutions and poolings with channels first and last."""
    n, c, h, w = x.shape
    for groups in (1, 2, c):
        kernel, stride, dilation = ((q.int(1, 3), q.int(1, 3)) for _ in range(3))
        stride, dilation = (q.int(1, 2), q.int(1, 2)), (q.int(1, 2), q.int(1, 2))
        pads = ((q.int(-1, 3), q.int(1, 3)), (q.int(0, 3), q.int(1, 3)))
        oh, ow = (
            (s + sum(pd) - (k - 1) * d - 1) // st + 1
            for s, pd, k, d, st in zip((h, w), pads, kernel, dilation, stride, strict=True)
        )
        if oh < 1 or ow < 1:
            kernel, stride, dilation, pads, oh, ow = (1, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), h, w
        window: dict[str, Any] = {"pads": pads, "stride": stride, "dilation": dilation}
        oc = 2 * c
        fixed = {"input_offset": q.int(-255, 0), "filter_offset": q.int(-255, 0), "o": q.term()}
        weights, bias = q.floats(oc, c // groups, *kernel), q.floats(oc)
        q.add(
            t.Conv2D(
                input=x,
                output=q.new(F32, n, oc, oh, ow),
                weights=weights,
                bias=bias,
                groups=groups,
                clamp=clamp,
                **window,
            )
        )
        bytes_, bias32 = q.bytes(oc, c // groups, *kernel), q.rng.integers(-99999, 99999, oc).astype(np.int32)
        q.add(
            v4.QuantizedConv2D(
                input=u, output=q.new(U8, n, oc, oh, ow), weights=bytes_, bias=bias32, groups=groups, **window, **fixed
            )
        )
        for op in t.ReduceOp:
            q.add(
                t.ReduceWindow(
                    input=x, output=q.new(F32, n, c, oh, ow), op=op, kernel=kernel, init=0.5, clamp=clamp, **window
                )
            )
        spread = tuple(
            (s - 1) * st + (k - 1) * d + 1 for s, st, k, d in zip((h, w), stride, kernel, dilation, strict=True)
        )
        size = tuple(max(1, s - max(sum(pd), 0)) for s, pd in zip(spread, pads, strict=True))
        shape = (n, oc, *size)
        if all(s + sum(pd) >= (k - 1) * d + 1 for s, pd, k, d in zip(size, pads, kernel, dilation, strict=True)):
            q.add(
                t.Conv2DTranspose(
                    input=x, output=q.new(F32, *shape), weights=weights, bias=bias, groups=groups, clamp=clamp, **window
                )
            )
        last, last8 = left_of(x, n, h, w, c), left_of(u, n, h, w, c)
        dense, depth = q.floats(oc, *kernel, c), q.floats(c, *kernel)
        q.add(
            v4.NhwcConv2D(input=last, output=q.new(F32, n, oh, ow, oc), weights=dense, bias=bias, clamp=clamp, **window)
        )
        q.add(
            v4.NhwcDepthwiseConv2D(
                input=last, output=q.new(F32, n, oh, ow, c), weights=depth, bias=bias[:c], clamp=clamp, **window
            )
        )
        for op in list(t.ReduceOp)[:3]:
            q.add(
                v4.NhwcReduceWindow(
                    input=last, output=q.new(F32, n, oh, ow, c), op=op, kernel=kernel, init=0.5, clamp=clamp, **window
                )
            )
        fixed |= {"input_offset": q.int(0, 255), "filter_offset": q.int(0, 255)}
        dense8, depth8 = q.bytes(oc, *kernel, c), q.bytes(c, *kernel)
        q.add(
            v4.NhwcQuantizedConv2D(
                input=last8, output=q.new(U8, n, oh, ow, oc), weights=dense8, bias=bias32, **window, **fixed
            )
        )
        q.add(
            v4.NhwcQuantizedDepthwiseConv2D(
                input=last8, output=q.new(U8, n, oh, ow, c), weights=depth8, bias=bias32[:c], **window, **fixed
            )
        )


def _movement(q: Builder, x: Operand, u: Operand) -> None:
    """Pad, copy, resize, transpose, slice, of both types."""
    n, c, h, w = x.shape
    pads = ((0, 0), (1, -1), (-2, 1), (q.int(0, 2), q.int(-1, 2)))
    padded = tuple(d + before + after for d, (before, after) in zip(x.shape, pads, strict=True))
    perm = tuple(int(i) for i in q.rng.permutation(4))
    begin, end, stride = (0, 0, h - 1, 1), (1, c, -1, w), (1, q.int(1, 2), -q.int(1, 2), q.int(1, 3))
    cut = tuple(len(range(*part)) for part in zip(begin, end, stride, strict=True))
    for o in (x, u):
        q.add(t.PadTensor(input=o, output=q.new(o.dtype, *padded), pads=pads, value=3.0))
        q.add(t.TransposeTensor(input=o, output=q.new(o.dtype, *(o.shape[i] for i in perm)), perm=perm))
        q.add(t.SliceTensor(input=o, output=q.new(o.dtype, *cut), begin=begin, end=end, stride=stride))
        for mode in t.ResizeMode:
            for corners in (False, True):
                target = q.new(o.dtype, n, c, q.int(1, 12), q.int(1, 12))
                q.add(t.ResizeImage(input=o, output=target, mode=mode, align_corners=corners))
    q.add(t.CopyTensor(input=x, output=q.new(F32, *x.shape)))


def _kpu(q: Builder, u: Operand, u2: Operand) -> None:
    """An upload and KPU layers, one of them on a batch of two."""
    _, c, h, w = u.shape
    q.add(p.KpuUpload(input=left_of(u, c, h, w), output=b.ai(0, c, h, w)))
    q.add(b.conv(0, 4000, c, 8, h, w, k=3, pool=1, seed=q.int(0, 99), bn_mul=40))
    pair = q.new(U8, 2, c, h, w)
    q.add(t.ConcatTensors(inputs=(u, u2), output=pair, axis=0))
    q.add(p.KpuUpload(input=pair, output=Operand(Memory.AI, 64 * 8000, U8, (2, c, h, w))))
    layer = b.kpu_layer(8000, 12000, c, 8, h, w, k=1, seed=q.int(0, 99), bn_mul=40)
    q.add(p.KpuConv(layer=layer, batches=2, main_output=q.new(U8, 2, *layer.output_shape)))
