"""Damaged and hostile V4 files: always an OpenKPUError (or a model that runs), in bounded time and memory."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import program_builders as b
import pytest
import v4_builders
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu import load
from openkpu.errors import OpenKPUError
from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as o4
from openkpu.kmodel import program as p
from openkpu.kmodel import v4
from openkpu.kmodel.detect import byteswap
from openkpu.kmodel.program import DType, Program

U8, F32 = DType.U8, DType.F32


def sample() -> bytes:
    """One step of every operator."""
    program = v4_builders.every_operator(1)
    steps = {type(s): s for s in program.steps}
    return v4.write(v4.replace(program, steps=tuple(steps.values())))


SAMPLE = sample()
INTERESTING = [0, 1, 7, 255, 4096, 65535, 1 << 20, 1 << 26, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]


def run_or_refuse(data: bytes) -> str:
    """Load and run; return the error's code, or "" when it ran. Anything but an OpenKPUError fails the test."""
    try:
        model = load(data)
        model.run(*(np.zeros(o.shape, o.dtype.numpy) for o in model.inputs), engine="reference")
        code = ""
    except OpenKPUError as error:
        code = error.code if error.what and error.fix else "a message without what or fix"
    return code


def test_the_sample_runs() -> None:
    assert run_or_refuse(SAMPLE) == ""


@pytest.mark.parametrize("length", [*range(1, 3000, 97), *range(3000, len(SAMPLE) - 8, 1777), len(SAMPLE) - 8])
def test_truncation(length: int) -> None:
    assert run_or_refuse(SAMPLE[:length]) in ({"E101"} if length < 8 else {"E111", "E112"})


HEAD = 40 + 6 * 32
"""Header and inputs: where a change does most."""


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_mutated_bytes(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SAMPLE)
    for position, value in changes:
        data[position] = value
    assert run_or_refuse(bytes(data)) != "a message without what or fix"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(SAMPLE) // 4 - 1), st.sampled_from(INTERESTING))
def test_mutated_words(word: int, value: int) -> None:
    data = bytearray(SAMPLE)
    struct.pack_into("<I", data, word * 4, value)
    assert run_or_refuse(bytes(data)) != "a message without what or fix"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, HEAD // 4 - 1), st.sampled_from(INTERESTING))
def test_mutated_head(word: int, value: int) -> None:
    data = bytearray(SAMPLE)
    struct.pack_into("<I", data, word * 4, value)
    assert run_or_refuse(bytes(data)) != "a message without what or fix"


@pytest.mark.parametrize(
    ("offset", "value", "code"),
    [
        (12, 2, "E251"),
        (16, 1 << 31, "E111"),
        (20, 1 << 31, "E310"),
        (24, 0, "E116"),
        (24, 1 << 31, "E116"),
        (28, 0, "E116"),
        (32, 1 << 20, "E116"),
        (40, 3, "E130"),
        (44, 2, "E131"),
        (48, 1 << 30, "E114"),
    ],
)
def test_header_fields(offset: int, value: int, code: str) -> None:
    data = bytearray(SAMPLE)
    struct.pack_into("<I", data, offset, value)
    assert run_or_refuse(bytes(data)) == code


def one(step: p.Step, **more: object) -> bytearray:
    """A file of one step; the body is the last thing in it."""
    return bytearray(
        v4.write(
            Program(
                version=4, inputs=(b.main(0, F32, 64),), outputs=(b.main(256, F32, 4),), steps=(step,), main_bytes=2048
            )
        )
    )


X, Y = b.main(0, F32, 1, 2, 4, 4), b.main(256, F32, 1, 2, 4, 4)
UNARY = one(t.Unary(input=X, output=Y, op=t.UnaryOp.ABS))
BINARY = one(t.Binary(input_a=X, input_b=X, output=Y, op=t.BinaryOp.ADD))
SLICE = one(t.SliceTensor(input=X, output=Y, begin=(0, 0, 0, 0), end=(1, 2, 4, 4), stride=(1, 1, 1, 1)))
PERM = one(t.TransposeTensor(input=X, output=Y, perm=(0, 1, 2, 3)))
NNIL = one(o4.NnilUnary(input=X, output=Y, code=bytes.fromhex("03 21 A0")))
QUANTIZE = one(t.QuantizeTensor(input=X, output=b.main(256, U8, 1, 2, 4, 4), scale=0.5, zero_point=0))
MEAN = one(t.Reduce(input=X, output=b.main(256, F32, 1, 2, 1, 1), op=t.ReduceOp.MEAN, axes=(2, 3), init=0.0))
WEIGHTS = np.ones((2, 2, 3, 3), np.float32)
CONV = one(
    t.Conv2D(
        input=X,
        output=Y,
        weights=WEIGHTS,
        bias=np.zeros(2, np.float32),
        groups=1,
        pads=((1, 1), (1, 1)),
        stride=(1, 1),
        dilation=(1, 1),
    )
)
BODY = 40 + 48 + 8
"""Where the only body of these files starts."""


@pytest.mark.parametrize(
    ("file", "offset", "value", "code"),
    [
        (UNARY, BODY - 8, 0x15, "E250"),  # an unknown opcode
        (UNARY, BODY + 32, 10, "E250"),  # an unknown function
        (UNARY, BODY + 0, 2, "E252"),  # reads AI RAM
        (UNARY, BODY + 16, 0, "E252"),  # writes the constants
        (UNARY, BODY + 0, 0, "E132"),  # reads constants that are not there
        (UNARY, BODY + 12, 0, "E113"),
        (UNARY, BODY + 24, 2048, "E114"),
        (BINARY, BODY + 48, 6, "E250"),
        (BINARY, BODY + 52, 3, "E115"),  # 3 does not broadcast to 1
        (SLICE, BODY + 32 + 16 * 3 + 12, 0, "E115"),  # a stride of 0 never ends
        (SLICE, BODY + 32 + 16 * 2 + 12, 5, "E115"),  # beyond the end
        (PERM, BODY + 48, 1, "E115"),
        (NNIL, BODY + 32, 0xFF, "E134"),
        (NNIL, BODY + 32, 0x20, "E134"),  # takes a value from an empty stack
        (QUANTIZE, BODY + 36, 0, "E115"),
        (MEAN, BODY + 12, 64, "E135"),
        (CONV, BODY + 48, 0, "E115"),  # groups
        (CONV, BODY + 48, 3, "E115"),
        (CONV, BODY + 52, 60000, "E114"),  # output channels: the result does not fit
        (CONV, BODY + 72, 1 << 30, "E115"),  # the filter
        (CONV, BODY + 80, 0, "E115"),  # the stride
        (CONV, BODY + 56, 1 << 31, "E115"),  # the padding
    ],
)
def test_one_wrong_field(file: bytearray, offset: int, value: int, code: str) -> None:
    data = bytearray(file)
    assert run_or_refuse(bytes(data)) == ""
    if file is NNIL:
        data[offset] = value
    else:
        struct.pack_into("<I", data, offset, value)
    assert run_or_refuse(bytes(data)) == code


def test_messages_name_node_operator_and_offset() -> None:
    data = bytearray(UNARY)
    struct.pack_into("<I", data, BODY + 32, 10)
    with pytest.raises(OpenKPUError) as caught:
        load(bytes(data))
    assert "node 0 (unary)" in caught.value.where
    assert f"file offset {BODY}" in caught.value.where
    assert "never returns" in caught.value.why


def test_work_is_limited() -> None:
    size = b.main(0, F32, 1, 1, 1024, 1024)
    step = t.ReduceWindow(
        input=size,
        output=size,
        op=t.ReduceOp.MAX,
        pads=((2500, 2500), (2500, 2500)),
        kernel=(5001, 5001),
        stride=(1, 1),
        dilation=(1, 1),
        init=0.0,
    )
    program = Program(version=4, inputs=(size,), outputs=(size,), steps=(step,), main_bytes=1 << 22)
    with pytest.raises(OpenKPUError, match="E236"):
        load(v4.write(program))


def test_memory_is_bounded() -> None:
    """Sizes near 2**31 are refused before anything of that size is made."""
    conv = bytearray(CONV)
    for offset in (32, 36, 40, 44, 52, 72, 76):
        struct.pack_into("<I", conv, BODY + offset, 46340)
    tracemalloc.start()
    assert run_or_refuse(bytes(conv)) in {"E113", "E114", "E115", "E236"}
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()


def test_a_long_gap_of_garbage_is_kept_in_one_piece() -> None:
    layer = b.conv(0, 600, 3, 4, 8, 8, to_main=0)
    program = Program(
        version=4, inputs=(b.ai(0, 3, 8, 8),), outputs=(b.main(0, U8, 4, 8, 8),), steps=(layer,), main_bytes=256
    )
    data = bytearray(v4.write(v4.replace(program, extra=v4.V4Extra(gaps=((0, (1 << 16, 0, 0)),)))))
    body = 40 + 48 + 8
    for i in range(0, 1 << 16, 2):
        data[body + 120 + i] = 1
    again = v4.read(bytes(data))
    assert len(again.extra.leftovers[0].runs) == 1  # type: ignore[union-attr]
    assert v4.write(again) == bytes(data)


def test_byte_swapped_files_are_named() -> None:
    with pytest.raises(OpenKPUError, match=r"E101.*byte-swapped"):
        load(byteswap(SAMPLE))


def test_reading_something_else() -> None:
    with pytest.raises(OpenKPUError, match="E110"):
        v4.read(b"\3\0\0\0" + bytes(40))
