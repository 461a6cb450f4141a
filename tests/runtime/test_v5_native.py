"""V5's native operators give the bytes that NumPy gives, on generated steps; which steps have one."""

from __future__ import annotations

from typing import Any

import numpy as np
import program_builders as b
import pytest
import v5_builders
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.kmodel import operators as o
from openkpu.kmodel import operators_v5 as o5
from openkpu.kmodel.program import DType, KpuConv, KpuDownload, KpuUpload, Program, Requantize, Step
from openkpu.kpu import engine
from openkpu.runtime import steps, v5_native
from openkpu.runtime.session import Session

native = pytest.importorskip("openkpu._native", reason="the native kernels are not built")
NATIVE = (
    *("binary", "quantize", "dequantize", "requantize", "copy", "transpose", "pad", "slice", "reduce", "kpu"),
    *("reduce_window", "conv", "matmul", "resize", "concat"),
)


def after(session: Session, program: Program, *, bound: bool) -> np.ndarray[Any, Any]:
    """Main RAM after the program's steps, from memories full of noise."""
    session.main[:] = np.random.default_rng(1).integers(0, 256, session.main.size, np.uint8)
    session.ai[:] = np.random.default_rng(2).integers(0, 256, session.ai.size, np.uint8)
    for operand, array in zip(program.inputs, v5_builders.arrays(), strict=True):
        v5_native.get(session, operand)[...] = array
    for step in program.steps:
        runs = v5_native.operators(session, step) if bound and not isinstance(step, KpuConv) else None
        if runs is not None:
            for run in runs:
                run.run()
        elif isinstance(step, KpuConv):
            engine.run_layer(step.layer, session.ai)
        else:
            steps.run_cpu(session, step, 5)
    return session.main.copy()


@settings(max_examples=120)
@given(st.sampled_from(NATIVE), st.integers(0, 10**6))
def test_native_equals_numpy(kind: str, seed: int) -> None:
    program = v5_builders.program([kind], seed)
    session = Session(program)
    np.testing.assert_array_equal(after(session, program, bound=True), after(session, program, bound=False))


BOUND = {
    *(KpuUpload, KpuDownload, Requantize, o.Binary, o.QuantizeTensor, o5.AffineQuantize, o.DequantizeTensor),
    *(
        o5.AffineDequantize,
        o.CopyTensor,
        o.ConcatTensors,
        o.TransposeTensor,
        o.PadTensor,
        o.SliceTensor,
        o.ReduceWindow,
        o.Conv2D,
    ),
}


@pytest.mark.parametrize("kind", NATIVE)
def test_the_usual_steps_have_a_native_form(kind: str) -> None:
    program = v5_builders.program([kind], 11)
    session = Session(
        Program(
            version=5,
            inputs=program.inputs,
            outputs=(),
            steps=(),
            main_bytes=program.main_bytes,
            constants=program.constants,
            input_bytes=program.input_bytes,
            output_bytes=program.output_bytes,
        )
    )
    for step in program.steps:
        plain = not (isinstance(step, o.PadTensor) and (step.interior or step.mode != "constant"))
        if type(step) in BOUND and plain:
            assert v5_native.operators(session, step) is not None, type(step).__name__


@pytest.mark.parametrize("signed", [False, True])
def test_quantize_of_corners(signed: bool) -> None:
    """All halves, the edges, and what is no number; in rows that do and do not fill vectors."""
    values = np.concatenate([np.arange(-300, 600, 0.25), [np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0, -0.0]])
    x = np.resize(values.astype(np.float32), 4099)
    out = DType.I8 if signed else DType.U8
    step = o5.AffineQuantize(
        input=b.main(0, DType.F32, x.size), output=b.main(4 * x.size, out, x.size), multiplier=1.0, offset=0.5
    )
    program = Program(
        version=5, inputs=(b.main(0, DType.F32, x.size),), outputs=(step.output,), steps=(step,), main_bytes=5 * x.size
    )
    (fast,) = Session(program).run(x)
    (slow,) = Session(program, engine="reference").run(x)
    np.testing.assert_array_equal(fast, slow)


@pytest.mark.parametrize("op", list(o.BinaryOp)[:6])
def test_binary_of_corners(op: o.BinaryOp) -> None:
    corners = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e38, 1e-45]
    a, c = (np.array(v, np.float32).reshape(-1) for v in np.meshgrid(corners, corners))
    n = a.size
    step: Step = o.Binary(
        input_a=b.main(0, DType.F32, n), input_b=b.main(4 * n, DType.F32, n), output=b.main(8 * n, DType.F32, n), op=op
    )
    program = Program(
        version=5, inputs=(step.reads[0], step.reads[1]), outputs=(step.writes[0],), steps=(step,), main_bytes=12 * n
    )
    (fast,), (slow,) = (Session(program, engine=e).run(a, c) for e in ("native", "reference"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(fast, slow)
    number = ~np.isnan(fast)
    np.testing.assert_array_equal(np.signbit(fast[number]), np.signbit(slow[number]))


def test_steps_that_write_over_their_input_fall_back() -> None:
    x = b.main(0, DType.F32, 4, 4)
    over = o.TransposeTensor(input=x, output=x, perm=(1, 0))
    program = Program(version=5, inputs=(x,), outputs=(x,), steps=(over,), main_bytes=64)
    session = Session(program)
    assert v5_native.operators(session, over) is None
    picture = np.arange(16, dtype=np.float32).reshape(4, 4)
    np.testing.assert_array_equal(session.run(picture)[0], picture.T)


def test_arguments_are_checked() -> None:
    x, y = np.zeros(4, np.float32), np.zeros(5, np.float32)
    for call in (
        lambda: native.bound.copy(x, y),
        lambda: native.bound.copy(x, np.zeros(4, np.uint8)),
        lambda: native.bound.quantize(x, np.zeros(4, np.float32), 1.0, 0.0),
        lambda: native.bound.lookup(np.zeros(4, np.uint8), b"short", np.zeros(4, np.uint8)),
        lambda: native.bound.binary(9, x, x, x, 0.0, 1.0),
        lambda: native.bound.resize_nearest(
            np.zeros((1, 1, 2, 2), np.float32), np.zeros((1, 1, 1, 1), np.float32), np.array([5]), np.array([0])
        ),
        lambda: native.bound.matmul(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32), x, x, 0.0, 1.0),
        lambda: native.bound.copy(np.zeros((1,) * 9, np.float32), np.zeros((1,) * 9, np.float32)),
    ):
        with pytest.raises(ValueError):
            call()
