"""The engine against the reference: the whole AI RAM must be equal, for every instruction set of this machine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from generate import cases, identity_table, registers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from openkpu.errors import EnvironmentError_, InputError, MemoryLimitError
from openkpu.k210 import AI_RAM_BYTES
from openkpu.kpu import engine, reference
from openkpu.kpu.layer import BatchNorm, KpuLayer
from openkpu.kpu.monitor import Monitor

NATIVE = [i for i in engine.available() if i != engine.REFERENCE]
native = pytest.mark.skipif(not NATIVE, reason="the extension openkpu._native is not built")
hypothesis = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


def assert_equal(layer: KpuLayer, ai_ram: NDArray[np.uint8], threads: int = 1) -> None:
    expected = ai_ram.copy()
    dense = reference.run_layer(layer, expected)
    for isa in NATIVE:
        got, out = ai_ram.copy(), np.full(layer.output_shape, 77, np.uint8)
        assert engine.run_layer(layer, got, threads=threads, out=out, isa=isa) is out
        bad = np.flatnonzero(got != expected)
        assert bad.size == 0, f"{isa}: {bad.size} bytes differ, first at {bad[0]}"
        np.testing.assert_array_equal(out, dense, err_msg=isa)


@native
@hypothesis
@given(cases())
def test_equals_reference(case: tuple[KpuLayer, NDArray[np.uint8]]) -> None:
    assert_equal(*case)


@native
@settings(hypothesis, max_examples=25)
@given(cases(max_channels=150), st.integers(2, 5))
def test_equals_reference_threads(case: tuple[KpuLayer, NDArray[np.uint8]], threads: int) -> None:
    assert_equal(*case, threads=threads)
