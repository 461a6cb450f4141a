"""The cycle model of the KPU: known answers, its limits, and what must always be true of it."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from openkpu.estimate.kpu import BAR, FITTED, Work, layer_time
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.kpu.registers import LayerRegisters
from tests.program_builders import conv, kpu_layer

WORKS = st.builds(
    Work,
    c=st.integers(1, 1024),
    h=st.integers(4, 256),
    w=st.integers(4, 512),
    oc=st.integers(1, 1024),
    kernel=st.sampled_from([1, 3]),
    weight_size=st.sampled_from([1, 2]),
)


def us(work: Work, kpu_mhz: float = 400, cpu_mhz: float = 400) -> float:
    return layer_time(work, kpu_mhz=kpu_mhz, cpu_mhz=cpu_mhz).time.us


def test_a_line_of_64_pixels_is_one_cycle_a_pass():
    """A large 3x3 layer works at nearly 576 multiply-accumulates a cycle."""
    work = Work(128, 256, 256, 128, 3)
    t = layer_time(work, kpu_mhz=400, cpu_mhz=400)
    assert t.words * 400 == pytest.approx(128 * 128 * 256 * 4 * FITTED.pass_line)
    assert 0.95 < work.macs / (t.cycles * work.peak) < 1
    assert t.bottleneck == "compute"


def test_1x1_and_3x3_need_the_same_passes():
    one, three = (layer_time(Work(64, 60, 80, 64, k), kpu_mhz=400, cpu_mhz=400) for k in (1, 3))
    assert one.words == three.words
    assert three.fill > one.fill


@pytest.mark.parametrize(("narrow", "wide"), [(5, 16), (17, 32), (33, 64), (65, 128)])
def test_a_row_is_paid_in_whole_parts(narrow, wide):
    assert us(Work(64, 32, narrow, 64, 1)) == us(Work(64, 32, wide, 64, 1))
    assert us(Work(64, 32, wide + 1, 64, 1)) > us(Work(64, 32, wide, 64, 1))


def test_small_maps_wait_for_their_weights():
    """A published pair: 4x4 and 16x4 pixels take the same 0.339 ms, the time of 295 kB of weights."""
    t = layer_time(Work(128, 4, 4, 128, 3, weight_size=2), kpu_mhz=300, cpu_mhz=500)
    assert t.bottleneck == "weights"
    assert t.time.us == pytest.approx(339, rel=0.03)
    assert t.time.high - t.time.us > BAR * t.time.us


def test_depthwise_is_bound_by_its_output():
    t = layer_time(Work(64, 60, 80, 64, 3, True), kpu_mhz=400, cpu_mhz=400)
    assert t.bottleneck == "output"
    assert t.time.us == pytest.approx(53, rel=0.03)


def test_parts_add_up():
    for work in (Work(3, 240, 320, 16, 3), Work(256, 4, 4, 256, 3), Work(32, 7, 7, 32, 1, batches=9)):
        t = layer_time(work, kpu_mhz=450, cpu_mhz=500)
        assert t.words + t.fill + t.output + t.weights + t.overhead == pytest.approx(t.time.us)
        assert t.cycles == pytest.approx(t.time.us * 450)


def test_batches_are_layers_one_after_the_other():
    assert us(Work(16, 8, 10, 16, 3, batches=25)) == pytest.approx(25 * us(Work(16, 8, 10, 16, 3)))


def test_work_of_a_layer_in_a_file():
    layer = kpu_layer(0, 1000, 8, 24, 20, 30, k=3)
    assert Work.of(layer) == Work(8, 20, 30, 24, 3, loads=1)
    assert Work.of(layer).macs == layer.macs
    depthwise = conv(0, 1000, 8, 8, 20, 30, k=3, depthwise=True).layer
    assert Work.of(depthwise).depthwise
    assert Work.of(depthwise).macs == depthwise.macs
    loads = replace(layer, registers=replace(layer.registers, load_time=5))
    assert Work.of(loads).parts == 5
    assert isinstance(loads.registers, LayerRegisters)


@given(WORKS, st.integers(1, 64))
def test_more_output_channels_are_never_faster(work, more):
    assume(work.oc + more <= 1024)
    assert us(replace(work, oc=work.oc + more)) >= us(work) * (1 - 1e-9)


@given(WORKS, st.integers(1, 64))
def test_more_input_channels_are_never_faster(work, more):
    assume(work.c + more <= 1024)
    assert us(replace(work, c=work.c + more)) >= us(work) * (1 - 1e-9)


@given(WORKS, st.integers(1, 64))
def test_more_rows_are_never_faster(work, more):
    assume(work.h + more <= 256)
    assert us(replace(work, h=work.h + more)) >= us(work) * (1 - 1e-9)


@given(WORKS, st.floats(100, 800), st.floats(1.0, 2.0), st.floats(100, 800))
def test_a_faster_clock_is_never_slower(work, mhz, times, other):
    assert us(work, mhz * times, other) <= us(work, mhz, other) * (1 + 1e-9)
    assert us(work, other, mhz * times) <= us(work, other, mhz) * (1 + 1e-9)


@given(WORKS)
def test_nothing_beats_the_multipliers(work):
    t = layer_time(work, kpu_mhz=400, cpu_mhz=400)
    lay = FeatureMapLayout(work.c, work.h, work.w)
    assert work.macs <= t.cycles * work.peak
    assert t.words * 400 >= lay.lines * work.oc
    assert t.time.low < t.time.us < t.time.high
