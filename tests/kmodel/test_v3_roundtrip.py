"""write -> read -> write on generated programs."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import program_builders as b
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.errors import UnsupportedError
from openkpu.kmodel import program as p
from openkpu.kmodel import v3
from openkpu.kmodel.program import DType, Operand

MAIN = 4096
U8, F32 = DType.U8, DType.F32
size = st.integers(1, 6)
u32 = st.integers(0, 2**32 - 1)
i32 = st.integers(-(2**31), 2**31 - 1)
f32 = st.floats(width=32, allow_nan=False)


@st.composite
def main_operand(draw: Any, dtype: DType, *shape: int) -> Operand:
    room = MAIN - int(np.prod(shape)) * dtype.size
    return b.main(draw(st.integers(0, room)), dtype, *shape)


@st.composite
def cpu_step(draw: Any) -> p.Step:
    """Any CPU step that V3 has, with small random shapes, addresses and parameters."""
    kind = draw(st.sampled_from(KINDS))
    c, h, w = draw(size), draw(size), draw(size)
    n = c * h * w

    def op(dtype: DType, *shape: int) -> Operand:
        return draw(main_operand(dtype, *shape))

    flags = {"flags": draw(st.integers(0, 3))}
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    if kind is p.Add:
        return p.Add(**flags, input_a=op(F32, n), input_b=op(F32, n), output=op(F32, n))
    if kind is p.QuantizedAdd:
        terms = {t: p.QuantizedTerm(draw(i32), draw(i32), draw(st.integers(0, 63))) for t in "abo"}
        return p.QuantizedAdd(**flags, input_a=op(U8, n), input_b=op(U8, n), output=op(U8, n), **terms)
    if kind is p.GlobalAveragePool:
        return p.GlobalAveragePool(**flags, input=op(F32, c, h * w), output=op(F32, c))
    if kind in (p.QuantizedMaxPool, p.AveragePool):
        dtype = U8 if kind is p.QuantizedMaxPool else F32
        more = {"activation": draw(u32)} if kind is p.AveragePool else {}
        return kind(
            **flags,
            input=op(dtype, c, h, w),
            output=op(dtype, c, (h + 1) // 2, (w + 1) // 2),
            kernel=(2, 3),
            stride=(2, 2),
            padding=(1, 1),
            **more,
        )
    if kind in (p.Quantize, p.Dequantize):
        types = (F32, U8) if kind is p.Quantize else (U8, F32)
        return kind(**flags, input=op(types[0], n), output=op(types[1], n), scale=draw(f32), bias=draw(f32))
    if kind is p.Requantize:
        return p.Requantize(**flags, input=op(U8, n), output=op(U8, n), table=rng.bytes(256))
    if kind in (p.L2Normalization, p.Softmax, p.Logistic):
        return kind(**flags, input=op(F32, n), output=op(F32, n))
    if kind is p.Concat:
        inputs = tuple(op(U8, draw(size)) for _ in range(draw(size)))
        return p.Concat(
            **flags, inputs=inputs, output=op(U8, sum(i.size for i in inputs)), quantized=draw(st.booleans())
        )
    if kind is p.FullyConnected:
        return p.FullyConnected(
            **flags,
            input=op(F32, c),
            output=op(F32, h),
            weights=rng.normal(size=(h, c)).astype(np.float32),
            bias=rng.normal(size=h).astype(np.float32),
            activation=draw(st.sampled_from(p.Activation)),
        )
    if kind is p.Flatten:
        return p.Flatten(**flags, input=op(F32, c, h, w), output=op(F32, h, w, c))
    if kind is p.ResizeNearest:
        dtype = draw(st.sampled_from([DType.U8, DType.F32]))
        return p.ResizeNearest(
            **flags,
            input=op(dtype, c, h, w),
            output=op(dtype, c, draw(size), draw(size)),
            align_corners=draw(st.integers(0, 1)),
        )
    if kind is p.ChannelwiseDequantize:
        return p.ChannelwiseDequantize(
            **flags,
            input=op(U8, c, h * w),
            output=op(F32, c, h * w),
            scale=rng.normal(size=c).astype(np.float32),
            bias=rng.normal(size=c).astype(np.float32),
        )
    line = draw(st.integers(0, 32768 - 64))
    if kind is p.KpuAddPadding:
        return p.KpuAddPadding(**flags, input=op(U8, c), output=b.ai(line, c, 4, 4))
    if kind is p.KpuRemovePadding:
        return p.KpuRemovePadding(**flags, input=op(U8, c, 4, 4), output=op(U8, c))
    return p.KpuUpload(**flags, input=op(U8, c, h, w), output=b.ai(line, c, h, w))


KINDS = [
    p.Add,
    p.QuantizedAdd,
    p.GlobalAveragePool,
    p.QuantizedMaxPool,
    p.AveragePool,
    p.Quantize,
    p.Dequantize,
    p.Requantize,
    p.L2Normalization,
    p.Softmax,
    p.Logistic,
    p.Concat,
    p.FullyConnected,
    p.Flatten,
    p.ResizeNearest,
    p.ChannelwiseDequantize,
    p.KpuAddPadding,
    p.KpuRemovePadding,
    p.KpuUpload,
]


@st.composite
def conv_step(draw: Any, dtype: type) -> p.KpuConv:
    depthwise = draw(st.booleans())
    ic = draw(size)
    oc = ic if depthwise else draw(size)
    pool = draw(st.integers(0, 9))
    src, dst = draw(st.integers(0, 9000)), draw(st.integers(10000, 20000))
    return b.conv(
        src,
        dst,
        ic,
        oc,
        draw(st.integers(4, 9)),
        draw(st.integers(4, 70)),
        k=draw(st.sampled_from([1, 3])),
        depthwise=depthwise,
        pool=pool,
        dtype=dtype,
        seed=draw(st.integers(0, 9)),
        to_main=draw(st.sampled_from([None, 0, 64])),
    )


@st.composite
def programs(draw: Any) -> p.Program:
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    first = draw(st.one_of(conv_step(dtype), st.just(b.fully_connected(0, 100, 5, 3))))
    rest = draw(st.lists(st.one_of(cpu_step(), conv_step(dtype)), max_size=4))
    outputs = tuple(o for s in (first, *rest) for o in s.writes if o.memory is p.Memory.MAIN)[:3]
    return b.program(first, *rest, outputs=outputs, main_bytes=8192)


def described(value: Any) -> Any:
    """A comparable form; of an operand what the file says of it (counts, where there is no shape)."""
    if isinstance(value, Operand):
        return value.memory, value.start, value.dtype, value.elements
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if isinstance(value, tuple):
        return tuple(described(v) for v in value)
    if isinstance(value, p.KpuLayer):
        bn = described(value.batch_norm.encode())
        return value.registers, described(value.weights), bn, value.activation.encode()
    return value


def described_step(step: p.Step) -> Any:
    values = {f.name: described(getattr(step, f.name)) for f in fields(step)}
    if isinstance(step, p.KpuConv):
        values["flags"] = step.flags & ~1
    return type(step), values


@settings(max_examples=150, deadline=None)
@given(programs())
def test_round_trip(prog: p.Program) -> None:
    data = v3.write(prog)
    again = v3.read(data)
    assert [described_step(s) for s in again.steps] == [described_step(s) for s in prog.steps]
    assert [described(o) for o in again.inputs] == [described(o) for o in prog.inputs]
    assert [o.start for o in again.outputs] == [o.start for o in prog.outputs]
    assert again.main_bytes == prog.main_bytes
    assert v3.write(again) == data
    assert len(data) % 8 == 0


def test_every_cpu_layer_type_is_generated() -> None:
    from openkpu.kmodel.v3_layers import LAYER_TYPES

    assert {t.step for t in LAYER_TYPES} == set(KINDS)


def test_header_of_a_compiled_program() -> None:
    wide = v3.read(v3.write(b.program(b.conv(700, 900, 3, 4, 8, 8, to_main=0, dtype=np.uint16))))
    narrow = v3.read(v3.write(b.program(b.conv(700, 600, 3, 4, 8, 8, to_main=0))))
    floats = v3.read(v3.write(b.program(b.fully_connected(0, 64, 4, 2))))
    assert isinstance(wide.extra, v3.V3Extra)
    assert isinstance(narrow.extra, v3.V3Extra)
    assert isinstance(floats.extra, v3.V3Extra)
    assert (wide.extra.flags, narrow.extra.flags) == (0, 1)
    assert [x.extra.max_start_address for x in (wide, narrow, floats)] == [700, 600, 32768]


def test_shapes_follow_the_writer() -> None:
    """DEQUANTIZE has only a count in the file; its shape is that of the KPU layer before it."""
    first = b.conv(0, 600, 3, 4, 8, 10, to_main=0)
    second = p.Dequantize(input=b.main(0, U8, 320), output=b.main(320, F32, 320), scale=0.5, bias=-1.0)
    again = v3.read(v3.write(b.program(first, second)))
    assert again.outputs == (b.main(320, F32, 4, 8, 10),)


def test_byte_output_counted_as_floats() -> None:
    """nncase writes elements * 4 for every output; a KPU layer's is bytes all the same."""
    prog = b.program(b.conv(0, 600, 3, 4, 8, 10, to_main=0), main_bytes=320)
    extra = v3.V3Extra(flags=1, max_start_address=0, output_sizes=(1280,))
    prog = p.Program(version=3, inputs=prog.inputs, outputs=prog.outputs, steps=prog.steps, main_bytes=320, extra=extra)
    data = v3.write(prog)
    again = v3.read(data)
    assert again.outputs == (b.main(0, U8, 4, 8, 10),)
    assert v3.write(again) == data


def test_missing_last_pad_and_trailing_bytes() -> None:
    data = v3.write(b.program(b.fully_connected(0, 64, 4, 2)))
    assert data[-4:] == bytes(4)
    for other in (data[:-4], data + b"tail"):
        assert v3.write(v3.read(other)) == other


def test_write_refuses_what_v3_cannot_hold() -> None:
    mixed = b.program(b.conv(0, 600, 3, 4, 8, 8), b.conv(600, 0, 4, 4, 8, 8, dtype=np.uint16, to_main=0))
    with pytest.raises(UnsupportedError, match="E235"):
        v3.write(mixed)
    far = b.program(b.conv(0, 600, 3, 4, 8, 8, bn_mul=1 << 24, to_main=0))
    with pytest.raises(UnsupportedError, match=r"E237.*\n.*step 0"):
        v3.write(far)
