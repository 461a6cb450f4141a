"""Make transposes vanish that only change how a picture or a vector is numbered.

* ``Transpose(input, NHWC -> NCHW)`` at the model's input: the input becomes the NCHW picture itself, since the KPU
  takes planar pictures whatever the model says. With one channel exporters write it as a Reshape.
* ``Gemm(Flatten(Transpose(x, NCHW -> NHWC)), w)``: the columns of ``w`` are permuted instead.

Both are exact renumberings.
"""

from __future__ import annotations

import numpy as np

from openkpu.graph.ir import Graph, Node, Tensor


def fold_transpose(graph: Graph) -> None:
    """Rewrite the model's input and every Gemm behind a transpose."""
    _input(graph)
    _gemm(graph)
    graph.sort()


def _input(graph: Graph) -> None:
    for i, t in enumerate(graph.inputs):
        readers = graph.consumers(t)
        if len(t.shape) != 4 or not readers or graph.is_output(t):
            continue
        n, h, w, c = t.shape
        if all(_is_planar(r, t) for r in readers):
            planar = Tensor(t.name, (n, c, h, w), t.dtype)
            graph.inputs[i] = planar
            for r in readers:
                graph.replace_uses(r.output, planar)
                graph.nodes.remove(r)


def _is_planar(node: Node, t: Tensor) -> bool:
    """Whether a node makes the picture ``t`` (N, H, W, C) planar; one of one pixel is left alone."""
    n, h, w, c = t.shape
    if node.op == "Reshape":
        return c == 1 and (h, w) != (1, 1) and node.output.shape == (n, 1, h, w)
    return node.op == "Transpose" and tuple(node.attrs["perm"]) == (0, 3, 1, 2)


def _gemm(graph: Graph) -> None:
    for gemm in [n for n in graph.nodes if n.op == "Gemm"]:
        reshape = gemm.inputs[0].producer
        if reshape is None or reshape.op != "Reshape":
            continue
        transpose = reshape.inputs[0].producer
        if transpose is None or transpose.op != "Transpose" or tuple(transpose.attrs["perm"]) != (0, 2, 3, 1):
            continue
        between = (reshape.output, transpose.output)
        if any(graph.only_reader(t) is None for t in between) or not gemm.inputs[1].is_constant:
            continue
        _, c, h, w = transpose.inputs[0].shape
        weights = np.asarray(gemm.inputs[1].data)
        planar = weights.reshape(-1, h, w, c).transpose(0, 3, 1, 2).reshape(weights.shape)
        gemm.inputs[1] = graph.constant(f"{gemm.inputs[1].name}.planar", np.ascontiguousarray(planar))
        reshape.inputs[0] = transpose.inputs[0]
        reshape.source = transpose.source + reshape.source
        graph.nodes.remove(transpose)
