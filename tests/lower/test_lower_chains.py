"""Small graphs of all operators: lowered, they compute what onnxruntime computes from the source."""

import pytest
from graph_builders import Builder, lowered_equals_source, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.errors import UnsupportedError
from openkpu.lower.lower import lower
from openkpu.passes import canonicalize


@given(st.data(), st.integers(1, 9))
@settings(max_examples=250)
def test_random_graphs(data, layers):
    graph = random_graph(lambda values: data.draw(st.sampled_from(list(values))), layers)
    refusal = None
    try:
        lowered_equals_source(graph)
    except UnsupportedError as error:
        refusal = error
    if refusal is not None:  # a subtraction of maps under 4x4; nothing else is refused
        assert refusal.code == "E215"
        assert "Sub_" in refusal.where


def build(shape, make):
    b = Builder(*shape)
    y = make(b)
    return b.graph(*(y if isinstance(y, tuple) else (y,)))


def _two_readers(b):
    t = b.conv(b.x, 4, 3, pads=(0, 0, 0, 0))
    return b.conv(t, 4, 3), b.max_pool(t, 3, 1, (1, 1, 1, 1)), t


def _add_of_views(b):
    t = b.conv(b.x, 4, 3, pads=(0, 0, 0, 0))
    return b.add(b.conv(t, 4, 1), b.relu(t))


def _failing_join(b):
    wide = b.conv(b.x, 700, 1)
    return b.add(b.conv(wide, 4, 1), b.conv(b.conv(b.x, 600, 1), 4, 1))


def _concat_twice(b):
    t = b.conv(b.x, 4, 3)
    u = b.concat(t, t)
    return b.conv(b.concat(u, t, b.x), 4, 3), u


def _nested_unaligned(b):
    t = b.conv(b.x, 3, 3)
    return b.conv(b.concat(b.concat(t, t), t), 4, 3)


def _vectors_of_two_ranks(b):
    pooled = b.gap(b.conv(b.x, 4, 3))
    small = b.conv(b.max_pool(b.conv(b.x, 4, 3), 4, 4), 4, (2, 2), pads=(0, 0, 0, 0))
    return b.concat(pooled, small), b.add(pooled, small)


def _softmax_of_a_map(b):
    t = b.conv(b.max_pool(b.conv(b.x, 4, 3), 4, 4), 6, (2, 2), pads=(0, 0, 0, 0))
    return b.softmax(t, 1)


def _pooled_context(b):
    t = b.conv(b.x, 4, 3)
    context = b.op(
        "Resize",
        [b.relu(b.conv(b.gap(t), 4, 1))],
        (1, 4, 8, 8),
        mode="nearest",
        coordinate="asymmetric",
        rounding="floor",
    )
    return b.conv(b.concat(t, context), 4, 1)


def _output_twice(b):
    t = b.relu(b.conv(b.x, 4, 3))
    return t, b.conv(t, 4, 1), t


def _middle_of_a_chain(b):
    t = b.conv(b.x, 4, 3)
    u = b.relu(t)
    v = b.max_pool(u)
    return v, u, t


CASES = {
    "a part of a map with several readers": ((1, 3, 9, 11), _two_readers),
    "add of parts of maps": ((1, 4, 10, 9), _add_of_views),
    "add that cannot take in both convolutions": ((1, 4, 8, 8), _failing_join),
    "concat of one tensor twice, nested": ((1, 4, 8, 8), _concat_twice),
    "concat of channels that do not fill lines": ((1, 4, 8, 8), _nested_unaligned),
    "vectors of rank 2 and 4": ((1, 4, 8, 8), _vectors_of_two_ranks),
    "softmax over the channels of a 1x1 map": ((1, 4, 8, 8), _softmax_of_a_map),
    "pooled context, resized": ((1, 4, 8, 8), _pooled_context),
    "one tensor as two outputs": ((1, 4, 8, 8), _output_twice),
    "outputs in the middle of a fused chain": ((1, 4, 8, 8), _middle_of_a_chain),
    "x + x": ((1, 3, 8, 8), lambda b: b.add(t := b.conv(b.x, 5, 1), t)),
    "x - x": ((1, 3, 8, 8), lambda b: b.binary("Sub", t := b.conv(b.x, 5, 3), t)),
    "add of a view and a strided view": (
        (1, 4, 8, 8),
        lambda b: b.add(b.max_pool(b.conv(b.x, 4, 1)), b.depthwise(b.x, 3, stride=(2, 2))),
    ),
    "the input in a residual add": ((1, 4, 8, 8), lambda b: b.add(b.conv(b.relu(b.conv(b.x, 8, 1)), 4, 1), b.x)),
    "large average that counts its padding": (
        (1, 4, 9, 9),
        lambda b: b.average_pool(b.conv(b.x, 4, 1), 5, 2, (2, 2, 2, 2), 1),
    ),
    "large average that does not count it": (
        (1, 4, 9, 9),
        lambda b: b.average_pool(b.conv(b.x, 4, 1), 5, 2, (2, 2, 2, 2), 0),
    ),
    "one channel, depthwise": ((1, 1, 8, 8), lambda b: b.depthwise(b.depthwise(b.x), 3, stride=(2, 2))),
    "maps under 4x4": ((1, 4, 6, 6), lambda b: b.conv(b.relu(b.conv(b.max_pool(b.conv(b.x, 4), 2, 2), 8, 3)), 4, 3)),
    "activation of a map under 4x4": ((1, 4, 6, 6), lambda b: b.leaky(b.max_pool(b.conv(b.x, 4, 3)))),
    "yolo head": ((1, 3, 8, 8), lambda b: b.reshape(b.conv(b.x, 6, 1), 1, 3, 2, 64)),
    "output without a batch": ((1, 3, 8, 8), lambda b: b.reshape(b.conv(b.x, 6, 1), 6, 64)),
    "flat output": ((1, 3, 8, 8), lambda b: b.reshape(b.gemm(b.flatten(b.conv(b.x, 2, 1)), 5), 5)),
    "detector head": (
        (1, 3, 8, 8),
        lambda b: b.softmax(
            b.concat(
                *[
                    b.reshape(b.transpose(b.conv(b.x, 4, 3, stride=(s, s)), 0, 2, 3, 1), 1, (8 // s) ** 2 * 2, 2)
                    for s in (1, 2)
                ]
            ),
            2,
        ),
    ),
    "1x1 convolution with a dilated kernel": (
        (1, 4, 8, 8),
        lambda b: b.conv(b.gap(b.conv(b.x, 4, 1)), 3, 3, dilation=2, pads=(2, 2, 2, 2)),
    ),
    "batch norm of a vector": ((1, 4, 8, 8), lambda b: b.batch_norm(b.relu(b.gemm(b.flatten(b.x), 5)))),
    "reshape to a map": ((1, 4, 8, 8), lambda b: b.conv(b.reshape(b.gemm(b.flatten(b.x), 64), 1, 4, 4, 4), 4, 3)),
    "more than 1024 inputs": ((1, 20, 8, 8), lambda b: b.relu(b.gemm(b.flatten(b.relu(b.conv(b.x, 20, 1))), 40))),
    "more than 1024 channels": ((1, 8, 4, 4), lambda b: b.gap(b.relu(b.conv(b.x, 1280, 1)))),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    lowered_equals_source(build(*CASES[name]))


def test_everything_without_a_lowering_is_named_at_once():
    b = Builder(1, 4, 8, 8)
    t = b.conv(b.x, 4, 3)
    graph = b.graph(b.op("Div", [t, b.x], t.shape), b.op("LSTM", [t], t.shape))
    with pytest.raises(UnsupportedError) as caught:
        lower(graph)
    assert caught.value.code == "E200"
    assert "Div_" in caught.value.where
    assert "LSTM_" in caught.value.where


def test_each_layer_is_decided_once():
    b = Builder(1, 4, 9, 9)
    t = b.conv(b.x, 4, 3, pads=(0, 0, 0, 0))
    graph = b.graph(b.add(b.conv(t, 4, 1), b.conv(b.max_pool(b.conv(b.x, 4, 1), 3, 1), 4, 1)))
    canonicalize.run(graph)
    _, decisions = lower(graph)
    layers = [d.layer for d in decisions if d.op not in ("crop", "stride", "pad")]  # trips that a rewrite costs
    assert sorted(layers) == sorted(n.source[-1] for n in graph.nodes)
