"""Write zeros that are added beside the channels as a 1x1 convolution.

before: ``y = Pad(x, 4 channels behind)`` with 24 channels
after:  ``y = Conv1x1(x, [I; 0])`` with 24 inputs and 28 outputs

Exact. BlazeFace widens its maps so before a residual sum; the convolution then joins the sum.
"""

from __future__ import annotations

import numpy as np

from openkpu.graph.ir import Graph, Node


def channel_pad(graph: Graph) -> None:
    """Rewrite every Pad of channels only, of a picture, with zeros."""
    for node in [n for n in graph.nodes if n.op == "Pad"]:
        x, pads = node.inputs[0], node.attrs["pads"]
        elsewhere = any(p for i, p in enumerate(pads) if i not in (1, 5))
        if len(pads) != 8 or elsewhere or node.attrs["value"] != 0 or min(pads) < 0:
            continue
        before, channels = pads[1], x.shape[1]
        weights = np.zeros((before + channels + pads[5], channels, 1, 1), np.float32)
        weights[range(before, before + channels), range(channels)] = 1
        attrs = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}
        w = graph.constant(f"{node.output.name}.channels", weights)
        graph.nodes[graph.nodes.index(node)] = Node("Conv", [x, w], [node.output], attrs, node.source)
