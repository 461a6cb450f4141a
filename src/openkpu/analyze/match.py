"""Which KPU layer of a kmodel is which layer of the lowered float graph?

The compiler keeps the order; it may run a layer twice (once more for main RAM) and may add layers that only copy. So
the graph's layers are a subsequence of the file's, and a layer is recognised by its shapes, kernel and pooling.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from openkpu.graph.ir import Graph, Node
from openkpu.kmodel.program import KpuConv, Step
from openkpu.lower.ops import MOVING_WEIGHTS, POOLS

Signature = tuple[tuple[int, ...], tuple[int, ...], int, bool, int]


def graphs_of(
    model: str | os.PathLike[str] | bytes,
    steps: Sequence[Step],
    *,
    target: str = "v3",
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] | None = None,
) -> tuple[Graph, Graph]:
    """Return the float graph of a model and the lowered one that fits the steps of its kmodel (of version ``target``).

    A model that came quantised may have been compiled with its own numbers or anew with pictures; the layers tell.
    """
    from openkpu.compiler import front_end

    source, lowered, _ = front_end(model, target=target, input_shapes=input_shapes, outputs=outputs)
    if source.scales and match(lowered, steps) is None:
        again, anew, _ = front_end(model, target=target, input_shapes=input_shapes, outputs=outputs, anew=True)
        if match(anew, steps) is not None:
            return again, anew
    return source, lowered


def match(graph: Graph, steps: Sequence[Step]) -> dict[int, Node] | None:
    """Return step index -> node of every KPU layer of ``graph``; None where the file is built in another way."""
    found: dict[int, Node] = {}
    position = 0
    for node in (n for n in graph.nodes if n.op == "KpuConv"):
        wanted = _of_node(node)
        while position < len(steps):
            step = steps[position]
            if isinstance(step, KpuConv) and _of_step(step) == wanted and not _only_moves(step):
                break
            position += 1
        if position == len(steps):
            return None
        found[position] = node
        position += 1
    return found


def _of_node(node: Node) -> Signature:
    w = node.inputs[1].shape
    if node.attrs["vector"]:
        return (w[1], 4, 4), (w[0], 4, 4), 1, False, 0
    return (
        node.inputs[0].shape[1:],
        node.output.shape[1:],
        w[2],
        bool(node.attrs["depthwise"]),
        POOLS[node.attrs["pool"]][0],
    )


def _of_step(step: KpuConv) -> Signature:
    r = step.layer.registers
    return step.layer.input_shape, step.layer.output_shape, step.layer.kernel, bool(r.depth_wise_layer), r.pool_type


def _only_moves(step: KpuConv) -> bool:
    """Whether a layer works on bytes as they are: no factor in batch norm, and the weights that move bytes."""
    bn = step.layer.batch_norm
    plain = (bn.mul == 1).all() and (bn.shift == 0).all()
    return bool(plain and np.isin(step.layer.weights, MOVING_WEIGHTS).all())
