"""Transposed convolutions on the KPU, and shuffles of pixels as moves of bytes."""

import numpy as np
import pytest
from graph_builders import Builder, lowered_equals_source, picture, run_float
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import openkpu
from openkpu.codegen.build import assemble
from openkpu.compiler import compile
from openkpu.errors import UnsupportedError
from openkpu.float.export import to_onnx
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.lower.export import register_exporters
from openkpu.lower.target import V3, V4, V5
from openkpu.lower.tensor import simplify_transpose, transposes
from openkpu.passes.shuffles import write_out_shuffles


def transposed(b, x, oc, kernel, stride, pads=(0, 0, 0, 0), extra=(0, 0), dilation=(1, 1), group=1):
    c, sizes = x.shape[1], x.shape[2:]
    out = [
        (sizes[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 + extra[i] - pads[i] - pads[i + 2]
        for i in (0, 1)
    ]
    if min(out) < 2:
        return None
    w = b.const(b.rng.normal(size=(c, oc // group, *kernel)) / np.sqrt(c * kernel[0] * kernel[1] / group))
    return b.op(
        "ConvTranspose", [x, w, b.const(b.rng.normal(size=oc) * 0.3)], (1, oc, *out), strides=stride, pads=pads,
        dilations=dilation, group=group, output_padding=extra,
    )  # fmt: skip


PAIR = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(
    kernel=PAIR, stride=st.tuples(st.integers(1, 3), st.integers(1, 3)), pads=st.tuples(*[st.integers(0, 3)] * 4),
    extra=st.tuples(st.integers(0, 2), st.integers(0, 2)), dilation=st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 3)]),
    group=st.sampled_from([1, 1, 2, 4]), version=st.sampled_from([V4, V5]), behind=st.sampled_from(["", "bn", "relu"]),
)  # fmt: skip
@settings(max_examples=60)
def test_every_form_computes_the_same(kernel, stride, pads, extra, dilation, group, version, behind):
    b = Builder(1, 3, 6, 7)
    extra = tuple(min(e, s - 1) for e, s in zip(extra, stride, strict=True))
    y = transposed(b, b.conv(b.x, 4, 3), 4, kernel, stride, pads, extra, dilation, group)
    assume(y is not None)
    y = {"": lambda: y, "bn": lambda: b.relu6(b.batch_norm(y)), "relu": lambda: b.relu(y)}[behind]()
    try:
        lowered_equals_source(b.graph(b.conv(y, 3, 1)), target=version)
    except UnsupportedError as error:
        assume(error.code not in ("E212", "E221"))  # a kernel so wide that it needs the float convolution
        raise


def test_two_by_two_is_one_pointwise_layer_and_one_transpose():
    b = Builder(1, 3, 8, 8)
    y = b.relu(b.batch_norm(transposed(b, b.relu(b.conv(b.x, 8, 3)), 6, (2, 2), (2, 2))))
    lowered = lowered_equals_source(b.graph(b.conv(y, 4, 3)), target=V5)
    assert [n.op for n in lowered.nodes if n.op != "Reshape"] == ["KpuConv", "KpuConv", "TensorTranspose", "KpuConv"]
    shuffle = next(n for n in lowered.nodes if n.op == "TensorTranspose")
    assert shuffle.attrs["u8"]
    assert lowered.nodes[1].inputs[1].shape == (24, 8, 1, 1)


def test_v3_puts_the_phases_between_the_pixels_by_copies():
    b = Builder(1, 3, 8, 8)
    y = transposed(b, b.relu(b.conv(b.x, 4, 3)), 4, (2, 2), (2, 2))
    lowered = lowered_equals_source(b.graph(b.conv(y, 4, 3)), target=V3)
    assert [n.op for n in lowered.nodes if n.op != "Reshape"] == ["KpuConv", "KpuConv", "CpuInterleave", "KpuConv"]


def db_head():
    """The end of a text detector: two transposed convolutions, a sigmoid, and upsampled maps before them."""
    b = Builder(1, 3, 40, 56)
    low = b.relu(b.conv(b.x, 16, 3, stride=(2, 2)))
    high = b.relu(b.conv(low, 16, 3, stride=(2, 2)))
    t = b.concat(b.resize(b.conv(high, 8, 3)), b.conv(low, 8, 1))
    t = b.relu(b.batch_norm(transposed(b, b.relu(b.conv(t, 8, 3)), 8, (2, 2), (2, 2))))
    return b.graph(b.unary("Sigmoid", transposed(b, t, 1, (2, 2), (2, 2))))


def test_a_text_detector_in_both_versions():
    graph = db_head()
    x = np.random.default_rng(0).integers(0, 256, (3, 3, 40, 56), np.uint8)
    c = compile(to_onnx(graph).SerializeToString(), calibration=list(x), target="v4", range_method="minmax")
    assert c.report.calibration_snr_db > 30
    assert not [d for d in c.report.decisions if d.where == "CPU" and "Conv" in d.op]
    want = c.model.run(x[0], check=True)
    assert not c.model.findings
    v5 = openkpu.load(openkpu.Model(assemble(c.lowered, c.quantized, 5).program).to_bytes())
    got = v5.run(x[0], check=True)
    np.testing.assert_allclose(got[0].ravel(), want[0].ravel(), atol=1e-6)
    assert not v5.findings


def shuffled(op, **attrs):
    s = attrs["blocksize"]
    shape = (1, 12, 6, 8)
    out = (1, 12 // s**2, 6 * s, 8 * s) if op == "DepthToSpace" else (1, 12 * s**2, 6 // s, 8 // s)
    x, y = Tensor("x", shape), Tensor("y", out)
    return Graph([x], [y], [Node(op, [x], [y], attrs, (op,))])


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_is_moved_as_onnx_defines_it(mode):
    g = shuffled("DepthToSpace", blocksize=2, mode=mode)
    write_out_shuffles(g)
    register_exporters()
    x = picture((1, 12, 6, 8))
    if mode == "DCR":
        want = x.reshape(1, 2, 2, 3, 6, 8).transpose(0, 3, 4, 1, 5, 2)
    else:
        want = x.reshape(1, 3, 2, 2, 6, 8).transpose(0, 1, 4, 2, 5, 3)
    np.testing.assert_array_equal(run_float(g, x)[0], want.reshape(1, 3, 12, 16))


def test_space_to_depth_undoes_it():
    g = shuffled("SpaceToDepth", blocksize=2)
    write_out_shuffles(g)
    x = picture((1, 12, 6, 8))
    back = run_float(g, x)[0].reshape(1, 2, 2, 12, 3, 4).transpose(0, 3, 4, 1, 5, 2).reshape(x.shape)
    np.testing.assert_array_equal(back, x)


@given(st.permutations(range(5)))
def test_any_order_of_five_dimensions_is_at_most_two_moves(order):
    shape = (2, 3, 4, 5, 6)
    steps = transposes(shape, tuple(order))
    assert steps is not None
    x = np.arange(np.prod(shape)).reshape(shape)
    y = x
    for step in steps:
        assert len(simplify_transpose(y.shape, step)[0]) <= 4
        y = y.transpose(step)
    np.testing.assert_array_equal(y, x.transpose(order))
