"""The first-fit heap against a bitmap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openkpu.board.heap import Heap

SIZE = 1024


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 300)), max_size=60))
def test_blocks_never_overlap_and_go_to_the_first_gap(steps: list[tuple[bool, int]]) -> None:
    heap = Heap(4096, SIZE, align=16, header=16)
    used = bytearray(SIZE)
    held: list[tuple[int, int]] = []
    for take, n in steps:
        if not take and held:
            address, size = held.pop(n % len(held))
            heap.release(address)
            used[address - 16 - 4096 : address - 16 - 4096 + size] = bytes(size)
            continue
        size = -(-(n + 16) // 16) * 16
        first = bytes(used).find(bytes(size))
        largest = heap.largest
        address = heap.allocate(n, "x")
        assert (address is None) == (first < 0) == (n > largest)
        if address is not None:
            assert address == 4096 + first + 16
            used[first : first + size] = b"\1" * size
            held.append((address, size))
        assert heap.used == sum(used)
        assert heap.free == SIZE - sum(used)


def test_who_holds_what() -> None:
    heap = Heap(0, 256, align=32, header=0)
    a = heap.allocate(10, "a")
    heap.allocate(40, "b")
    assert [(x.what, x.size, x.asked) for x in heap.blocks] == [("a", 32, 10), ("b", 64, 40)]
    assert a is not None
    heap.release(a)
    with pytest.raises(ValueError, match="no block at 0x0"):
        heap.release(a)
