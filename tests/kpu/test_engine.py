"""The engine against the reference: the whole AI RAM must be equal, for every instruction set of this machine."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kpu_cases import cases, identity_table, registers
from numpy.typing import NDArray

from openkpu.errors import InputError, MemoryLimitError, SetupError
from openkpu.k210 import AI_LINES, AI_RAM_BYTES
from openkpu.kpu import engine, reference
from openkpu.kpu.fmap import FeatureMapLayout
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


def ordinary() -> tuple[KpuLayer, NDArray[np.uint8]]:
    rng = np.random.default_rng(5)
    norm = BatchNorm(np.full(7, 3, np.int64), np.arange(7) - 3, np.full(7, 10, np.int64))
    r = registers(5, 9, 21, 7, kernel_type=1, arg_x=-128)
    layer = KpuLayer(r, rng.integers(0, 256, (7, 5, 3, 3), np.uint8), norm, identity_table())
    return layer, rng.integers(0, 256, AI_RAM_BYTES, np.uint8)


@native
@pytest.mark.parametrize("isa", NATIVE)
def test_every_way_of_finishing_is_taken(isa: str) -> None:
    """The generated layers are worth little if one path of the kernels is never used."""
    layer, ram = ordinary()
    curve = replace(layer.activation, y_mul=np.arange(16), x_start=np.arange(16) * 50 - 300)
    wide = replace(layer.registers, arg_x=(1 << 23) - 1)
    for path, one in {
        "ramp": layer,
        "table": replace(layer, activation=curve),
        "exact": replace(layer, registers=wide),
    }.items():
        expected = ram.copy()
        reference.run_layer(one, expected)
        got = ram.copy()
        engine.run_layer(one, got, isa=isa)
        assert one.cache[isa].path == path  # type: ignore[attr-defined]
        np.testing.assert_array_equal(got, expected)


@native
def test_packed_form_is_kept() -> None:
    layer, ram = ordinary()
    engine.run_layer(layer, ram, isa=NATIVE[0])
    packed = layer.cache[NATIVE[0]]
    engine.run_layer(layer, ram, isa=NATIVE[0])
    assert layer.cache[NATIVE[0]] is packed


def test_monitor_reports_as_the_reference() -> None:
    layer, ram = ordinary()
    ours, theirs = Monitor(), Monitor()
    copy = ram.copy()
    reference.run_layer(layer, copy, monitor=theirs)
    engine.run_layer(layer, ram, monitor=ours)
    assert ours == theirs
    assert ours.values == 7 * 9 * 21
    np.testing.assert_array_equal(ram, copy)


def test_instruction_set_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, ram = ordinary()
    try:
        for isa in engine.available():
            monkeypatch.setenv("OPENKPU_ISA", isa)
            engine.default_isa.cache_clear()
            assert engine.default_isa() == isa
        monkeypatch.setenv("OPENKPU_ISA", "avx1024")
        engine.default_isa.cache_clear()
        with pytest.raises(SetupError, match="avx1024") as e:
            engine.run_layer(layer, ram)
        assert e.value.code == "E540"
        monkeypatch.delenv("OPENKPU_ISA")
        assert engine.default_isa() == engine.available()[0]
    finally:
        engine.default_isa.cache_clear()


def test_without_the_extension_the_reference_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openkpu._native", None)
    caches = (engine._native, engine.available, engine.default_isa)
    for cached in caches:
        cached.cache_clear()
    try:
        layer, ram = ordinary()
        expected = ram.copy()
        reference.run_layer(layer, expected)
        with pytest.warns(RuntimeWarning, match="make native"):
            engine.run_layer(layer, ram)
        np.testing.assert_array_equal(ram, expected)
        assert engine.available() == (engine.REFERENCE,)
    finally:
        for cached in caches:
            cached.cache_clear()


def test_wrong_arguments_are_named() -> None:
    layer, ram = ordinary()
    engine.run_layer(layer, ram)  # the second call takes the short way
    with pytest.raises(InputError, match="E441"):
        engine.run_layer(layer, ram, out=np.empty((7, 9, 21), np.int8))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="E441"):
        engine.run_layer(layer, ram, out=np.empty((7, 9, 20), np.uint8))
    with pytest.raises(InputError, match="E442"):
        engine.run_layer(layer, ram, threads=0)
    with pytest.raises(InputError, match="E440"):
        engine.run_layer(layer, ram.astype(np.int8))  # type: ignore[arg-type]
    bad = replace(layer, registers=replace(layer.registers, image_dst_addr=32767))
    with pytest.raises(MemoryLimitError, match="E340"):
        engine.run_layer(bad, ram)


@native
@pytest.mark.parametrize("pool", range(10))
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("overlap", [False, True])
def test_large_maps(pool: int, kernel: int, overlap: bool) -> None:
    """Maps that are computed in several bands of rows; with overlap the output lies over the input."""
    rng = np.random.default_rng(pool)
    r = registers(9, 101, 131, 5, kernel_type=kernel // 2, pool_type=pool, arg_x=-128, dst=700 if overlap else 16384)
    norm = BatchNorm(np.full(5, 1 << 13), rng.integers(-3 << 16, 3 << 17, 5), np.full(5, 12))
    table = identity_table()
    table = replace(table, y_mul=table.y_mul << 7, shift=np.full(16, 17 if kernel == 1 else 18))
    layer = KpuLayer(r, rng.integers(0, 256, (5, 9, kernel, kernel), np.uint8), norm, table)
    ram = rng.integers(0, 256, AI_RAM_BYTES, np.uint8)
    for threads in (1, 3):
        assert_equal(layer, ram, threads)


@native
@pytest.mark.parametrize("width", [1, 7, 14, 16, 17, 28, 32, 33, 56, 64, 65, 112, 130])
@pytest.mark.parametrize("place", [0, 1])
def test_depthwise_by_lines(width: int, place: int) -> None:
    """Natural layouts, at the first and at the last byte of AI RAM, with many results close to a tie."""
    channels, height = 7, 5
    lines = FeatureMapLayout(channels, height, width).lines
    rng = np.random.default_rng(width)
    src, dst = (0, AI_LINES - lines) if place == 0 else (AI_LINES - lines, 0)
    r = registers(
        channels, height, width, channels, src=src, dst=dst, kernel_type=1, depth_wise_layer=1, arg_x=-128, pad_value=33
    )
    # steps of 1/512 of the result, so that one value in a few vectors is too close to a tie
    norm = BatchNorm(np.full(channels, 3001), rng.integers(-3000, 30000, channels), np.full(channels, 10))
    table = identity_table()
    layer = KpuLayer(
        r,
        rng.integers(60, 196, (channels, 1, 3, 3), np.uint8),
        norm,
        replace(table, y_mul=table.y_mul * 64, shift=np.full(16, 15), bias=np.full(16, 9)),
    )
    ram = rng.integers(0, 256, AI_RAM_BYTES, np.uint8)
    assert_equal(layer, ram)
    assert layer.cache[NATIVE[0]].path == "ramp"  # type: ignore[attr-defined]
    assert width == 1 or np.unique(reference.run_layer(layer, ram)).size > 20
