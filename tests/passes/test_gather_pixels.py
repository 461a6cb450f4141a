"""Picks of channels and of every second pixel become convolutions of zeros and ones, or vanish into others."""

import numpy as np
import pytest
from graph_builders import Builder, lowered_equals_source, run_float
from hypothesis import given, settings
from hypothesis import strategies as st
from target_models import focus, shuffle, slices

from openkpu.graph.ir import Node, Tensor
from openkpu.lower.lower import lower
from openkpu.lower.target import V3, V5
from openkpu.passes import canonicalize
from openkpu.passes.gather_pixels import gather_pixels


def same(b, *outputs):
    """Apply the pass; the graph computes what it computed. Returns it."""
    graph = b.graph(*outputs)
    sample = np.random.default_rng(1).normal(size=b.x.shape).astype(np.float32)
    before = run_float(graph, sample)
    gather_pixels(graph)
    graph.validate()
    for got, want in zip(run_float(graph, sample), before, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    return graph


def operators(graph):
    return [n.op for n in graph.nodes]


def channels(b, t, start, stop, step=1):
    count = len(range(*slice(start, stop, step).indices(t.shape[1])))
    attrs = {"starts": (start,), "ends": (stop,), "axes": (1,), "steps": (step,)}
    return b.op("Slice", [t], (1, count, *t.shape[2:]), **attrs)


def second(b, t, y, x):
    h, w = t.shape[2:]
    attrs = {"starts": (y, x), "ends": (9999, 9999), "axes": (2, 3), "steps": (2, 2)}
    return b.op("Slice", [t], (*t.shape[:2], (h - y + 1) // 2, (w - x + 1) // 2), **attrs)


def darknet(b, t, s=2):
    """YOLOv2's reorganisation as PyTorch ports of it write it."""
    _, c, h, w = t.shape
    t = b.transpose(b.reshape(t, 1, c, h // s, s, w // s, s), 0, 1, 2, 4, 3, 5)
    t = b.transpose(b.reshape(t, 1, c, h // s * w // s, s * s), 0, 1, 3, 2)
    t = b.transpose(b.reshape(t, 1, c, s * s, h // s, w // s), 0, 2, 1, 3, 4)
    return b.reshape(t, 1, c * s * s, h // s, w // s)


def test_a_pick_goes_into_the_convolution_that_reads_it():
    b = Builder(1, 3, 8, 8)
    graph = same(b, b.conv(channels(b, b.conv(b.x, 8, 3), 2, 6), 4, 3))
    assert operators(graph) == ["Conv", "Conv"]
    assert graph.nodes[1].inputs[1].shape == (4, 8, 3, 3)


def test_an_output_is_a_layer_of_copies():
    b = Builder(1, 3, 8, 8)
    graph = same(b, channels(b, b.conv(b.x, 8, 3), 7, -9, -1))
    assert operators(graph) == ["Conv", "Conv"]


def test_focus_is_one_layer():
    b = Builder(1, 3, 8, 8)
    graph = same(b, focus(b))
    assert operators(graph) == ["Conv", "Conv"]
    assert graph.nodes[0].attrs["strides"] == (2, 2)
    assert graph.nodes[0].inputs[1].shape == (12, 3, 2, 2)


def test_a_shuffle_of_channels_vanishes():
    b = Builder(1, 3, 8, 8)
    assert operators(same(b, shuffle(b))) == ["Conv", "Relu", "Conv"]


def test_split_and_shuffle_of_shufflenet():
    b = Builder(1, 3, 8, 8)
    t = b.relu(b.conv(b.x, 16, 3))
    for _ in range(2):
        left, right = channels(b, t, 0, 8), channels(b, t, 8, 16)
        t = b.concat(left, b.relu(b.conv(right, 8, 1)))
        t = b.reshape(b.transpose(b.reshape(t, 1, 2, 8, 8, 8), 0, 2, 1, 3, 4), 1, 16, 8, 8)
    graph = same(b, b.conv(t, 4, 1))
    assert not {"Slice", "Transpose", "Reshape"} & set(operators(graph))


@pytest.mark.parametrize("s", [2, 4])
def test_space_to_depth(s):
    b = Builder(1, 3, 16, 16)
    t = b.relu(b.conv(b.x, 6, 3))
    graph = same(b, b.conv(b.op("SpaceToDepth", [t], (1, 6 * s * s, 16 // s, 16 // s), blocksize=s), 4, 1))
    assert operators(graph) == ["Conv", "Relu", *["Conv"] * (s // 2), "Conv"]


@pytest.mark.parametrize("s", [2, 4])
def test_reorganisation_of_yolo_2(s):
    b = Builder(1, 3, 16, 24)
    graph = same(b, b.conv(darknet(b, b.relu(b.conv(b.x, 4, 3)), s), 8, 3))
    assert operators(graph) == ["Conv", "Relu", *["Conv"] * (s // 2), "Conv"]


def test_gather_of_channels():
    b = Builder(1, 3, 8, 8)
    index = Tensor("index", (5,), "int64", np.array([4, 0, 0, 2, -1]))
    t = b.op("Gather", [b.conv(b.x, 6, 3), index], (1, 5, 8, 8), axis=1)
    graph = b.graph(b.conv(t, 4, 1))
    gather_pixels(graph)
    assert operators(graph) == ["Conv", "Conv"]
    assert graph.nodes[1].inputs[1].shape == (4, 6, 1, 1)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_gets_its_name_back(mode):
    b = Builder(1, 3, 8, 8)
    c, s = 3, 2
    shape, perm = {
        "DCR": ((1, s, s, c, 8, 8), (0, 3, 4, 1, 5, 2)),
        "CRD": ((1, c, s, s, 8, 8), (0, 1, 4, 2, 5, 3)),
    }[mode]
    t = b.transpose(b.reshape(b.conv(b.x, 12, 3), *shape), *perm)
    graph = same(b, b.conv(b.reshape(t, 1, c, 16, 16), 4, 3))
    (node,) = [n for n in graph.nodes if n.op == "DepthToSpace"]
    assert node.attrs == {"blocksize": 2, "mode": mode}


def test_what_is_no_pick_stays():
    b = Builder(1, 3, 8, 8)
    turned = b.reshape(b.transpose(b.conv(b.x, 4, 3), 0, 1, 3, 2), 1, 4, 8, 8)
    after_floats = channels(b, b.op("LpNormalization", [b.conv(b.x, 4, 3)], (1, 4, 8, 8), axis=1, p=2), 0, 2)
    graph = same(b, b.conv(turned, 4, 3), after_floats)
    assert {"Transpose", "Slice"} <= set(operators(graph))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_picks_of_picks(data):
    """Random slices of channels and pixels, some of them concatenated, in the lowered graph too."""
    b = Builder(1, 4, *(data.draw(st.integers(8, 13)) for _ in range(2)))
    t = b.conv(b.x, 6, 3)
    for _ in range(data.draw(st.integers(1, 3))):
        kind = data.draw(st.sampled_from(("channels", "pixels", "both")))
        c = t.shape[1]
        if kind == "channels" or min(t.shape[2:]) < 8:
            start = data.draw(st.integers(0, c - 1))
            t = channels(b, t, start, data.draw(st.integers(start + 1, c)))
        elif kind == "pixels":
            t = second(b, t, data.draw(st.integers(0, 1)), data.draw(st.integers(0, 1)))
        elif all(d % 2 == 0 for d in t.shape[2:]):
            t = b.concat(*(second(b, t, y, x) for y in (0, 1) for x in (0, 1)))
        if t.shape[1] > 1 and data.draw(st.booleans()):
            t = b.concat(t, b.relu(channels(b, t, 0, 1)), channels(b, t, 1, 99))
    lowered_equals_source(b.graph(b.conv(t, 3, 1)), target=data.draw(st.sampled_from((V3, V5))))


def test_v3_runs_slices_of_channels():
    b = Builder(1, 3, 8, 8)
    graph = b.graph(slices(b))
    canonicalize.run(graph)
    lowered, _ = lower(graph)
    assert [n.op for n in lowered.nodes] == ["KpuConv", "KpuConv"]


def test_a_node_of_two_outputs_is_left_alone():
    b = Builder(1, 4, 8, 8)
    t = channels(b, b.conv(b.x, 4, 3), 0, 2)
    values, places = (Tensor(name, (1, 2, 8, 3)) for name in ("values", "places"))
    graph = b.graph(t)
    graph.nodes.append(Node("TopK", [t], [values, places], {}))
    graph.outputs[:] = [values, places]
    gather_pixels(graph)
    assert operators(graph)[-1] == "TopK"
