"""The CPU's share, split into what every model pays and what its design could change."""

import pytest

from openkpu.estimate.roles import copies, split
from openkpu.estimate.steps import input_cost, program_time, step_cost
from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType
from tests.program_builders import conv, main, program

U8, F32 = DType.U8, DType.F32


def us(step):
    return step_cost(step, 3, kpu_mhz=400, cpu_mhz=400).time.us


def detector():
    """A picture whose width is no multiple of 64, a head turned to floats, reordered, and put behind another."""
    heads = [
        p.Dequantize(input=main(0, U8, 640), output=main(4000, F32, 640), scale=1.0, bias=0.0),
        p.Flatten(input=main(4000, F32, 8, 8, 10), output=main(8000, F32, 8, 10, 8)),
        p.Softmax(input=main(8000, F32, 10), output=main(8000, F32, 10)),
    ]
    return program(
        conv(0, 4000, 3, 8, 8, 10, k=3, to_main=0), *heads, outputs=(main(8000, F32, 640),), main_bytes=12000
    )


def test_a_conversion_before_an_output_is_a_copy_and_what_follows_it_is_not():
    plain = program(
        conv(0, 4000, 3, 8, 8, 10, k=3, to_main=0),
        p.Dequantize(input=main(0, U8, 640), output=main(4000, F32, 640), scale=1.0, bias=0.0),
        p.Flatten(input=main(4000, F32, 8, 8, 10), output=main(8000, F32, 8, 10, 8)),
        outputs=(main(8000, F32, 640),),
    )
    assert copies(plain) == {1}
    found = split(plain)
    (picture,) = plain.inputs
    way_in = input_cost(picture, 3, cpu_mhz=400).time.us
    assert found.copies.us == pytest.approx(way_in + us(plain.steps[1]))
    assert found.operators.us == pytest.approx(us(plain.steps[2]))
    assert found.whole == program_time(plain)
    assert found.operators_share == pytest.approx(found.operators.us / found.whole.us)


def test_a_conversion_for_an_operator_belongs_to_it():
    """A mean in floats needs the conversion; the values that reach the output are others."""
    prog = program(
        conv(0, 4000, 3, 8, 8, 10, k=3, to_main=0),
        p.Dequantize(input=main(0, U8, 640), output=main(4000, F32, 640), scale=1.0, bias=0.0),
        p.GlobalAveragePool(input=main(4000, F32, 8, 80), output=main(8000, F32, 8)),
    )
    assert copies(prog) == set()


def test_a_place_that_is_used_again_is_not_followed():
    """The first conversion wrote where the output is later, for another reader."""
    prog = program(
        conv(0, 4000, 3, 8, 8, 10, k=3, to_main=0),
        p.Dequantize(input=main(0, U8, 640), output=main(4000, F32, 640), scale=1.0, bias=0.0),
        p.GlobalAveragePool(input=main(4000, F32, 8, 80), output=main(8000, F32, 8)),
        p.Dequantize(input=main(0, U8, 640), output=main(4000, F32, 640), scale=1.0, bias=0.0),
        outputs=(main(4000, F32, 640), main(8000, F32, 8)),
    )
    assert copies(prog) == {3}


def test_one_part_of_an_output_that_something_else_makes():
    assert copies(detector()) == {1}
