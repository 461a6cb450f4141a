"""Reductions and norms: over channels on the KPU, over other dimensions as poolings, in every version."""

import numpy as np
import pytest
from graph_builders import Builder, lowered_equals_source
from hypothesis import given, settings
from hypothesis import strategies as st
from target_models import positions, reduced, unit_pixels

from openkpu.errors import UnsupportedError
from openkpu.lower.lower import lower
from openkpu.lower.target import V3, V4, V5
from openkpu.passes import canonicalize

OPS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")


@given(
    st.sampled_from(OPS),
    st.sets(st.integers(1, 3), min_size=1),
    st.booleans(),
    st.tuples(st.integers(1, 6), st.integers(2, 9), st.integers(2, 9)),
    st.sampled_from((V3, V4, V5)),
)
@settings(max_examples=60, deadline=None)
def test_any_axes(op, axes, keep, size, version):
    b = Builder(1, *size)
    x = b.conv(b.x, size[0], 3)
    shape = tuple(1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes)
    graph = b.graph(b.op(op, [x], shape, axes=tuple(sorted(axes)), keepdims=int(keep)))
    lowered_equals_source(graph, target=version)


@pytest.mark.parametrize("op", OPS)
def test_rows_of_a_matrix(op):
    b = Builder(1, 4, 6, 6)
    t = b.reshape(b.conv(b.x, 5, 3), 1, 12, 15)
    lowered_equals_source(b.graph(b.op(op, [t], (1, 15), axes=(1,), keepdims=0)), target=V3)


@pytest.mark.parametrize("version", [V3, V4, V5])
def test_the_mean_over_channels_is_one_kpu_layer(version):
    b = Builder(1, 3, 8, 8)
    graph = b.graph(reduced(b, "ReduceMean", (1,)))
    canonicalize.run(graph)
    lowered, decisions = lower(graph, target=version)
    assert [n.op for n in lowered.nodes] == ["KpuConv", "KpuConv"]
    assert all(d.where == "KPU" for d in decisions)


def test_v3_has_no_unit_pixels():
    b = Builder(1, 3, 8, 8)
    graph = b.graph(unit_pixels(b))
    canonicalize.run(graph)
    with pytest.raises(UnsupportedError, match="E273") as caught:
        lower(graph, target=V3)
    assert "--target v4" in caught.value.fix


@pytest.mark.parametrize(("version", "code"), [(V3, "E200"), (V4, "E200")])
def test_positions_are_v5s(version, code):
    b = Builder(1, 3, 8, 8)
    graph = b.graph(positions(b))
    canonicalize.run(graph)
    with pytest.raises(UnsupportedError, match=code) as caught:
        lower(graph, target=version)
    assert "V5 has it: --target v5" in caught.value.where


def test_positions_are_not_computed_with():
    b = Builder(1, 3, 8, 8)
    t = positions(b)
    graph = b.graph(b.binary("Mul", t, b.const(np.ones((1, 8, 8)) * 2)))
    canonicalize.run(graph)
    with pytest.raises(UnsupportedError, match="E274"):
        lower(graph, target=V5)
