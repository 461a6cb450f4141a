"""Operators that V3 lacks: in V4 and V5 they run on the CPU, with the float meaning of the source."""

import numpy as np
import pytest
from graph_builders import Builder, lowered_equals_source

from openkpu.errors import UnsupportedError
from openkpu.lower.lower import lower
from openkpu.lower.target import V3, V4, V5, elsewhere, target
from openkpu.lower.tensor import simplify_transpose
from openkpu.passes import canonicalize


def squeeze_excite(b):
    t = b.relu(b.conv(b.x, 8, 3))
    gate = b.unary("HardSigmoid", b.conv(b.relu(b.conv(b.gap(t), 4, 1)), 8, 1), alpha=0.2, beta=0.5)
    return b.conv(b.binary("Mul", t, gate), 4, 1)


def slices(b):
    t = b.conv(b.x, 8, 3)
    attrs = {"starts": (4,), "ends": (8,), "axes": (1,), "steps": (1,)}
    half = b.op("Slice", [t], (1, 4, 8, 8), **attrs)
    return b.conv(half, 4, 3)


def backwards(b):
    t = b.conv(b.x, 4, 3)
    return b.op("Slice", [t], (1, 4, 8, 4), starts=(7, 6), ends=(-9, -9), axes=(2, 3), steps=(-1, -2))


def focus(b):
    parts = []
    for y in (0, 1):
        for x in (0, 1):
            attrs = {"starts": (y, x), "ends": (8, 8), "axes": (2, 3), "steps": (2, 2)}
            parts.append(b.op("Slice", [b.x], (1, 3, 4, 4), **attrs))
    return b.conv(b.concat(*parts), 8, 3)


def transposed(b, group=1):
    t = b.relu(b.conv(b.x, 4, 3))
    w = b.const(b.rng.normal(size=(4, 6 // group, 3, 3)) * 0.3)
    bias = b.const(b.rng.normal(size=6))
    return b.op(
        "ConvTranspose", [t, w, bias], (1, 6, 16, 16), strides=(2, 2), pads=(1, 1, 0, 0), dilations=(1, 1),
        group=group, output_padding=(0, 0),
    )  # fmt: skip


def attention(b):
    t = b.reshape(b.conv(b.x, 4, 3), 1, 4, 64)
    scores = b.op("MatMul", [t, b.transpose(t, 0, 2, 1)], (1, 4, 4))
    return b.op("MatMul", [b.softmax(scores, 2), t], (1, 4, 64))


def shuffle(b):
    t = b.relu(b.conv(b.x, 8, 3))
    t = b.reshape(t, 1, 2, 4, 8, 8)
    return b.conv(b.reshape(b.transpose(t, 0, 2, 1, 3, 4), 1, 8, 8, 8), 4, 3)


def reduced(b, op, axes, keep=True):
    t = b.conv(b.x, 4, 3)
    shape = tuple(1 if i in axes else d for i, d in enumerate(t.shape) if keep or i not in axes)
    return b.op(op, [t], shape, axes=axes, keepdims=int(keep))


MODELS = {
    "squeeze and excite": squeeze_excite,
    "multiplied maps": lambda b: b.conv(b.binary("Mul", b.conv(b.x, 4, 3), b.relu(b.conv(b.x, 4, 3))), 4, 3),
    "divided": lambda b: b.binary("Div", b.conv(b.x, 4, 3), b.unary("Exp", b.conv(b.x, 4, 1))),
    "minimum, maximum": lambda b: b.binary(
        "Max", b.conv(b.x, 4, 3), b.binary("Min", b.conv(b.x, 4, 1), b.conv(b.x, 4, 3))
    ),
    "added to a row": lambda b: b.add(b.conv(b.x, 4, 3), b.const(np.linspace(-1, 1, 8))),
    "limits behind": lambda b: b.relu6(b.binary("Mul", b.conv(b.x, 4, 3), b.conv(b.x, 4, 1))),
    "subtracted from a constant": lambda b: b.binary("Sub", b.const(np.ones((1, 4, 8, 8))), b.conv(b.x, 4, 3)),
    "channels of a map": slices,
    "a map backwards": backwards,
    "every second pixel of the input": focus,
    "matrix products": attention,
    "shuffled channels": shuffle,
    "NHWC in the middle": lambda b: b.transpose(b.transpose(b.conv(b.x, 4, 3), 0, 2, 3, 1), 0, 3, 2, 1),
    "softmax over channels": lambda b: b.softmax(b.conv(b.x, 5, 1), 1),
    "softmax over rows": lambda b: b.softmax(b.conv(b.x, 5, 1), 2),
    "mean over channels": lambda b: reduced(b, "ReduceMean", (1,)),
    "maximum over channels and rows": lambda b: reduced(b, "ReduceMax", (1, 2), keep=False),
    "minimum over columns": lambda b: reduced(b, "ReduceMin", (3,)),
    "sum of all": lambda b: reduced(b, "ReduceSum", (0, 1, 2, 3)),
    "concat along rows": lambda b: b.conv(b.concat(b.conv(b.x, 4, 3), b.conv(b.x, 4, 1), axis=2), 4, 3),
    "padded with a value": lambda b: b.conv(b.pad(b.conv(b.x, 4, 3), 1, 2, 0, 3, value=1.5), 4, 3),
    "padded channels": lambda b: b.conv(
        b.op("Pad", [b.conv(b.x, 3, 3)], (1, 6, 8, 8), pads=(0, 1, 0, 0, 0, 2, 0, 0), value=0.0), 4, 3
    ),
    "bilinear, asymmetric": lambda b: b.conv(
        b.op("Resize", [b.conv(b.x, 4, 3)], (1, 4, 16, 16), mode="linear", coordinate="asymmetric", rounding="floor"),
        4,
    ),
    "bilinear, corners": lambda b: b.op(
        "Resize", [b.conv(b.x, 4, 3)], (1, 4, 13, 17), mode="linear", coordinate="align_corners", rounding="floor"
    ),
    "rows of a matrix": lambda b: b.op(
        "MatMul", [b.reshape(b.conv(b.x, 4, 3), 1, 32, 8), b.const(b.rng.normal(size=(8, 5)))], (1, 32, 5)
    ),
    "a long function of floats": lambda b: b.unary(
        "Tanh", b.unary("Softplus", b.binary("Mul", b.conv(b.x, 4, 3), b.conv(b.x, 4, 1)))
    ),
    "a wide depthwise kernel": lambda b: b.depthwise(b.conv(b.x, 256, 1), 7),
    "most of floats": lambda b: b.max_pool(b.binary("Mul", b.conv(b.x, 4, 3), b.conv(b.x, 4, 1)), 3, 1, (1, 1, 1, 1)),
}
ONLY = {
    "transposed convolution": (V4, transposed),
    "transposed convolution in groups": (V4, lambda b: transposed(b, 2)),
    "bilinear, half pixel": (
        V5,
        lambda b: b.op(
            "Resize", [b.conv(b.x, 4, 3)], (1, 4, 16, 16), mode="linear", coordinate="half_pixel", rounding="floor"
        ),
    ),
}
CASES = [(v, n, m) for n, m in MODELS.items() for v in (V4, V5)] + [(v, n, m) for n, (v, m) in ONLY.items()]


def graph(make):
    b = Builder(1, 3, 8, 8)
    return b.graph(make(b))


@pytest.mark.parametrize(("version", "name", "make"), CASES, ids=[f"{n}-{v.name}" for v, n, _ in CASES])
def test_the_lowered_graph_means_the_same(version, name, make):
    lowered_equals_source(graph(make), target=version)


@pytest.mark.parametrize("name", [n for n in MODELS if n not in ("most of floats",)])
def test_v3_refuses_and_names_the_versions_that_have_it(name):
    g = graph(MODELS[name])
    canonicalize.run(g)
    with pytest.raises(UnsupportedError) as caught:
        lower(g)
    text = str(caught.value)
    assert "kmodel V4 and V5 have it: --target v4" in text
    assert caught.value.where


def test_transposed_convolution_names_v4_only():
    g = graph(transposed)
    canonicalize.run(g)
    for version in (V3, V5):
        with pytest.raises(UnsupportedError, match="kmodel V4 has it: --target v4"):
            lower(g, target=version)


def test_half_pixel_is_refused_where_the_runtime_resizes_otherwise():
    g = graph(ONLY["bilinear, half pixel"][1])
    canonicalize.run(g)
    with pytest.raises(UnsupportedError, match="E221") as caught:
        lower(g, target=V4)
    assert "Resize_" in caught.value.where


def test_what_no_version_has_is_refused_by_name():
    b = Builder(1, 3, 8, 8)
    g = b.graph(b.op("GridSample", [b.conv(b.x, 4)], (1, 4, 8, 8)))
    canonicalize.run(g)
    with pytest.raises(UnsupportedError, match="E200") as caught:
        lower(g, target=V5)
    assert "GridSample_" in caught.value.where
    assert "--target" not in str(caught.value)


def test_a_movement_between_kpu_layers_moves_bytes():
    g = graph(shuffle)
    canonicalize.run(g)
    lowered, _ = lower(g, target=V4)
    (move,) = [n for n in lowered.nodes if n.op == "TensorTranspose"]
    assert move.attrs["u8"]


def test_a_movement_before_floats_moves_floats():
    g = graph(attention)
    canonicalize.run(g)
    lowered, _ = lower(g, target=V4)
    (move,) = [n for n in lowered.nodes if n.op == "TensorTranspose"]
    assert not move.attrs["u8"]


def test_the_decision_says_why_it_is_on_the_cpu():
    g = graph(squeeze_excite)
    canonicalize.run(g)
    _, decisions = lower(g, target=V4)
    (mul,) = [d for d in decisions if d.op == "Mul"]
    assert mul.where == "CPU"
    assert mul.why
    assert mul.microseconds > 0


@pytest.mark.parametrize(
    ("shape", "perm", "view", "order"),
    [
        ((1, 2, 4, 8, 8), (0, 2, 1, 3, 4), (2, 4, 64), (1, 0, 2)),
        ((1, 4, 8, 8), (0, 2, 3, 1), (4, 64), (1, 0)),
        ((2, 3, 4), (0, 1, 2), (24,), (0,)),
        ((1, 5, 1, 7), (3, 0, 2, 1), (5, 7), (1, 0)),
    ],
)
def test_transposes_are_written_with_few_dimensions(shape, perm, view, order):
    assert simplify_transpose(shape, perm) == (view, order)
    x = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(x.transpose(perm).ravel(), x.reshape(view).transpose(order).ravel())


def test_targets_by_name():
    assert target("v5") is V5
    with pytest.raises(UnsupportedError, match="E201"):
        target("v6")
    assert elsewhere("Mul", V3) == "kmodel V4 and V5 have it: --target v4"
    assert elsewhere("Mul", V5) == "kmodel V4 has it: --target v4"
    assert elsewhere("GridSample", V3) == ""
