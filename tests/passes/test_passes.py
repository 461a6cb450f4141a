"""Each pass on a minimal graph: what it makes, that it computes the same, and where it must leave the graph alone."""

import numpy as np
import pytest
from graph_builders import Builder, picture, run_float

from openkpu.graph.ir import Graph, text
from openkpu.lower.export import register_exporters
from openkpu.passes.canonicalize import PASSES, run
from openkpu.passes.expand_prelu import expand_prelu
from openkpu.passes.fold_batch_norm import fold_batch_norm
from openkpu.passes.fold_channel_affine import fold_channel_affine
from openkpu.passes.fold_pad import fold_pad
from openkpu.passes.fold_transpose import fold_transpose
from openkpu.passes.fuse_elementwise import fuse_elementwise
from openkpu.passes.softmax_of_pairs import softmax_of_pairs

register_exporters()


def build(shape, make) -> Graph:
    b = Builder(*shape)
    y = make(b)
    return b.graph(*(y if isinstance(y, tuple) else (y,)))


def apply(step, shape, make) -> list[str]:
    """Run a pass, check that nothing changed in value, and return the operators that are left."""
    graph = build(shape, make)
    x = picture(shape)
    want = run_float(graph, x)
    step(graph)
    graph.validate()
    planar = graph.inputs[0].shape
    got = run_float(graph, x if planar == shape else x.transpose(0, 3, 1, 2))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4)
    return [n.op for n in graph.nodes]


def per_channel(b, c, rank=4):
    return b.const(b.rng.uniform(0.5, 2, (1, c, 1, 1) if rank == 4 else (c,)))


SHAPE = (1, 3, 6, 6)
CASES = {
    # batch norm
    "batch norm after conv": (fold_batch_norm, SHAPE, lambda b: b.batch_norm(b.conv(b.x, 4)), ["Conv"]),
    "batch norm after conv without bias": (
        fold_batch_norm,
        SHAPE,
        lambda b: b.batch_norm(b.conv(b.x, 4, bias=False)),
        ["Conv"],
    ),
    "batch norm after gemm": (fold_batch_norm, (1, 5), lambda b: b.batch_norm(b.gemm(b.x, 4)), ["Gemm"]),
    "two batch norms": (fold_batch_norm, SHAPE, lambda b: b.batch_norm(b.batch_norm(b.conv(b.x, 4))), ["Conv"]),
    "batch norm alone": (fold_batch_norm, SHAPE, lambda b: b.relu(b.batch_norm(b.x)), ["Conv", "Relu"]),
    "batch norm of a vector": (fold_batch_norm, (1, 5), lambda b: b.batch_norm(b.relu(b.x)), ["Relu", "Gemm"]),
    "batch norm of a shared conv": (
        fold_batch_norm,
        SHAPE,
        lambda b: (b.batch_norm(t := b.conv(b.x, 4)), b.relu(t)),
        ["Conv", "Conv", "Relu"],
    ),
    "batch norm of an output": (
        fold_batch_norm,
        SHAPE,
        lambda b: (b.batch_norm(t := b.conv(b.x, 4)), t),
        ["Conv", "Conv"],
    ),
    # affine maps of channels
    "affine chain": (
        fold_channel_affine,
        SHAPE,
        lambda b: b.binary(
            "Sub", b.binary("Div", b.binary("Mul", b.conv(b.x, 4), per_channel(b, 4)), b.const(2.0)), per_channel(b, 4)
        ),
        ["Conv"],
    ),
    "constant minus conv": (
        fold_channel_affine,
        SHAPE,
        lambda b: b.binary("Sub", per_channel(b, 4), b.conv(b.x, 4)),
        ["Conv"],
    ),
    "constant over conv": (
        fold_channel_affine,
        SHAPE,
        lambda b: b.binary("Div", b.const(1.0), b.conv(b.x, 4)),
        ["Conv", "Div"],
    ),
    "affine of a vector": (
        fold_channel_affine,
        (1, 5),
        lambda b: b.binary("Mul", b.gemm(b.x, 4), per_channel(b, 4, 1)),
        ["Gemm"],
    ),
    "channel factors alone": (
        fold_channel_affine,
        SHAPE,
        lambda b: b.binary("Mul", b.relu(b.x), per_channel(b, 3)),
        ["Relu", "Conv"],
    ),
    "a number alone": (fold_channel_affine, SHAPE, lambda b: b.binary("Mul", b.x, b.const(2.0)), ["Mul"]),
    "a factor for each column": (
        fold_channel_affine,
        (1, 6, 6, 6),
        lambda b: b.binary("Mul", b.conv(b.x, 6), b.const(b.rng.normal(size=6))),
        ["Conv", "Mul"],
    ),
    "a whole constant map": (
        fold_channel_affine,
        SHAPE,
        lambda b: b.binary("Add", b.conv(b.x, 4), b.const(b.rng.normal(size=(1, 4, 6, 6)))),
        ["Conv", "Add"],
    ),
    "affine of an output": (
        fold_channel_affine,
        SHAPE,
        lambda b: (b.binary("Mul", t := b.conv(b.x, 4), b.const(2.0)), t),
        ["Conv", "Mul"],
    ),
    # pads
    "pad and conv": (
        fold_pad,
        SHAPE,
        lambda b: b.conv(b.pad(b.x, 0, 0, 1, 1), 4, 3, stride=(2, 2), pads=(0, 0, 0, 0)),
        ["Conv"],
    ),
    "pad and two readers": (
        fold_pad,
        SHAPE,
        lambda b: (b.conv(t := b.pad(b.x, 1, 1, 1, 1), 4, 3), b.average_pool(t, 3, 1)),
        ["Conv", "AveragePool"],
    ),
    "pad of a relu and maximum": (
        fold_pad,
        SHAPE,
        lambda b: b.max_pool(b.pad(b.relu(b.x), 1, 1, 1, 1), 3, 2),
        ["Relu", "MaxPool"],
    ),
    "pad of other values and maximum": (
        fold_pad,
        SHAPE,
        lambda b: b.max_pool(b.pad(b.x, 1, 1, 1, 1), 3, 2),
        ["Pad", "MaxPool"],
    ),
    "pad as wide as the window": (
        fold_pad,
        SHAPE,
        lambda b: b.max_pool(b.pad(b.relu(b.x), 2, 2, 2, 2), 2, 2),
        ["Relu", "Pad", "MaxPool"],
    ),
    "wide pad and average": (
        fold_pad,
        SHAPE,
        lambda b: b.average_pool(b.pad(b.x, 2, 2, 2, 2), 2, 2),
        ["Pad", "AveragePool"],
    ),
    "pad and an average that does not count": (
        fold_pad,
        SHAPE,
        lambda b: b.average_pool(b.pad(b.x, 1, 1, 1, 1), 3, 1, (1, 1, 1, 1), 0),
        ["Pad", "AveragePool"],
    ),
    "pad with another value": (
        fold_pad,
        SHAPE,
        lambda b: b.conv(b.pad(b.x, 1, 1, 1, 1, value=0.5), 4),
        ["Pad", "Conv"],
    ),
    "pad that is an output": (fold_pad, SHAPE, lambda b: (b.conv(t := b.pad(b.x, 1, 1, 1, 1), 4), t), ["Pad", "Conv"]),
    "pad and an addition": (
        fold_pad,
        SHAPE,
        lambda b: b.add(t := b.pad(b.x, 1, 1, 1, 1), b.conv(t, 3)),
        ["Pad", "Conv", "Add"],
    ),
    # transposes
    "NHWC input": (fold_transpose, (1, 6, 5, 3), lambda b: b.conv(b.transpose(b.x, 0, 3, 1, 2), 4), ["Conv"]),
    "NHWC input of one channel": (
        fold_transpose,
        (1, 6, 5, 1),
        lambda b: b.conv(b.reshape(b.x, 1, 1, 6, 5), 4),
        ["Conv"],
    ),
    "pixel as a picture": (
        fold_transpose,
        (1, 1, 1, 1),
        lambda b: b.conv(b.reshape(b.x, 1, 1, 1, 1), 4, 1),
        ["Reshape", "Conv"],
    ),
    "NHWC input with another reader": (
        fold_transpose,
        (1, 6, 5, 3),
        lambda b: (b.conv(b.transpose(b.x, 0, 3, 1, 2), 4), b.relu(b.x)),
        ["Transpose", "Conv", "Relu"],
    ),
    "flattened as NHWC": (
        fold_transpose,
        (1, 3, 4, 5),
        lambda b: b.gemm(b.flatten(b.transpose(b.x, 0, 2, 3, 1)), 7),
        ["Reshape", "Gemm"],
    ),
    "flattened as NHWC, shared": (
        fold_transpose,
        (1, 3, 4, 5),
        lambda b: (b.gemm(t := b.flatten(b.transpose(b.x, 0, 2, 3, 1)), 7), t),
        ["Transpose", "Reshape", "Gemm"],
    ),
    # prelu
    "prelu after conv": (
        expand_prelu,
        SHAPE,
        lambda b: b.op("PRelu", [b.conv(b.x, 4), b.const(b.rng.uniform(0, 1, (4, 1, 1)))], (1, 4, 6, 6)),
        ["Conv", "Relu", "Conv"],
    ),
    "prelu alone": (
        expand_prelu,
        SHAPE,
        lambda b: b.op("PRelu", [b.x, b.const(b.rng.uniform(0, 1, (3, 1, 1)))], SHAPE),
        ["Conv", "Relu", "Conv"],
    ),
    "prelu of a vector": (
        expand_prelu,
        (1, 5),
        lambda b: b.op("PRelu", [b.gemm(b.x, 4), b.const(b.rng.uniform(0, 1, 4))], (1, 4)),
        ["Gemm", "Relu", "Gemm"],
    ),
    "prelu with one slope": (
        expand_prelu,
        SHAPE,
        lambda b: b.op("PRelu", [b.x, b.const(np.full((3, 1, 1), 0.2))], SHAPE),
        ["LeakyRelu"],
    ),
    "prelu by column": (
        expand_prelu,
        (1, 6, 6, 6),
        lambda b: b.op("PRelu", [b.x, b.const(b.rng.uniform(0, 1, 6))], (1, 6, 6, 6)),
        ["PRelu"],
    ),
    "prelu of a depthwise conv": (
        expand_prelu,
        SHAPE,
        lambda b: b.op("PRelu", [b.depthwise(b.x), b.const(b.rng.uniform(0, 1, (3, 1, 1)))], SHAPE),
        ["Conv", "Conv", "Relu", "Conv"],
    ),
    # softmax
    "softmax of pairs": (
        softmax_of_pairs,
        SHAPE,
        lambda b: b.softmax(b.reshape(b.transpose(b.conv(b.x, 4), 0, 2, 3, 1), 1, 72, 2), 2),
        ["Conv", "Sigmoid", "Transpose", "Reshape"],
    ),
    "softmax of two channels": (softmax_of_pairs, SHAPE, lambda b: b.softmax(b.conv(b.x, 2), 1), ["Conv", "Sigmoid"]),
    "softmax of pairs, shared": (
        softmax_of_pairs,
        SHAPE,
        lambda b: (b.softmax(t := b.conv(b.x, 2), 1), t),
        ["Conv", "Softmax"],
    ),
    "softmax of threes": (softmax_of_pairs, SHAPE, lambda b: b.softmax(b.conv(b.x, 3), 1), ["Conv", "Softmax"]),
    # functions
    "swish": (fuse_elementwise, SHAPE, lambda b: b.binary("Mul", b.x, b.unary("Sigmoid", b.x)), ["Elementwise"]),
    "mish of a conv": (
        fuse_elementwise,
        SHAPE,
        lambda b: b.binary("Mul", t := b.conv(b.x, 4), b.unary("Tanh", b.unary("Softplus", t))),
        ["Conv", "Elementwise"],
    ),
    "hardswish as a chain": (
        fuse_elementwise,
        SHAPE,
        lambda b: b.binary(
            "Div",
            b.binary("Mul", b.x, b.unary("Clip", b.binary("Add", b.x, b.const(3.0)), min=0.0, max=6.0)),
            b.const(6.0),
        ),
        ["Elementwise"],
    ),
    "chain with an output inside": (
        fuse_elementwise,
        SHAPE,
        lambda b: (b.unary("Tanh", t := b.relu(b.x)), t),
        ["Elementwise", "Elementwise"],
    ),
    "chain with another reader inside": (
        fuse_elementwise,
        SHAPE,
        lambda b: b.add(b.conv(t := b.relu(b.x), 3), b.unary("Tanh", t)),
        ["Elementwise", "Conv", "Elementwise", "Add"],
    ),
    "two tensors": (
        fuse_elementwise,
        SHAPE,
        lambda b: b.add(b.relu(b.x), b.relu(b.conv(b.x, 3))),
        ["Conv", "Elementwise", "Elementwise", "Add"],
    ),
    "a constant for each channel": (
        fuse_elementwise,
        SHAPE,
        lambda b: b.binary("Mul", b.x, per_channel(b, 3)),
        ["Mul"],
    ),
    "constant on the left": (
        fuse_elementwise,
        SHAPE,
        lambda b: b.binary("Sub", b.const(1.0), b.unary("Sigmoid", b.x)),
        ["Elementwise"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_pass(name):
    step, shape, make, left = CASES[name]
    assert sorted(apply(step, shape, make)) == sorted(left)


def test_batch_norm_of_other_ranks_stays():
    b = Builder(1, 4, 9)
    graph = b.graph(b.batch_norm(b.x))
    fold_batch_norm(graph)
    assert [n.op for n in graph.nodes] == ["BatchNormalization"]


def test_sources_are_kept_and_dumped(tmp_path):
    b = Builder(*SHAPE)
    graph = b.graph(b.relu6(b.batch_norm(b.conv(b.x, 4))))
    run(graph, tmp_path)
    assert text(graph) == (
        "graph test\n"
        "  input x: 1x3x6x6\n"
        "  t8: 1x4x6x6 = Conv(x, const[4, 3, 3, 3], const[4]) dilations=(1,1) group=1 pads=(1,1,1,1) strides=(1,1)"
        "  # Conv_3+BatchNormalization_8\n"
        "  t9: 1x4x6x6 = Elementwise(t8) fn=Min(Max(x, 0), 6)  # Clip_9\n"
        "  output t9\n"
    )
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == ["00_import.txt", *(f"{i:02d}_{p.__name__}.txt" for i, p in enumerate(PASSES, 1))]
    assert (tmp_path / files[-1]).read_text() == text(graph)
