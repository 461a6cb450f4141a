"""Boxes name the elements that arrays really hold."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from openkpu.runtime import boxes


@st.composite
def views(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A tensor of different numbers, maybe with gaps, and a view of some of them in another order and shape."""
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    store = np.arange(np.prod([n + 1 for n in shape])).reshape([n + 1 for n in shape])
    tensor = (
        store[tuple(slice(0, n) for n in shape)] if draw(st.booleans()) else np.arange(np.prod(shape)).reshape(shape)
    )
    cuts = []
    for n in shape:
        first = draw(st.integers(0, n - 1))
        cuts.append(slice(first, draw(st.integers(first + 1, n)), draw(st.integers(1, 2))))
    part = tensor[tuple(cuts)].transpose(draw(st.permutations(range(len(shape)))))
    if draw(st.booleans()) and part.flags.c_contiguous:
        part = part.reshape(-1)
    if tensor.flags.c_contiguous and draw(st.integers(0, 3)) == 0:  # a run, maybe from one row into the next
        first = draw(st.integers(0, tensor.size - 1))
        part = tensor.reshape(-1)[first : draw(st.integers(first + 1, tensor.size)) : draw(st.integers(1, 2))]
    return tensor, part


@given(views(), st.data())
def test_located_elements_are_the_same(case: tuple[NDArray[np.int64], NDArray[np.int64]], data: st.DataObject) -> None:
    tensor, part = case
    found = boxes.locate(part, tensor)
    if found is None:
        assert part.ndim == 1 or tensor.ndim == 1  # a run that ends inside a row
        return
    box, splits = found
    np.testing.assert_array_equal(box.of(tensor), boxes.split(part, splits))
    assert box.elements == part.size
    perm = tuple(data.draw(st.permutations(range(tensor.ndim))))
    turned = np.ascontiguousarray(tensor.transpose(perm))
    np.testing.assert_array_equal(boxes.transposed(box, perm).of(turned), boxes.split(part, splits))


@given(views(), st.data())
def test_slices_of_boxes(case: tuple[NDArray[np.int64], NDArray[np.int64]], data: st.DataObject) -> None:
    tensor, part = case
    if (found := boxes.locate(part, tensor)) is None:
        return
    begin = [data.draw(st.integers(0, n - 1)) for n in tensor.shape]
    step = [data.draw(st.integers(1, 3)) for _ in tensor.shape]
    kept = tensor[tuple(slice(b, None, s) for b, s in zip(begin, step, strict=True))]
    sliced = boxes.sliced(found[0], tensor.shape, begin, step, kept.shape)
    if sliced is None:
        return
    box, cuts = sliced
    both = np.intersect1d(part, kept)
    assert box.elements == both.size
    if both.size:
        np.testing.assert_array_equal(box.of(kept), boxes.split(part, found[1])[cuts])
        np.testing.assert_array_equal(np.sort(box.of(kept), axis=None), both)


def test_a_long_dimension_is_split() -> None:
    tensor = np.arange(24).reshape(2, 3, 4)
    found = boxes.locate(tensor.reshape(-1), tensor)
    assert found is not None
    assert found[0] == boxes.whole(tensor)


def test_what_lies_elsewhere_is_not_found() -> None:
    tensor = np.arange(24).reshape(4, 6)
    assert boxes.locate(tensor, tensor[1:]) is None
    assert boxes.locate(tensor[:, :3], tensor[:, 3:]) is None
    assert boxes.locate(np.arange(3), tensor) is None
    for length in range(2, 7):
        assert boxes.locate(tensor.reshape(-1)[7 - length : 7], tensor) is None, "a run into the next row"
        assert boxes.locate(tensor.reshape(-1)[6 - length : 6], tensor) is not None
    assert boxes.locate(tensor[1:2, :2], np.broadcast_to(tensor[1], (4, 6))) is None, "a tensor that repeats its rows"


def test_extents_end_with_the_last_byte() -> None:
    store = np.zeros(16, np.uint8)
    where = boxes.address(store)
    assert boxes.extent(store[4:8]) == (where + 4, where + 8)
    assert boxes.extent(store[8:4:-1]) == (where + 5, where + 9)
    assert boxes.extent(store.view(np.float32)[1:3]) == (where + 4, where + 12)
    assert boxes.overlap(store[3:5], store.view(np.float32)[1:2])
    assert not boxes.overlap(store[2:4], store.view(np.float32)[1:2])
    assert not boxes.overlap(store[8:], store.view(np.float32)[1:2])


def test_overlap_is_by_element() -> None:
    store = np.zeros((4, 6), np.uint8)
    assert not boxes.overlap(store[:, :3], store[:, 3:])
    assert boxes.overlap(store[:, :4], store[:, 3:])
    assert boxes.extent(store[::-1]) == boxes.extent(store)
