"""Fold BatchNormalization into the convolution or Gemm before it.

before: ``y = BatchNormalization(Conv(x, w, b), scale, bias, mean, var)``
after:  ``y = Conv(x, w * k, (b - mean) * k + bias)`` with ``k = scale / sqrt(var + epsilon)``

Exact, because the batch norm of inference is an affine map of each output channel. One that has no convolution of its
own before it becomes a depthwise 1x1 convolution.
"""

from __future__ import annotations

import numpy as np

from openkpu.graph.ir import Graph
from openkpu.passes.affine import apply_affine


def fold_batch_norm(graph: Graph) -> None:
    """Rewrite every BatchNormalization with constant parameters."""
    for node in [n for n in graph.nodes if n.op == "BatchNormalization"]:
        x, *params = node.inputs
        if any(p.data is None for p in params) or len(x.shape) not in (2, 4):
            continue
        scale, bias, mean, var = (np.asarray(p.data, np.float64) for p in params)
        k = scale / np.sqrt(var + node.attrs["epsilon"])
        apply_affine(graph, node, x, k, bias - mean * k)
    graph.sort()
