"""Runs that nobody watches give what the steps one by one give, and leave out what nobody reads."""

from __future__ import annotations

import numpy as np
import program_builders as b
import pytest
import v5_builders
import v5_chains
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_checks import assert_same, pictures

from openkpu.kmodel import operators as o
from openkpu.kmodel.program import DType, KpuDownload, KpuUpload, Memory, Operand, Program
from openkpu.runtime import plan
from openkpu.runtime.session import Session

native = pytest.importorskip("openkpu._native", reason="the native kernels are not built")


@settings(max_examples=250)
@given(st.integers(0, 2**32 - 1), st.integers(3, 40))
def test_chains_of_steps(seed: int, steps: int) -> None:
    program = v5_chains.program(seed, steps)
    assert_same(program, *((picture,) for picture in pictures(program, seed, 2)))


@settings(max_examples=60)
@given(st.lists(st.sampled_from(sorted(v5_builders.MAKERS)), min_size=1, max_size=4), st.integers(0, 10**6))
def test_every_operator(kinds: list[str], seed: int) -> None:
    program = v5_builders.program(kinds, seed)
    assert_same(program, tuple(v5_builders.arrays()))


def requantized() -> Program:
    """What lies between two KPU layers: download, dequantise, quantise with another scale, upload, and once more."""
    n = 8 * 14 * 14
    shape = (1, 8, 14, 14)
    byte, real, again = b.main(0, DType.U8, *shape), b.main(n, DType.F32, *shape), b.main(5 * n, DType.U8, *shape)
    steps = (
        KpuUpload(input=Operand(Memory.INPUT, 0, DType.U8, shape[1:]), output=b.ai(0, *shape[1:])),
        KpuDownload(input=b.ai(0, *shape[1:]), output=byte),
        o.DequantizeTensor(input=byte, output=real, scale=0.25, zero_point=3),
        o.QuantizeTensor(input=real, output=again, scale=0.5, zero_point=9),
        KpuUpload(input=again, output=b.ai(512, *shape[1:])),
        KpuDownload(input=b.ai(512, *shape[1:]), output=b.main(6 * n, DType.U8, *shape)),
    )
    source = Operand(Memory.INPUT, 0, DType.U8, shape)
    out = (b.main(6 * n, DType.U8, *shape),)
    return Program(version=5, inputs=(source,), outputs=out, steps=steps, main_bytes=7 * n, input_bytes=n)


def test_a_chain_of_moves_becomes_one() -> None:
    program = requantized()
    picture = np.random.default_rng(3).integers(0, 256, program.inputs[0].shape, np.uint8)
    assert_same(program, (picture,))
    session = Session(program)
    session.main[:] = 7
    session.run(picture)
    assert set(session.main[: 6 * picture.size].tolist()) == {7}, "a value that nobody reads was computed"
    session.run(picture, trace=lambda *_: None)
    np.testing.assert_array_equal(session.main[: picture.size], picture.reshape(-1))


def test_native_steps_become_one_call() -> None:
    session = Session(requantized())
    session.run(np.zeros((1, 8, 14, 14), np.uint8))
    found = plan.build(session, session.program, [lambda i=i: session._bind(i) for i in range(6)])
    assert len(found.calls) == 1
    assert found.filled == []


def test_memory_that_is_read_before_it_is_written_is_filled() -> None:
    stale = b.main(64, DType.U8, 4)
    copy = o.CopyTensor(input=stale, output=b.main(0, DType.U8, 4))
    program = Program(
        version=5,
        inputs=(b.main(32, DType.U8, 4),),
        outputs=copy.writes and (copy.output,),
        steps=(copy,),
        main_bytes=96,
    )
    session = Session(program, fill=0x5A)
    for _ in range(2):
        (out,) = session.run(np.zeros(4, np.uint8))
        assert out.tolist() == [0x5A] * 4
        session.main[:] = 1
