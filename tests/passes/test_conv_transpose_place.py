"""A transposed convolution on V4: the KPU and a shuffle, or the runtime's operator, whichever is estimated faster."""

import numpy as np
from graph_builders import Builder

from openkpu.passes import canonicalize


def transposed(channels, out, group):
    b = Builder(1, 3, 8, 8)
    t = b.relu(b.conv(b.x, channels, 3))
    w = b.const(b.rng.normal(size=(channels, out // group, 2, 2)))
    attrs = {"strides": (2, 2), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": group, "output_padding": (0, 0)}
    return b.graph(b.op("ConvTranspose", [t, w, b.const(np.zeros(out))], (1, out, 16, 16), **attrs))


def has_operator(graph, version):
    canonicalize.run(graph, version=version)
    return any(n.op == "ConvTranspose" for n in graph.nodes)


def test_a_tap_for_each_channel_is_faster_on_the_cpu_of_v4_only():
    assert has_operator(transposed(16, 16, 16), 4)
    assert not has_operator(transposed(16, 16, 16), 5)
    assert not has_operator(transposed(16, 16, 16), 3)


def test_a_dense_kernel_runs_on_the_kpu():
    assert not has_operator(transposed(16, 16, 1), 4)
