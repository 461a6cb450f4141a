"""Values and their lifetimes, found from addresses alone."""

import program_builders as build
from hypothesis import given
from hypothesis import strategies as st

from openkpu.kmodel.program import Add, Dequantize, DType, Memory, Operand
from openkpu.runtime.lifetimes import used_at, values


def lives(program):
    return [(v.operand.memory, v.born, v.readers) for v in values(program)]


def test_a_chain_through_both_memories():
    dequantize = Dequantize(
        input=build.main(0, DType.U8, 256), output=build.main(256, DType.F32, 256), scale=1.0, bias=0.0
    )
    program = build.program(build.conv(0, 64, 3, 4, 8, 8, to_main=0), dequantize)
    assert lives(program) == [
        (Memory.AI, -1, [0]),
        (Memory.AI, 0, []),
        (Memory.MAIN, 0, [1]),
        (Memory.MAIN, 1, [2]),
    ]
    assert used_at(values(program), Memory.MAIN, 2) == [256, 256 + 1024]


def test_a_reader_of_two_neighbours_keeps_both_and_an_overwritten_value_ends():
    def add(a, b, out, n=4):
        return Add(
            input_a=build.main(a, DType.F32, n),
            input_b=build.main(b, DType.F32, n),
            output=build.main(out, DType.F32, n),
        )

    first = build.fully_connected(0, 16, 4, 4)  # writes 16..32
    program = build.program(first, add(16, 16, 32), add(16, 16, 16), add(16, 16, 64, n=8), main_bytes=128)
    found = {v.born: v.readers for v in values(program)}
    # step 3 reads 16..48: the new value at 16 (of step 2) and its neighbour at 32 (of step 1), not the old one at 16
    assert found == {-1: [0], 0: [1, 2], 1: [3], 2: [3], 3: [4]}


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=12))
def test_every_byte_read_comes_from_its_last_writer(places):
    """Against a byte-by-byte record of who wrote what."""
    steps = [
        Add(
            input_a=build.main(a * 4, DType.F32, 2),
            input_b=build.main(b * 4, DType.F32, 2),
            output=build.main(o * 4, DType.F32, 2),
        )
        for a, b, o in places
    ]
    program = build.program(*steps, main_bytes=64, outputs=(build.main(0, DType.F32, 8),))
    owner: dict[int, int] = {}
    expected: set[tuple[int, int]] = set()

    def read(operand: Operand, reader: int) -> None:
        expected.update((owner[i], reader) for i in range(operand.start, operand.stop) if i in owner)

    for o in program.inputs:
        owner.update(dict.fromkeys(range(o.start, o.stop), -1) if o.memory is Memory.MAIN else {})
    for i, step in enumerate(steps):
        for o in step.reads:
            read(o, i)
        owner.update(dict.fromkeys(range(step.output.start, step.output.stop), i))
    read(program.outputs[0], len(steps))
    assert {(v.born, r) for v in values(program) for r in v.readers} == expected
