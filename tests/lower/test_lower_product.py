"""Products on the KPU, by squares: squeeze-and-excite, attention, maps times maps, in V3."""

import numpy as np
import pytest
from graph_builders import Builder, lowered_equals_source, run_float
from hypothesis import given, settings
from hypothesis import strategies as st
from target_models import graph_of, squeeze_excite

import openkpu
from openkpu.compiler import compile
from openkpu.errors import UnsupportedError
from openkpu.float.export import to_onnx
from openkpu.lower.lower import lower
from openkpu.lower.target import V3, V4, V5
from openkpu.passes import canonicalize
from openkpu.quantize.products import balance, products

MEAN, STD = 127.5, 64.0


def gated(b, t, channels):
    gate = b.unary("HardSigmoid", b.conv(b.relu(b.conv(b.gap(t), 4, 1)), channels, 1), alpha=0.2, beta=0.5)
    return b.binary("Mul", t, gate)


def pixel_gates(b):
    t = b.relu(b.conv(b.x, 6, 3))
    return b.conv(b.binary("Mul", b.unary("Sigmoid", b.conv(t, 1, 3)), t), 4, 3)


def residual(b):
    t = b.unary("HardSwish", b.conv(b.x, 8, 3))
    return b.relu(b.add(b.conv(gated(b, t, 8), 4, 1), b.conv(b.x, 4, 1)))


MODELS = {
    "squeeze and excite": squeeze_excite,
    "a gate for each pixel": pixel_gates,
    "a residual sum behind": residual,
    "two maps": lambda b: b.conv(b.binary("Mul", b.conv(b.x, 5, 3), b.relu(b.conv(b.x, 5, 3))), 4, 3),
    "the same map": lambda b: b.binary("Mul", b.max_pool(b.conv(b.x, 4, 3)), b.conv(b.x, 4, 3, stride=(2, 2))),
    "a function behind": lambda b: b.unary("HardSwish", b.binary("Mul", b.conv(b.x, 4, 3), b.conv(b.x, 4, 1))),
    "valid padding before": lambda b: b.conv(
        b.binary("Mul", b.conv(b.x, 4, 3, pads=(0, 0, 0, 0)), b.conv(b.x, 4, 3, pads=(0, 0, 0, 0))), 4, 1
    ),
    "a stride behind": lambda b: b.conv(gated(b, b.relu(b.conv(b.x, 8, 3)), 8), 4, 3, stride=(2, 2)),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_lowered_graph_means_the_same(name):
    lowered_equals_source(graph_of((1, 3, 12, 12), MODELS[name]), target=V3)


@given(st.integers(1, 5), st.integers(4, 11), st.integers(4, 40), st.booleans(), st.booleans())
@settings(max_examples=30, deadline=None)
def test_any_size(c, h, w, gate, behind):
    b = Builder(1, 2, h, w)
    t = b.conv(b.x, c, 3)
    y = gated(b, t, c) if gate else b.binary("Mul", t, b.conv(b.x, c, 1))
    lowered_equals_source(b.graph(b.conv(y, 3, 1) if behind else y), target=V3)


def test_many_channels_are_multiplied_in_parts():
    b = Builder(1, 3, 4, 4)
    t = b.relu(b.conv(b.x, 300, 1))
    lowered = lowered_equals_source(b.graph(b.conv(gated(b, t, 300), 4, 1)), target=V3)
    assert len(products(lowered)) == 10


def test_a_linear_layer_behind_takes_the_difference_in():
    graph = graph_of((1, 3, 12, 12), squeeze_excite)
    canonicalize.run(graph)
    lowered, decisions = lower(graph)
    assert len(products(lowered)) == 2
    last = lowered.nodes[-1]
    assert (last.op, last.inputs[1].shape) == ("KpuConv", (4, 4 * 8, 1, 1))
    (mul,) = [d for d in decisions if d.op.startswith("Mul")]
    assert mul.where == "KPU after a rewrite"
    assert "squares" in mul.how


def test_both_operands_are_brought_to_the_same_size():
    def make(b):
        wide = b.binary("Mul", b.relu(b.conv(b.x, 4, 3)), b.const(100.0))
        return b.conv(b.binary("Mul", wide, b.unary("Sigmoid", b.conv(b.x, 4, 1))), 4, 1)

    graph = graph_of((1, 3, 12, 12), make)
    canonicalize.run(graph)
    lowered, _ = lower(graph)
    x = np.random.default_rng(0).normal(size=(1, 3, 12, 12)).astype(np.float32)
    want = run_float(lowered, x)[0]
    balance(lowered, [x])
    for n in products(lowered):
        c, second = n.attrs["product"]
        w = np.abs(np.asarray(n.inputs[1].data)[:, :, 0, 0])
        assert w[:, :c].max() < 0.3  # the wide map shrinks, the gates grow
        np.testing.assert_allclose(w[:c, :c].diagonal() * w[:c, second : second + c].diagonal(), 1, rtol=1e-5)
    np.testing.assert_allclose(run_float(lowered, x)[0], want, rtol=1e-3, atol=1e-2)


def many(b):
    t = b.relu(b.conv(b.x, 150, 3))
    return b.conv(gated(b, t, 150), 8, 1)


MODELS_ON_CHIP = MODELS | {"many channels": many}


@pytest.mark.parametrize(
    "name", ["many channels", "squeeze and excite", "a gate for each pixel", "two maps", "a residual sum behind"]
)
def test_on_the_chip(name):
    graph = graph_of((1, 3, 12, 12), MODELS_ON_CHIP[name])
    x = list(np.random.default_rng(0).integers(0, 256, (6, 3, 12, 12), np.uint8))
    c = compile(to_onnx(graph).SerializeToString(), calibration=x, mean=MEAN, std=STD, range_method="minmax")
    model = openkpu.load(c.model.to_bytes())
    reference, got = [], []
    for i, picture in enumerate(x):
        (y,) = model.run(picture, check=True)
        predicted = c.quantized.outputs[0][i]
        np.testing.assert_allclose(y.ravel(), predicted.ravel(), atol=1e-4 * float(np.abs(y).max()))
        got.append(y.ravel())
        reference.append(run_float(graph, ((picture - MEAN) / STD).astype(np.float32)[None])[0].ravel())
    assert not model.findings
    noise = ((np.array(got) - np.array(reference)) ** 2).sum()
    assert 10 * np.log10((np.array(reference) ** 2).sum() / noise) > 27


@pytest.mark.parametrize("shape", [(4,), (1, 4, 1, 12)])
def test_vectors_and_other_shapes_are_refused(shape):
    b = Builder(1, 3, 12, 12)
    if shape == (4,):
        t = b.gap(b.conv(b.x, 4, 3))
        y = b.binary("Mul", t, b.conv(t, 4, 1))
    else:
        t = b.conv(b.x, 4, 3)
        rows = b.op("MaxPool", [t], shape, kernel=(12, 1), strides=(1, 1), pads=(0, 0, 0, 0))
        y = b.binary("Mul", t, rows)
    graph = b.graph(y)
    canonicalize.run(graph)
    with pytest.raises(UnsupportedError, match="E275") as caught:
        lower(graph, target=V3)
    assert "--target v4" in caught.value.fix
    lower(graph, target=V4)


@pytest.mark.parametrize("gate", [True, False])
def test_small_maps_get_a_frame(gate):
    b = Builder(1, 3, 12, 18)
    t = b.max_pool(b.conv(b.x, 8, 3), 6, 6)
    y = gated(b, t, 8) if gate else b.binary("Mul", t, b.relu(b.conv(t, 8, 3)))
    lowered_equals_source(b.graph(b.conv(b.relu(b.conv(y, 8, 3)), 4, 1)), target=V3)


@pytest.mark.parametrize("version", [V4, V5])
def test_v4_and_v5_choose_by_price(version):
    def ops(h, outputs):
        b = Builder(1, 3, h, h)
        y = b.binary("Mul", b.conv(b.x, 8, 3), b.relu(b.conv(b.x, 8, 3)))
        graph = b.graph(y if outputs else b.conv(y, 4, 1))
        canonicalize.run(graph)
        return [n.op for n in lower(graph, target=version)[0].nodes]

    assert "TensorBinary" not in ops(32, False)
    assert "TensorBinary" in ops(32, True)  # floats read it: the CPU's product is rounded once less


@pytest.mark.parametrize("name", MODELS)
def test_v5_means_the_same(name):
    lowered_equals_source(graph_of((1, 3, 24, 24), MODELS[name]), target=V5)
