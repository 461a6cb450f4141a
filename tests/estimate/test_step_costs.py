"""Every kind of step has a price, for every runtime that can have it."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from openkpu.estimate.bar import NOTHING, Estimate, total
from openkpu.estimate.cpu import RUNTIMES, V3, V4, V5, Rate
from openkpu.estimate.devices import camera_period, flash_stream, lcd_transfer
from openkpu.estimate.steps import GUESS, input_cost, known, program_time, step_cost
from openkpu.kmodel import operators as ops
from openkpu.kmodel import program as steps
from openkpu.kmodel.program import DType, Memory, Step
from tests.program_builders import ai, conv, fully_connected, main, program


def kinds() -> set[type[Step]]:
    """All step types of the package that are not bases of others."""
    modules = [m for name, m in sys.modules.items() if name.startswith("openkpu.")]
    found = {v for m in modules for v in vars(m).values() if isinstance(v, type) and issubclass(v, Step)}
    return {k for k in found if not any(k is not other and issubclass(other, k) for other in found)}


def cost(step: Step, version: int = 3, kpu: float = 400, cpu: float = 400) -> Estimate:
    return step_cost(step, version, kpu_mhz=kpu, cpu_mhz=cpu).time


def test_every_step_type_has_a_price_of_its_own():
    assert len(kinds()) > 30
    assert {k.__name__ for k in kinds() if not known(k)} == set()


def test_a_new_step_type_gets_a_guess_with_a_wide_bar():
    class Novel(Step):
        def operands(self):
            yield "input", main(0, DType.F32, 1000)
            yield "output", main(4000, DType.F32, 500)

    t = step_cost(Novel(), 4, kpu_mhz=400, cpu_mhz=400)
    assert t.time.us == pytest.approx((1000 * GUESS.ns + V4.step.ns) / 1000)
    assert t.time.high > 3 * t.time.us
    assert t.basis == "inferred"


U8, F32 = main(0, DType.U8, 4, 8, 8), main(0, DType.F32, 4, 8, 8)
U8_4, F32_4 = main(0, DType.U8, 1, 4, 8, 8), main(0, DType.F32, 1, 4, 8, 8)


@pytest.mark.parametrize(
    ("step", "rate", "units"),
    [
        (steps.Dequantize(input=U8, output=F32, scale=1, bias=0), "dequantize", 256),
        (steps.Quantize(input=F32, output=U8, scale=1, bias=0), "quantize", 256),
        (steps.Add(input_a=F32, input_b=F32, output=F32), "binary", 256),
        (steps.GlobalAveragePool(input=F32, output=main(0, DType.F32, 4)), "average", 256),
        (steps.Softmax(input=main(0, DType.F32, 10), output=main(0, DType.F32, 10)), "exp", 10),
        (fully_connected(0, 100, 12, 5), "mac", 60),
        (steps.KpuUpload(input=U8, output=ai(0, 4, 8, 8)), "upload_words", 256),
        (steps.KpuUpload(input=main(0, DType.U8, 4, 8, 7), output=ai(0, 4, 8, 7)), "upload_bytes", 224),
        (steps.KpuAddPadding(input=main(0, DType.U8, 9), output=ai(0, 9, 4, 4)), "pad", 9),
        (ops.Unary(input=F32_4, output=F32_4, op=ops.UnaryOp.EXP), "exp", 256),
        (ops.Unary(input=F32_4, output=F32_4, op=ops.UnaryOp.ABS), "unary", 256),
        (ops.Binary(input_a=F32_4, input_b=F32_4, output=F32_4, op=ops.BinaryOp.ADD), "binary", 256),
        (
            ops.Binary(input_a=F32_4, input_b=main(0, DType.F32, 1), output=F32_4, op=ops.BinaryOp.MUL),
            "broadcast",
            256,
        ),
        (ops.TransposeTensor(input=U8_4, output=U8_4, perm=(0, 2, 3, 1)), "transpose", 256),
        (
            ops.Conv2D(
                input=F32_4,
                output=main(0, DType.F32, 1, 6, 8, 8),
                weights=np.zeros((6, 4, 3, 3), np.float32),
                bias=np.zeros(6, np.float32),
                groups=1,
                pads=((1, 1), (1, 1)),
                stride=(1, 1),
                dilation=(1, 1),
            ),
            "mac",
            6 * 64 * 36,
        ),
        (
            ops.Conv2DTranspose(
                input=F32_4,
                output=main(0, DType.F32, 1, 6, 16, 16),
                weights=np.zeros((6, 4, 3, 3), np.float32),
                bias=np.zeros(6, np.float32),
                groups=1,
                pads=((1, 1), (1, 1)),
                stride=(2, 2),
                dilation=(1, 1),
            ),
            "mac",
            256 * 6 * 9,
        ),
        (
            ops.MatMul(
                input_a=main(0, DType.F32, 3, 10),
                input_b=main(0, DType.F32, 10, 7),
                output=main(0, DType.F32, 3, 7),
                bias=np.zeros(7, np.float32),
            ),
            "mac",
            210,
        ),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, Step) else str(v),
)
@pytest.mark.parametrize("version", RUNTIMES)
def test_units(step, rate, units, version):
    runtime = RUNTIMES[version]
    expected = (units * getattr(runtime, rate).ns + runtime.step.ns) / 1000
    assert cost(step, version).us == pytest.approx(expected)
    assert cost(step, version, cpu=800).us == pytest.approx(expected / 2)


def test_pooling_pays_for_outputs_and_taps():
    pool = steps.QuantizedMaxPool(
        input=U8, output=main(0, DType.U8, 4, 4, 4), kernel=(3, 2), stride=(2, 2), padding=(0, 0)
    )
    assert cost(pool).us == pytest.approx((64 * V3.pool_output.ns + 64 * 6 * V3.pool_tap.ns + V3.step.ns) / 1000)


def test_a_layer_that_goes_to_main_ram_pays_for_it():
    stays, goes = conv(0, 1000, 8, 16, 40, 40, k=3), conv(0, 1000, 8, 16, 40, 40, k=3, to_main=0)
    for version, rate in ((3, V3.download), (4, V4.download)):
        more = cost(goes, version).us - cost(stays, version).us
        assert more == pytest.approx(16 * 1600 * rate.ns / 1000)
    assert step_cost(goes, 4, kpu_mhz=400, cpu_mhz=400).bottleneck == "DMA"
    assert step_cost(stays, 4, kpu_mhz=400, cpu_mhz=400).bottleneck == "compute"


def test_batches_of_a_layer():
    one = conv(0, 1000, 8, 16, 10, 10, k=3)
    assert cost(replace(one, batches=4), 4).us == pytest.approx(4 * cost(one, 4).us)


def test_the_input_goes_in_by_dma_where_its_rows_fill_lines():
    wide, narrow = ai(0, 3, 240, 320), ai(0, 3, 224, 224)
    cost = input_cost(wide, 4, cpu_mhz=400)
    assert (cost.who, cost.basis) == ("DMA", "measured")
    assert cost.time.us == pytest.approx(329, rel=0.01)  # as logged for this very picture
    assert input_cost(narrow, 3, cpu_mhz=400).who == "CPU"
    assert input_cost(narrow, 4, cpu_mhz=400).time.us > 5 * input_cost(narrow, 3, cpu_mhz=400).time.us
    assert input_cost(main(0, DType.F32, 4), 3, cpu_mhz=400).who == "CPU"
    assert input_cost(replace(wide, memory=Memory.INPUT), 5, cpu_mhz=400).time == NOTHING


def test_a_program_is_the_sum_of_its_steps():
    p = program(conv(0, 1000, 3, 8, 16, 16, k=3), conv(1000, 2000, 8, 4, 16, 16, to_main=0))
    parts = [input_cost(p.inputs[0], 3, cpu_mhz=400).time, *(cost(s) for s in p.steps)]
    assert program_time(p) == total(parts)


def test_bars_add_up():
    a, b = Estimate.within(10, 0.1), Estimate.factor(20, 2)
    assert a + b == Estimate(30, 19, 51)
    assert (a + b) * 2 == Estimate(60, 38, 102)
    assert total([]) == NOTHING
    assert a.covers(9.5)
    assert not a.covers(11.5)


def test_rates_say_where_they_come_from():
    for runtime in (V3, V4, V5):
        for name in runtime.__slots__:
            rate: Rate = getattr(runtime, name)
            assert rate.ns > 0
            assert rate.source
            assert rate.basis in ("measured", "derived", "inferred")
            assert rate.factor >= {"measured": 1.0, "derived": 1.25, "inferred": 1.5}[rate.basis], name


def test_streaming_from_flash():
    """Face detection, 388776 bytes at 67.17 MHz: 24 ms from RAM, 37 from flash, 34 with two buffers (neucrack.com)."""
    ram = Estimate.within(24000, 0.02)
    assert flash_stream(388776, ram).us == pytest.approx(37000, rel=0.02)
    assert flash_stream(388776, ram).covers(37000)
    assert flash_stream(388776, ram, dual=True).covers(34000)
    assert flash_stream(388776, ram, spi_mhz=30).us > flash_stream(388776, ram).us


def test_display_and_camera():
    assert lcd_transfer().us == pytest.approx(10240)
    assert lcd_transfer(spi_mhz=20).us == pytest.approx(7680)
    assert camera_period().covers(33000)


@pytest.mark.parametrize("version", RUNTIMES)
def test_each_part_of_a_concatenation_costs_something(version):
    r = RUNTIMES[version]
    one = steps.Concat(inputs=(main(0, DType.U8, 8),), output=main(9, DType.U8, 8))
    many = steps.Concat(inputs=tuple(main(i, DType.U8, 1) for i in range(8)), output=main(9, DType.U8, 8))
    assert cost(one, version).us == pytest.approx((8 * r.copy.ns + r.piece.ns + r.step.ns) / 1000)
    assert cost(many, version).us == pytest.approx((8 * r.copy.ns + 8 * r.piece.ns + r.step.ns) / 1000)
