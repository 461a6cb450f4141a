"""V3's native operators give the bytes that NumPy gives."""

from __future__ import annotations

import numpy as np
import program_builders as b
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType
from openkpu.runtime import steps, v3_native
from openkpu.runtime.session import Session

native = pytest.importorskip("openkpu._native", reason="the native kernels are not built")

U8, F32 = DType.U8, DType.F32


def step(kind: str, rng: np.random.Generator) -> p.Step:
    """A step of a kind, from byte 0 of main RAM to byte 8192 or to AI RAM."""
    c, h, w = (int(n) for n in rng.integers(1, 12, 3))
    if kind == "channelwise":
        scale, bias = rng.standard_normal((2, c)).astype(np.float32)
        source, target = b.main(0, U8, c, h * w), b.main(8192, F32, c, h * w)
        return p.ChannelwiseDequantize(input=source, output=target, scale=scale, bias=bias)
    if kind == "average":
        return p.GlobalAveragePool(input=b.main(0, F32, c, h * w), output=b.main(8192, F32, c))
    if kind == "quantize":
        source, target = b.main(0, F32, c, h, w), b.main(8192, U8, c, h, w)
        return p.Quantize(input=source, output=target, scale=float(rng.uniform(0.01, 2)), bias=float(rng.normal()))
    if kind == "add_padding":
        return p.KpuAddPadding(input=b.main(0, U8, c), output=b.ai(3, c, 4, 4))
    if kind == "remove_padding":
        return p.KpuRemovePadding(input=b.main(0, U8, c, 4, 4), output=b.main(8192, U8, c))
    wide = int(rng.integers(1, 80))
    return p.KpuUpload(input=b.main(0, U8, c, h, wide), output=b.ai(7, c, h, wide))


KINDS = ("channelwise", "average", "quantize", "add_padding", "remove_padding", "upload")


def memory(kind: str, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Main RAM with bytes, or with floats that reach every branch of a rounding."""
    if kind not in ("quantize", "average"):
        return rng.integers(0, 256, 16384 + 8, np.uint8)
    floats = (rng.integers(-40, 600, 4098) / 2).astype(np.float32) * np.float32(rng.choice([1, 0.37]))
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30], np.float32)
    where = rng.integers(0, floats.size, 40)
    floats[where] = rng.choice(special if kind == "quantize" else special[:2], where.size)
    return floats.view(np.uint8)


@settings(max_examples=150)
@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1))
def test_native_equals_numpy(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = step(kind, rng)
    program = p.Program(version=3, inputs=(), outputs=(), steps=(one,), main_bytes=16384)
    main, ai = memory(kind, rng), rng.integers(0, 256, 1 << 21, np.uint8)
    results = []
    for bound in (True, False):
        session = Session(program)
        session.main[:], session.ai[:] = main, ai
        if bound:
            operators = v3_native.operators(session, one)
            assert operators is not None
            for operator in operators:
                operator.run()
        else:
            steps.run_cpu(session, one, 3)
        results.append((session.main.copy(), session.ai.copy()))
    for fast, slow in zip(*results, strict=True):
        np.testing.assert_array_equal(fast, slow)


def test_where_the_result_lies_on_the_input_numpy_runs() -> None:
    one = p.Quantize(input=b.main(0, F32, 8), output=b.main(4, U8, 8), scale=1.0, bias=0.0)
    session = Session(p.Program(version=3, inputs=(), outputs=(), steps=(one,), main_bytes=64))
    assert v3_native.operators(session, one) is None
