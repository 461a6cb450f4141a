"""The checking mode finds planted mistakes, and nothing in a correct program."""

from __future__ import annotations

import numpy as np
import program_builders as b

from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType, Program
from openkpu.runtime import checks
from openkpu.runtime.session import Session

U8, F32 = DType.U8, DType.F32


def findings(prog: Program) -> list[checks.Finding]:
    session = Session(prog, check=True)
    session.run(*(np.ones(o.shape, o.dtype.numpy) for o in prog.inputs))
    return session.findings


def kinds(prog: Program) -> list[tuple[int, str]]:
    return [(f.step, f.kind) for f in findings(prog)]


def test_a_correct_chain_is_clean() -> None:
    prog = b.program(
        b.conv(0, 1000, 3, 4, 20, 40, k=3),
        b.conv(1000, 2000, 4, 8, 20, 40, pool=1),
        b.conv(2000, 0, 8, 8, 10, 20, to_main=0),
        p.Dequantize(input=b.main(0, U8, 8, 10, 20), output=b.main(1600, F32, 8, 10, 20), scale=1.0, bias=0.0),
        p.GlobalAveragePool(input=b.main(1600, F32, 8, 200), output=b.main(8000, F32, 8)),
    )
    assert findings(prog) == []


def test_reading_ai_ram_that_nobody_wrote() -> None:
    found = findings(b.program(b.conv(0, 1000, 3, 4, 8, 8), b.conv(5000, 2000, 4, 4, 8, 8, to_main=0, name="lost")))
    assert [(f.step, f.layer, f.kind) for f in found] == [(1, "lost", checks.UNINITIALISED)]
    assert "256 of 256 bytes" in found[0].message


def test_reading_more_channels_than_were_written() -> None:
    assert kinds(b.program(b.conv(0, 1000, 3, 4, 8, 8), b.conv(1000, 2000, 8, 4, 8, 8, to_main=0))) == [
        (1, checks.UNINITIALISED)
    ]


def test_reading_main_ram_that_nobody_wrote() -> None:
    prog = b.program(b.fully_connected(0, 64, 4, 4), p.Softmax(input=b.main(128, F32, 4), output=b.main(128, F32, 4)))
    assert kinds(prog) == [(1, checks.UNINITIALISED)]


def test_a_map_overwritten_while_it_is_live() -> None:
    """A residual: step 1 writes into the map of step 0, which step 2 still reads."""
    prog = b.program(
        b.conv(0, 1000, 3, 4, 8, 40, name="a"),
        b.conv(0, 1010, 3, 1, 8, 40, name="b"),
        b.conv(1000, 2000, 4, 4, 8, 40, to_main=0, name="c"),
    )
    (found,) = findings(prog)
    assert (found.step, found.layer, found.kind) == (2, "c", checks.OVERLAP)
    assert "b overwrote part of what a had left there" in found.message


def test_a_map_overwritten_wholly_by_another_shape() -> None:
    prog = b.program(
        b.conv(0, 1000, 3, 4, 8, 40, pool=1), b.conv(0, 990, 3, 16, 8, 40), b.conv(1000, 3000, 4, 4, 4, 20, to_main=0)
    )
    assert kinds(prog) == [(2, checks.OVERLAP)]


def test_a_concatenation_by_placement_is_clean() -> None:
    """Two layers write the two halves of a map that a third reads."""
    prog = b.program(
        b.conv(0, 1000, 3, 4, 8, 40), b.conv(0, 1032, 3, 4, 8, 40), b.conv(1000, 2000, 8, 4, 8, 40, to_main=0)
    )
    assert findings(prog) == []


def test_a_part_of_a_concatenation_that_lost_bytes_to_a_neighbour() -> None:
    """Three maps inside what step 3 reads, of which the third lies partly on the second: nobody wrote all of it."""
    prog = b.program(
        b.conv(0, 1000, 3, 4, 8, 40, name="a"),
        b.conv(0, 1032, 3, 4, 8, 40, name="b"),
        b.conv(0, 1048, 3, 2, 8, 40, name="c"),
        b.conv(1000, 2000, 8, 4, 8, 40, to_main=0, name="reader"),
    )
    (found,) = findings(prog)
    assert (found.step, found.kind) == (3, checks.OVERLAP)
    assert "c overwrote part of what b had left there" in found.message


def _side_by_side(first_line: int, channels: int) -> Program:
    """Two maps of 6 channels of 2 lines, 2 channels a line, side by side; a third layer reads some of the 12."""
    return b.program(
        b.conv(0, 1000, 3, 6, 4, 20, name="a"),
        b.conv(0, 1012, 3, 6, 4, 20, name="b"),
        b.conv(1000 + first_line, 2000, channels, 4, 4, 20, to_main=0),
    )


def test_channels_of_two_maps_side_by_side() -> None:
    """Channels that begin in one part of a concatenation and end in the other."""
    assert findings(_side_by_side(0, 8)) == []
    assert findings(_side_by_side(8, 8)) == []
    assert findings(_side_by_side(4, 8)) == []


def test_channels_that_begin_in_the_middle_of_a_part() -> None:
    assert kinds(_side_by_side(6, 8)) == [(2, checks.OVERLAP)]


def test_a_later_map_over_the_end_of_a_part() -> None:
    """The third map is as large as the parts and begins at whole channels, but lies on some of the second."""
    prog = b.program(
        b.conv(0, 1000, 3, 6, 4, 20, name="a"),
        b.conv(0, 1012, 3, 6, 4, 20, name="b"),
        b.conv(0, 1016, 3, 6, 4, 20, name="c"),
        b.conv(1000, 2000, 12, 4, 4, 20, to_main=0),
    )
    (found,) = findings(prog)
    assert (found.step, found.kind) == (3, checks.OVERLAP)
    assert "c overwrote part of what b had left there" in found.message


def test_channels_that_reach_into_a_map_of_another_size() -> None:
    prog = b.program(
        b.conv(0, 1000, 3, 6, 8, 40, name="a", pool=1),
        b.conv(0, 1012, 3, 2, 8, 40, name="b"),
        b.conv(1000, 2000, 8, 4, 4, 20, to_main=0),
    )
    (found,) = [f for f in findings(prog) if f.kind == checks.OVERLAP]
    assert "b wrote 64768..65792 there, which only overlaps it" in found.message


def test_rows_of_one_channel_are_a_map_of_their_own() -> None:
    """Rows 2..6 of each of two channels are copied to a map of 8 rows, above rows 0..4 of the same channels."""
    copies = [
        b.conv(1000 + 10 * c + first, 2000 + 8 * c + at, 1, 1, 4, 40) for c in (0, 1) for first, at in ((2, 0), (0, 4))
    ]
    prog = b.program(b.conv(0, 1000, 3, 2, 10, 40), *copies, b.conv(2000, 3000, 2, 4, 8, 40, to_main=0))
    assert findings(prog) == []


def test_rows_that_reach_into_the_next_channel() -> None:
    prog = b.program(b.conv(0, 1000, 3, 2, 10, 40), b.conv(1008, 2000, 1, 1, 4, 40, to_main=0))
    assert kinds(prog) == [(1, checks.OVERLAP)]


def test_main_buffer_overlap_and_type() -> None:
    dequantize = p.Dequantize(input=b.main(0, U8, 256), output=b.main(256, F32, 256), scale=1.0, bias=0.0)
    first = b.conv(0, 1000, 3, 4, 8, 8, to_main=0)
    clobber = b.conv(0, 1000, 3, 4, 8, 8, to_main=128)
    assert kinds(b.program(first, clobber, dequantize)) == [(2, checks.OVERLAP)]
    wrong_type = p.Softmax(input=b.main(0, F32, 64), output=b.main(0, F32, 64))
    assert kinds(b.program(first, wrong_type)) == [(1, checks.OVERLAP)]


def test_in_place() -> None:
    assert kinds(b.program(b.conv(0, 4, 3, 4, 8, 8, to_main=0))) == [(0, checks.IN_PLACE)]
    first = b.conv(0, 1000, 3, 4, 8, 8, to_main=0)
    grow = p.Dequantize(input=b.main(0, U8, 256), output=b.main(0, F32, 256), scale=1.0, bias=0.0)
    assert kinds(b.program(first, grow)) == [(1, checks.IN_PLACE)]
    same = p.Requantize(input=b.main(0, U8, 256), output=b.main(0, U8, 256), table=bytes(256))
    assert kinds(b.program(first, same)) == []


def _padded(k: int) -> Program:
    """FC on the KPU: quantised floats in pixel (0, 0) of 4x4 maps."""
    return b.program(
        b.fully_connected(0, 64, 4, 8),
        p.Quantize(input=b.main(64, F32, 8), output=b.main(96, U8, 8), scale=0.1, bias=0.0),
        p.KpuAddPadding(input=b.main(96, U8, 8), output=b.ai(0, 8, 4, 4)),
        b.conv(0, 100, 8, 4, 4, 4, k=k, to_main=128),
        p.KpuRemovePadding(input=b.main(128, U8, 4, 4, 4), output=b.main(192, U8, 4)),
    )


def test_stale_pixels_are_fine_while_nobody_uses_them() -> None:
    assert findings(_padded(1)) == []


def test_stale_pixels_in_a_3x3_window() -> None:
    assert kinds(_padded(3)) == [(3, checks.STALE)]


def test_stale_pixels_in_an_output() -> None:
    prog = _padded(1)
    whole = Program(
        version=3, inputs=prog.inputs, outputs=(b.main(128, U8, 4, 4, 4),), steps=prog.steps, main_bytes=256
    )
    assert kinds(whole) == [(-1, checks.STALE)]


def test_overflow_is_reported_by_layer() -> None:
    first = b.conv(0, 1000, 3, 4, 8, 8, bn_add=1 << 16)
    hot = b.conv(1000, 2000, 4, 4, 8, 8, bn_mul=(1 << 23) - 1, to_main=0, name="hot")
    found = findings(b.program(first, hot))
    assert [(f.step, f.layer, f.kind) for f in found] == [(1, "hot", checks.OVERFLOW)]
    assert "batch norm results leave signed 36 bits" in found[0].message


def test_groups_of_eight_past_the_end() -> None:
    term = p.QuantizedTerm(0, 1, 0)
    step = p.QuantizedAdd(
        input_a=b.main(0, U8, 9), input_b=b.main(0, U8, 9), output=b.main(256, U8, 9), a=term, b=term, o=term
    )
    prog = b.program(b.conv(0, 1000, 3, 4, 8, 8, to_main=0), step, main_bytes=265)
    assert kinds(prog) == [(1, checks.OVERRUN)]


def test_results_do_not_depend_on_the_fill() -> None:
    prog = _padded(1)
    x = np.array([1, 2, 3, 4], np.float32)
    results = [Session(prog, fill=fill).run(x)[0].tolist() for fill in (0, 0x5A, 0xFF)]
    assert results[0] == results[1] == results[2]
