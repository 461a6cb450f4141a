"""write -> read -> write on generated V4 programs, and files laid out otherwise than we write them."""

from __future__ import annotations

import struct
from dataclasses import fields, replace
from typing import Any

import numpy as np
import program_builders as b
import pytest
import v4_builders
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.errors import OpenKPUError, UnsupportedError
from openkpu.kmodel import operators as t
from openkpu.kmodel import program as p
from openkpu.kmodel import v4
from openkpu.kmodel.program import DType, KpuConv, Memory, Operand, Program
from openkpu.kmodel.v4_ops import OP_TYPES
from openkpu.runtime.session import Session

U8, F32 = DType.U8, DType.F32


def same(a: Any, b: Any) -> bool:
    """Equality of steps and what they hold; operands may gain the shape of whoever wrote them."""
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
    if isinstance(a, Operand):
        return (a.memory, a.start, a.dtype, a.elements) == (b.memory, b.start, b.dtype, b.elements)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "__dataclass_fields__"):
        skip = {"cache", "axis", "name"}
        return type(a) is type(b) and all(
            same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.name not in skip
        )
    return bool(a == b)


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_generated_programs_come_back(seed: int) -> None:
    program = v4_builders.every_operator(seed)
    data = v4.write(program)
    again = v4.read(data)
    assert isinstance(again.extra, v4.V4Extra)
    assert again.extra.leftovers == ()
    assert again.extra.gaps == ()
    assert again.extra.trailing == b""
    assert again.main_bytes == program.main_bytes
    for one, other in zip(program.steps, again.steps, strict=True):
        assert same(one, other), (one, other)
    assert [same(*pair) for pair in zip(program.inputs, again.inputs, strict=True)] == [True] * 6
    assert [(o.start, o.dtype, o.size) for o in again.outputs] == [(o.start, o.dtype, o.size) for o in program.outputs]
    assert v4.write(again) == data


def test_the_builder_has_every_operator() -> None:
    kinds = {type(s) for s in v4_builders.every_operator(0).steps}
    assert kinds == {o.step for o in OP_TYPES} | {KpuConv, p.Requantize}


def small() -> Program:
    """A KPU layer from a KPU input, a table, a dequantise."""
    conv = b.conv(0, 600, 3, 4, 8, 8, k=3, pool=1, to_main=0)
    table = p.Requantize(input=b.main(0, U8, 4, 4, 4), output=b.main(64, U8, 4, 4, 4), table=bytes(range(255, -1, -1)))
    real = t.DequantizeTensor(input=b.main(64, U8, 4, 4, 4), output=b.main(128, F32, 4, 4, 4), scale=0.5, zero_point=3)
    return Program(
        version=4,
        inputs=(b.ai(0, 3, 8, 8),),
        outputs=(b.main(128, F32, 4, 4, 4),),
        steps=(conv, table, real),
        main_bytes=384,
    )


def test_layout() -> None:
    """The bytes of a small file, field by field, as the format's description says."""
    data = v4.write(small())
    assert data[:4] == b"LDMK"
    assert struct.unpack_from("<9I", data, 4) == (4, 0, 1, 256, 384, 3, 1, 1, 0)
    assert struct.unpack_from("<4I", data, 40) == (2, 1, 0, 8 * 64)  # AI RAM, uint8, whole lines
    assert struct.unpack_from("<4i", data, 56) == (1, 3, 8, 8)
    assert struct.unpack_from("<4I", data, 72) == (1, 0, 128, 256)
    assert data[88 : 88 + 256] == bytes(range(255, -1, -1))
    opcodes = struct.unpack_from("<6I", data, 344)
    assert opcodes[::2] == (0x2002, 0x12, 0x03)
    body = 368
    assert struct.unpack_from("<4I2i", data, body) == (1, 1, 0, 64, 1, 0)
    registers = struct.unpack_from("<12Q", data, body + 24)
    norm = body + 120 + (registers[4] >> 32)
    table = norm + 4 * 8 + (registers[7] >> 32)
    weights = table + 144 + (registers[5] >> 32)
    assert [at % 256 for at in (norm, table, weights)] == [0, 0, 0]
    layer = small().steps[0].layer  # type: ignore[attr-defined]
    assert data[weights : weights + 108] == layer.weights.tobytes()
    lookup = body + opcodes[1]
    assert lookup % 8 == 0
    assert struct.unpack_from("<12I", data, lookup) == (1, 1, 0, 64, 0, 1, 0, 256, 1, 1, 64, 64)
    real = lookup + opcodes[3]
    assert struct.unpack_from("<8If", data, real + 0)[:4] == (1, 1, 64, 64)
    assert struct.unpack_from("<if", data, real + 32) == (3, 2.0)
    assert len(data) == real + 40


def test_outputs_take_the_shape_of_their_writer() -> None:
    program = v4.read(v4.write(small()))
    assert program.outputs == (b.main(128, F32, 4, 4, 4),)
    # an output that no step wrote as a whole is a vector
    part = replace(small(), outputs=(b.main(132, F32, 5),))
    assert v4.read(v4.write(part)).outputs == (b.main(132, F32, 5),)


def test_other_alignments_and_garbage_come_back() -> None:
    program = small()
    gaps = ((0, (8, 16, 40)),)
    odd = replace(program, extra=v4.V4Extra(reserved0=0xCCCCCCCC, flags=7, target=0, gaps=gaps, trailing=b"\xff" * 99))
    data = v4.write(odd)
    again = v4.read(data)
    assert again.extra == replace(odd.extra, tables=((1, 0),))  # type: ignore[type-var]
    assert v4.write(again) == data
    results = [Session(x).run(np.full((3, 8, 8), 77, np.uint8))[0] for x in (program, again)]
    np.testing.assert_array_equal(*results)


def test_bytes_that_mean_nothing_come_back() -> None:
    data = bytearray(v4.write(small()))
    registers = struct.unpack_from("<12Q", data, 368 + 24)
    assert registers[4] >> 32 > 4
    data[368 + 120 + 2] = 0x5A  # in the gap before the batch norm
    data[368 + 20] = 9  # reserved0 of the body
    data[72 + 12] ^= 0  # unchanged
    struct.pack_into("<I", data, 52, 4096)  # the input's size: the runtime goes by the shape
    again = v4.read(bytes(data))
    assert isinstance(again.extra, v4.V4Extra)
    assert {leftover.part for leftover in again.extra.leftovers} == {-1, 0}
    assert v4.write(again) == bytes(data)


@pytest.mark.parametrize("missing", [1, 4, 7])
def test_the_last_padding_may_be_missing(missing: int) -> None:
    program = replace(
        small(),
        steps=(*small().steps, t.Unary(input=b.main(128, F32, 4), output=b.main(128, F32, 4), op=t.UnaryOp.NEG)),
    )
    data = v4.write(program)  # the last body has 36 bytes and 4 of padding
    again = v4.read(data[:-4])
    assert v4.write(again) == data[:-4]
    if missing > 4:
        with pytest.raises(OpenKPUError, match=r"E11[12]"):
            v4.read(data[:-missing])


def test_tables_are_kept_where_they_are_and_new_ones_appended() -> None:
    program = replace(small(), constants=b"abc")
    data = v4.write(program)
    again = v4.read(data)
    assert again.constants == b"abc" + bytes(5) + bytes(range(255, -1, -1))
    assert again.extra.tables == ((1, 8),)  # type: ignore[union-attr]
    changed = replace(again.steps[1], table=bytes(256))  # type: ignore[call-arg]
    other = v4.read(v4.write(replace(again, steps=(again.steps[0], changed, again.steps[2]))))
    assert other.steps[1].table == bytes(256)  # type: ignore[attr-defined]
    assert other.constants[8:264] == bytes(range(255, -1, -1))


def test_what_v4_cannot_hold() -> None:
    x, y = b.main(0, F32, 4), b.main(16, F32, 4)
    cases: list[tuple[str, p.Step]] = [
        ("E233", p.Add(input_a=x, input_b=x, output=y)),
        ("E237", t.SoftmaxTensor(input=b.main(0, F32, 2, 2), output=b.main(16, F32, 2, 2), axis=0)),
        ("E237", t.Unary(input=x, output=y, op=t.UnaryOp.TANH)),
        ("E237", t.PadTensor(input=x, output=b.main(16, F32, 6), pads=((1, 1),), mode="edge")),
        ("E237", t.CopyTensor(input=Operand(Memory.MAIN, 0, F32, (2,), (2,)), output=y)),
        ("E237", t.CopyTensor(input=Operand(Memory.INPUT, 0, F32, (2,)), output=y)),
        ("E235", b.conv(0, 600, 3, 4, 8, 8, dtype=np.uint16)),
    ]
    for code, step in cases:
        with pytest.raises(UnsupportedError) as caught:
            v4.write(Program(version=4, inputs=(x,), outputs=(y,), steps=(step,), main_bytes=64))
        assert caught.value.code == code


def test_same_program_same_bytes() -> None:
    assert v4.write(v4_builders.every_operator(3)) == v4.write(v4_builders.every_operator(3))
