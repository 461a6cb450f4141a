"""A slice of a slice becomes one, which takes the same elements."""

import numpy as np
import pytest
from graph_builders import Builder, lowered_equals_source
from hypothesis import given
from hypothesis import strategies as st

from openkpu.float.session import FloatSession
from openkpu.passes.join_slices import join_slices


def cut(b: Builder, t, axis: int, taken: slice):
    r = range(*taken.indices(t.shape[axis]))
    end = r.stop if r.stop >= 0 else -t.shape[axis] - 1
    shape = tuple(len(r) if i == axis else d for i, d in enumerate(t.shape))
    return b.op("Slice", [t], shape, starts=(r.start,), ends=(end,), axes=(axis,), steps=(r.step,))


@given(st.data())
def test_the_same_elements(data) -> None:
    b = Builder(1, 4, 9, 7)
    t = b.x
    for _ in range(data.draw(st.integers(2, 4))):
        axis = data.draw(st.integers(1, 3))
        taken = data.draw(st.slices(t.shape[axis]).filter(lambda s, n=t.shape[axis]: len(range(*s.indices(n))) > 0))
        t = cut(b, t, axis, taken)
    graph = b.graph(t)
    x = np.random.default_rng(0).standard_normal(b.x.shape).astype(np.float32)
    (want,) = FloatSession(graph).run({"x": x}).values()
    join_slices(graph)
    graph.validate()
    assert len(graph.nodes) == 1
    np.testing.assert_array_equal(FloatSession(graph).run({"x": x})[t.name], want)


def test_a_slice_that_others_read_stays() -> None:
    b = Builder(1, 4, 8, 8)
    rows = cut(b, b.x, 2, slice(None, None, 2))
    graph = b.graph(cut(b, rows, 3, slice(1, None, 2)), rows)
    join_slices(graph)
    assert [n.inputs[0] for n in graph.nodes] == [b.x, b.x]


@pytest.mark.parametrize("first", [2, 3])
def test_every_second_pixel_axis_by_axis_is_a_convolution(first: int) -> None:
    b = Builder(1, 3, 9, 10)
    t = b.conv(b.x, 5)
    for axis in (first, 5 - first):
        t = cut(b, t, axis, slice(axis - 2, None, 2))
    lowered = lowered_equals_source(b.graph(b.conv(t, 4)))
    assert all(n.op.startswith("Kpu") for n in lowered.nodes)
