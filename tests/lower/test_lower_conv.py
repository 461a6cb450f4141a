"""Every convolution that the lowering accepts computes what onnxruntime computes; others are refused by name."""

import numpy as np
import pytest
from graph_builders import Builder, lowered_equals_source
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from openkpu.errors import MemoryLimitError, UnsupportedError
from openkpu.graph.ir import Graph
from openkpu.lower.lower import lower
from openkpu.passes import canonicalize

SIZES = st.integers(1, 33)
KERNELS = st.tuples(st.integers(1, 3), st.integers(1, 3))
STRIDES = st.sampled_from([(1, 1), (2, 2), (3, 3), (2, 1), (1, 2)])
PADS = st.tuples(*[st.integers(0, 2)] * 4)


def check(graph: Graph, layer: str) -> Graph | None:
    try:
        return lowered_equals_source(graph)
    except (UnsupportedError, MemoryLimitError) as error:
        refusal = error
    assert layer in refusal.where
    assert refusal.why
    return None


@given(
    size=st.tuples(SIZES, SIZES),
    kernel=KERNELS,
    stride=STRIDES,
    pads=PADS,
    kind=st.sampled_from(["dense", "groups", "depthwise", "multiplier", "one channel"]),
    bias=st.booleans(),
)
@example(size=(8, 10), kernel=(1, 3), stride=(2, 1), pads=(1, 1, 0, 0), kind="dense", bias=True)
@example(size=(15, 17), kernel=(2, 3), stride=(1, 1), pads=(1, 1, 1, 1), kind="depthwise", bias=True)
@example(size=(16, 13), kernel=(2, 3), stride=(2, 2), pads=(1, 1, 1, 1), kind="dense", bias=True)
@example(size=(1, 1), kernel=(3, 3), stride=(2, 2), pads=(2, 2, 2, 2), kind="depthwise", bias=True)
@example(size=(1, 1), kernel=(3, 1), stride=(2, 2), pads=(0, 1, 2, 0), kind="dense", bias=True)
@settings(max_examples=250)
def test_any_convolution(size, kernel, stride, pads, kind, bias):
    assume(size[0] + pads[0] + pads[2] >= kernel[0] and size[1] + pads[1] + pads[3] >= kernel[1])
    channels, out, group = {
        "dense": (3, 5, 1),
        "groups": (4, 6, 2),
        "depthwise": (4, 4, 4),
        "multiplier": (2, 6, 2),
        "one channel": (1, 1, 1),
    }[kind]
    b = Builder(1, channels, *size)
    y = b.conv(b.x, out, kernel, stride=stride, pads=pads, group=group, bias=bias)
    assert check(b.graph(y), "Conv_") is not None


@given(size=st.tuples(SIZES, SIZES), dilation=st.integers(2, 3), group=st.sampled_from([1, 4]))
@settings(max_examples=40)
def test_dilated_convolution_with_same_padding(size, dilation, group):
    b = Builder(1, 4, *size)
    y = b.conv(b.x, 4, 3, dilation=dilation, pads=(dilation,) * 4, group=group)
    assert check(b.graph(y), "Conv_") is not None


@given(
    size=st.tuples(st.integers(4, 33), st.integers(4, 33)),
    channels=st.sampled_from([1, 3, 4]),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    dilation=st.integers(1, 2),
    pads=st.tuples(*[st.integers(0, 4)] * 4),
    stride=st.sampled_from([(1, 1), (2, 2), (2, 1)]),
    depthwise=st.booleans(),
)
@settings(max_examples=80)
def test_wide_kernel(size, channels, kernel, dilation, pads, stride, depthwise):
    spans = [(k - 1) * dilation + 1 for k in kernel]
    assume(size[0] + pads[0] + pads[2] >= spans[0] and size[1] + pads[1] + pads[3] >= spans[1])
    b = Builder(1, channels, *size)
    groups = channels if depthwise else 1
    y = b.conv(b.x, channels, kernel, dilation=dilation, pads=pads, stride=stride, group=groups)
    assert check(b.graph(y), "Conv_") is not None


@given(
    size=st.tuples(st.integers(4, 33), st.integers(4, 33)),
    first=KERNELS,
    pads=PADS,
    second=KERNELS,
    stride=STRIDES,
    pads2=PADS,
    depthwise=st.booleans(),
    pool=st.sampled_from([None, (2, 2, 0), (2, 1, 0), (3, 2, 0), (3, 2, 1)]),
)
@settings(max_examples=200)
def test_convolution_and_pooling_on_a_part_of_a_map(size, first, pads, second, stride, pads2, depthwise, pool):
    b = Builder(1, 2, *size)
    assume(size[0] + pads[0] + pads[2] >= first[0] and size[1] + pads[1] + pads[3] >= first[1])
    t = b.relu(b.conv(b.x, 4, first, pads=pads))
    assume(t.shape[2] + pads2[0] + pads2[2] >= second[0] and t.shape[3] + pads2[1] + pads2[3] >= second[1])
    t = b.conv(t, 4, second, pads=pads2, stride=stride, group=4 if depthwise else 1)
    if pool is not None:
        assume(min(t.shape[2:]) + 2 * pool[2] >= pool[0])
        t = b.max_pool(t, pool[0], pool[1], (pool[2],) * 4)
    assert check(b.graph(t), "") is not None


@given(size=st.tuples(st.integers(4, 33), st.integers(4, 33)), pads=PADS, kernel=KERNELS, out=st.integers(1, 5))
@settings(max_examples=60)
def test_depthwise_stride_is_handed_to_the_next_convolution(size, pads, kernel, out):
    b = Builder(1, 4, *size)
    assume(size[0] + pads[0] + pads[2] >= kernel[0] and size[1] + pads[1] + pads[3] >= kernel[1])
    t = b.relu6(b.depthwise(b.x, kernel, stride=(2, 2), pads=pads))
    assert check(b.graph(b.relu(b.conv(t, out, 1))), "") is not None


def test_more_weight_loads_than_64_are_split():
    b = Builder(1, 512, 8, 8)
    lowered = lowered_equals_source(b.graph(b.conv(b.x, 512, 3)))
    assert [n.op for n in lowered.nodes] == ["KpuConv", "KpuConv", "KpuConcat"]


@pytest.mark.parametrize(
    ("build", "code"),
    [
        (lambda b: b.conv(b.conv(b.x, 120, 1), 2, (5, 5)), "E212"),
        (
            lambda b: b.op("Conv", [b.x, b.x], (1, 1, 1, 1), strides=(1, 1), pads=(0,) * 4, dilations=(1, 1), group=1),
            "E210",
        ),
    ],
)
def test_what_cannot_be_lowered_is_refused_by_name(build, code):
    b = Builder(1, 8, 8, 8)
    y = build(b)
    with pytest.raises(UnsupportedError) as caught:
        lower(b.graph(y))
    assert caught.value.code == code
    assert f"Conv_{b.count}" in caught.value.where
    assert caught.value.fix


@pytest.mark.parametrize(
    ("shape", "oc", "code"),
    [
        ((1, 1, 16, 520), 4, "E213"),
        ((1, 1, 300, 16), 4, "E213"),
        ((1, 1032, 4, 4), 4, "E213"),
    ],
)
def test_too_large_maps_are_refused_by_name(shape, oc, code):
    b = Builder(*shape)
    graph = b.graph(b.conv(b.x, oc, 3))
    canonicalize.run(graph)
    with pytest.raises((UnsupportedError, MemoryLimitError)) as caught:
        lower(graph)
    assert caught.value.code == code
    assert "Conv_" in caught.value.where


def test_a_layer_over_the_memory_that_no_pass_split_is_refused_by_name():
    b = Builder(1, 16, 200, 300)
    with pytest.raises(MemoryLimitError, match="E301") as caught:
        lower(b.graph(b.conv(b.x, 24, 3)))
    assert "Conv_" in caught.value.where


def test_lowering_leaves_the_source_graph_whole():
    b = Builder(1, 2, 9, 9)
    y = b.average_pool(b.conv(b.x, 4), 3, 2, (1, 1, 1, 1), 1)
    graph = b.graph(y)
    lower(graph)
    graph.validate()
    assert y.producer is not None
    assert y.producer.op == "AveragePool"
    assert np.prod(y.shape) == 4 * 5 * 5
