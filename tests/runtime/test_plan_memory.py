"""Plans follow values only as long as their bytes are there: memory that is used again, or by the step itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import program_builders as b
import pytest
import v5_chains
from plan_checks import FILL, assert_equal, assert_same, expected, pictures

from openkpu.kmodel import operators as o
from openkpu.kmodel.program import DType, KpuConv, KpuDownload, KpuUpload, Memory, Operand, Program, Requantize, Step
from openkpu.runtime.session import Session

pytest.importorskip("openkpu._native", reason="the native kernels are not built")

N = 256
SHAPE = (1, 4, 8, 8)
TABLE = bytes((7 * i + 3) % 256 for i in range(256))
SOURCE = Operand(Memory.INPUT, 0, DType.U8, SHAPE)
CONSTANT = Operand(Memory.CONST, 0, DType.U8, SHAPE)


def place(start: int, dtype: DType = DType.U8) -> Operand:
    """A tensor of ``N`` elements in main RAM."""
    return b.main(start, dtype, *SHAPE)


def copy(source: Operand, target: Operand) -> Step:
    return o.CopyTensor(input=source, output=target)


def lookup(source: Operand, target: Operand) -> Step:
    return Requantize(input=source, output=target, table=TABLE)


def floats(source: Operand, target: Operand, scale: float = 0.5) -> Step:
    return o.DequantizeTensor(input=source, output=target, scale=scale, zero_point=3)


def numbers(source: Operand, target: Operand, scale: float = 0.75) -> Step:
    return o.QuantizeTensor(input=source, output=target, scale=scale, zero_point=9)


def computed(source: Operand, target: Operand) -> Step:
    """Floats that are no table of bytes."""
    window = {"kernel": (3, 3), "stride": (1, 1), "dilation": (1, 1), "pads": ((1, 1), (1, 1))}
    return o.ReduceWindow(input=source, output=target, op=o.ReduceOp.MEAN, init=0.0, clamp=o.NO_CLAMP, **window)  # type: ignore[arg-type]


def layer(source: int, target: int, to_main: Operand | None = None) -> KpuConv:
    return KpuConv(layer=b.kpu_layer(source, target, *SHAPE[1:2], *SHAPE[1:]), main_output=to_main)


def program(*steps: Step, out: Operand | None = None) -> Program:
    return Program(
        version=5,
        inputs=(SOURCE,),
        outputs=(out or steps[-1].writes[0],),
        steps=steps,
        main_bytes=40 * N,
        input_bytes=2 * N,
        output_bytes=2 * N,
        constants=bytes(range(256)),
    )


AI, AI_2 = b.ai(0, *SHAPE[1:]), b.ai(64, *SHAPE[1:])
ROW = (1, 1, 1, N)
SPREAD = Operand(Memory.MAIN, 4 * N, DType.U8, ROW, (8 * N, 8 * N, 8 * N, 2))
ODD = replace(SPREAD, start=4 * N + 1)
PAIR = (1, 8, 8, 8)


def overwritten() -> dict[str, tuple[Step, ...]]:
    """What a later step overwrites."""
    return {
        "a layer onto its own input": (
            KpuUpload(input=SOURCE, output=AI),
            layer(0, 0),
            KpuDownload(input=AI, output=place(0)),
        ),
        "a layer onto another map": (
            KpuUpload(input=SOURCE, output=AI),
            KpuUpload(input=SOURCE, output=AI_2),
            layer(0, 64),
            KpuDownload(input=AI_2, output=place(0)),
        ),
        "a layer onto a map that was downloaded before": (
            KpuUpload(input=SOURCE, output=AI),
            layer(0, 64),
            KpuDownload(input=AI_2, output=place(0)),
            floats(place(0), place(N, DType.F32)),
            layer(64, 64),
            numbers(place(N, DType.F32), place(5 * N)),
            KpuUpload(input=place(5 * N), output=AI),
            layer(0, 0),
            KpuDownload(input=AI, output=place(6 * N)),
        ),
        "half of a tensor, the other half known": (
            copy(SOURCE, place(N)),
            lookup(SOURCE, place(N - 64)),
            lookup(SOURCE, place(2 * N)),
            copy(b.main(N, DType.U8, *PAIR), b.main(8 * N, DType.U8, *PAIR)),
        ),
        "a tensor, by floats": (
            copy(SOURCE, place(0)),
            floats(place(0), place(0, DType.F32)),
            copy(place(0), place(8 * N)),
        ),
        "a source, by another step": (
            lookup(SOURCE, place(0)),
            lookup(place(0), place(N)),
            lookup(place(N), place(0)),
            copy(SOURCE, place(4 * N)),
            lookup(place(N), place(2 * N)),
        ),
        "a source, its first byte": (
            lookup(SOURCE, place(0)),
            lookup(place(0), place(N)),
            copy(b.main(32 * N, DType.U8, 1), b.main(0, DType.U8, 1)),
            copy(SOURCE, SOURCE),
            lookup(place(N), place(2 * N)),
        ),
        "a source, its last byte": (
            lookup(SOURCE, place(0)),
            lookup(place(0), place(N)),
            copy(b.main(32 * N, DType.U8, 1), b.main(N - 1, DType.U8, 1)),
            copy(SOURCE, SOURCE),
            lookup(place(N), place(2 * N)),
        ),
        "all but the gaps": (
            copy(replace(SOURCE, shape=ROW), SPREAD),
            lookup(SPREAD, ODD),
            copy(ODD, b.main(20 * N, DType.U8, *ROW)),
            lookup(b.main(20 * N, DType.U8, *ROW), SPREAD),
            copy(b.main(4 * N, DType.U8, *PAIR), b.main(8 * N, DType.U8, *PAIR)),
        ),
    }


@pytest.mark.parametrize("what", overwritten())
def test_what_was_overwritten_is_not_known(what: str) -> None:
    case = program(*overwritten()[what])
    assert_same(case, *((picture,) for picture in pictures(case, 1, 2)))


BESIDE = [place(N + delta) for delta in (-64, -8, -1, 1, 8, 64)]


def own() -> dict[str, tuple[Step, ...]]:
    """Steps that overwrite what they read, or where that came from; all begin with the picture, moved."""
    fresh = copy(SOURCE, place(N)), copy(CONSTANT, SOURCE)
    moved = {
        f"onto its input moved by {beside.start - N}": (*fresh, copy(place(N), beside), lookup(beside, place(3 * N)))
        for beside in BESIDE
    }
    return moved | {
        "in place": (*fresh, lookup(place(N), place(N)), lookup(place(N), place(3 * N))),
        "in place, twice": (*fresh, lookup(place(N), place(N)), lookup(place(N), place(N))),
        "onto the source of its input": (
            *fresh,
            lookup(place(N), place(0)),
            lookup(place(0), place(N)),
            floats(place(N), place(4 * N, DType.F32)),
            numbers(place(4 * N, DType.F32), place(8 * N)),
        ),
        "onto half of the source of its input": (
            *fresh,
            lookup(place(N), place(4 * N)),
            lookup(place(4 * N), place(N + N // 2)),
            lookup(place(N + N // 2), place(8 * N)),
        ),
        "onto the input buffer": (lookup(SOURCE, place(0)), lookup(place(0), SOURCE), lookup(SOURCE, place(N))),
        "from bytes to floats around them": (
            *fresh,
            floats(place(N), place(0, DType.F32)),
            numbers(place(0, DType.F32), place(8 * N)),
        ),
        "from floats to bytes among them": (
            *fresh,
            floats(place(N), place(4 * N, DType.F32)),
            numbers(place(4 * N, DType.F32), place(5 * N)),
        ),
        "turned around in place": (
            *fresh,
            o.TransposeTensor(input=place(N), output=place(N), perm=(0, 1, 3, 2)),
        ),
        "one part onto the floats of another": (
            floats(SOURCE, place(0, DType.F32)),
            floats(SOURCE, place(20 * N, DType.F32), 0.1),
            computed(place(20 * N, DType.F32), place(4 * N, DType.F32)),
            numbers(b.main(0, DType.F32, *PAIR), b.main(7 * N + 64, DType.U8, *PAIR)),
        ),
        "the second part onto where it came from": (
            *fresh,
            copy(SOURCE, place(4 * N)),
            copy(place(N), place(5 * N)),
            o.TransposeTensor(
                input=b.main(4 * N, DType.U8, *PAIR), output=b.main(0, DType.U8, *PAIR), perm=(0, 1, 3, 2)
            ),
        ),
        "the first part onto the source of the second": (
            *fresh,
            copy(SOURCE, place(4 * N)),
            copy(place(N), place(5 * N)),
            lookup(b.main(4 * N, DType.U8, *PAIR), b.main(N + 8, DType.U8, *PAIR)),
        ),
    }


@pytest.mark.parametrize("what", own())
def test_what_the_step_itself_overwrites_is_no_source(what: str) -> None:
    steps = own()[what]
    last = steps[-1].writes[0]
    first, second = (replace(last, start=start) for start in (30 * N, 35 * N))
    case = program(*steps, lookup(last, first), lookup(first, second))
    for outputs in ((second,), (last, first, second)):
        again = replace(case, outputs=outputs)
        assert_same(again, *((picture,) for picture in pictures(case, 2, 2)))


def test_bytes_are_not_read_as_floats() -> None:
    """Where the elements of both begin at the same places."""
    bytes_apart = replace(place(0), strides=(4 * N, N, 32, 4))
    case = program(copy(SOURCE, bytes_apart), copy(place(0, DType.F32), place(8 * N, DType.F32)))
    assert_same(case, *((picture,) for picture in pictures(case, 12, 2)))


def test_a_layer_with_its_result_in_the_output_buffer() -> None:
    buffer = Operand(Memory.OUTPUT, 0, DType.U8, SHAPE)
    case = program(
        KpuUpload(input=SOURCE, output=AI),
        copy(SOURCE, buffer),
        layer(0, 64, replace(buffer, shape=SHAPE[1:])),
        lookup(buffer, place(0)),
    )
    assert_same(case, *((picture,) for picture in pictures(case, 3, 2)))


def spaced(step: KpuConv, **registers: int) -> KpuConv:
    """The layer with other distances between rows than maps usually have."""
    return replace(step, layer=replace(step.layer, registers=replace(step.layer.registers, **registers)))


def test_layers_that_read_or_write_elsewhere_than_maps_lie() -> None:
    eight = 8 * 64
    parts = [replace(AI, start=start) for start in (0, eight)]
    uploads = [KpuUpload(input=SOURCE, output=part) for part in parts]
    down = KpuDownload(input=parts[1], output=place(0))
    reads = (*uploads, spaced(layer(0, 8), row_switch_addr=2), down)
    writes = (*uploads, spaced(layer(0, 0), wb_row_switch_addr=2), down, lookup(place(0), place(N)))
    for steps in (reads, writes):
        case = program(*steps)
        assert_same(case, *((picture,) for picture in pictures(case, 13, 2)))


def test_the_input_buffer_is_written_as_other_memory() -> None:
    beside = replace(SOURCE, start=N)
    case = program(copy(Operand(Memory.CONST, 0, DType.U8, SHAPE), beside), copy(beside, SOURCE), out=SOURCE)
    picture = pictures(case, 4, 1)[0]
    assert_same(case, (picture,))
    assert Session(case).run(picture)[0].reshape(-1).tolist() == list(range(N))


def test_what_is_beside_the_inputs_is_the_fill() -> None:
    both = Operand(Memory.INPUT, 0, DType.U8, PAIR)
    case = program(copy(both, b.main(0, DType.U8, *PAIR)), lookup(SOURCE, replace(SOURCE, start=N)))
    case = replace(case, outputs=(b.main(0, DType.U8, *PAIR),))
    assert_same(case, *((picture,) for picture in pictures(case, 5, 2)))


def test_inputs_at_one_place() -> None:
    both, copied, last = (b.main(start, DType.U8, *PAIR) for start in (0, 4 * N, 8 * N))
    case = program(copy(both, copied), lookup(copied, last))
    case = replace(case, inputs=(place(0), place(0)))
    assert_same(case, tuple(pictures(case, 6, 2)))


def test_outputs_that_share_bytes() -> None:
    whole = b.main(0, DType.U8, *PAIR)
    case = program(lookup(SOURCE, place(0)), lookup(place(0), place(N)))
    case = replace(case, outputs=(whole, place(0), place(N), place(N // 2), whole))
    assert_same(case, *((picture,) for picture in pictures(case, 7, 2)))


def test_tensors_that_repeat_their_elements() -> None:
    again = replace(place(0), strides=(0, 0, 8, 1))
    case = program(copy(SOURCE, place(0)), lookup(again, place(4 * N)))
    assert_same(case, *((picture,) for picture in pictures(case, 8, 2)))


def test_constants_are_never_overwritten_and_keep_their_channels() -> None:
    constant = Operand(Memory.CONST, 0, DType.F32, (1, 4, 1, 1))
    real, sums = place(0, DType.F32), place(4 * N, DType.F32)
    add = o.Binary(input_a=constant, input_b=real, output=sums, op=o.BinaryOp.SUB, clamp=(-20.0, 90.0))
    case = program(floats(SOURCE, real), add, computed(real, real), numbers(sums, place(8 * N)))
    case = replace(case, constants=np.float32([1, 20, 300, -4]).tobytes())
    assert_same(case, *((picture,) for picture in pictures(case, 9, 2)))


def test_tables_in_their_order() -> None:
    case = program(
        floats(SOURCE, place(0, DType.F32)),
        numbers(place(0, DType.F32), place(4 * N)),
        lookup(place(4 * N), place(5 * N)),
        floats(place(5 * N), place(6 * N, DType.F32), 0.3),
        numbers(place(6 * N, DType.F32), place(10 * N), 0.45),
        lookup(place(10 * N), place(11 * N)),
    )
    case = replace(case, outputs=(*case.outputs, place(6 * N, DType.F32)))
    assert_same(case, *((picture,) for picture in pictures(case, 10, 2)))


def test_pieces_in_their_places() -> None:
    """A concatenation of two tensors, turned, and every other row and column of a part of it."""
    joined, turned = b.main(4 * N, DType.U8, 1, 8, 8, 8), b.main(8 * N, DType.U8, 1, 8, 8, 8)
    sliced = b.main(12 * N, DType.U8, 1, 3, 4, 2)
    case = program(
        lookup(SOURCE, place(0)),
        lookup(place(0), place(N)),
        o.ConcatTensors(inputs=(place(0), place(N)), output=joined, axis=1),
        o.TransposeTensor(input=joined, output=turned, perm=(0, 2, 3, 1)),
        o.SliceTensor(input=turned, output=sliced, begin=(0, 2, 1, 3), end=(1, 8, 8, 6), stride=(1, 2, 2, 2)),
        lookup(sliced, b.main(16 * N, DType.U8, 1, 3, 4, 2)),
    )
    assert_same(case, *((picture,) for picture in pictures(case, 14, 2)))


def test_sessions_in_two_threads() -> None:
    """Each with a program of its own, watched now and then."""
    cases = [v5_chains.program(seed, 30) for seed in range(8)]
    runs = [[(picture, expected(case, picture)) for picture in pictures(case, 11, 3)] for case in cases]

    def work(which: int) -> None:
        session = Session(cases[which], fill=FILL)
        for turn in range(12):
            picture, want = runs[which][turn % 3]
            trace = (lambda *_: None) if turn % 4 == 1 else None
            assert_equal(session.run(picture, trace=trace), want)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work, which) for which in (*range(8), *range(8))]:
            done.result()
