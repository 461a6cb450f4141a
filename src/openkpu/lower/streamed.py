"""Lower a model whose weights are more than main RAM holds: with so few layers that it can be streamed from flash."""

from __future__ import annotations

from math import prod
from typing import Final

from openkpu.estimate.price import BATCH_NORM_BYTES, LAYER_BYTES
from openkpu.graph.ir import Graph, Node
from openkpu.k210 import MAIN_RAM_BYTES
from openkpu.lower.context import Decision
from openkpu.lower.lower import lower
from openkpu.lower.target import Target

LARGEST_BODY: Final = 512 << 10
"""Most bytes of weights in a layer that is streamed. A layer in two parts costs a few microseconds more."""
LEAST_SCRATCH: Final = 256 << 10
PRICES: Final = (0.0, 20.0, 50.0, 100.0, 200.0, 300.0, 400.0, 600.0, 1000.0)
"""What a layer less is worth, in microseconds: tried from the least on."""
_NO_CODE: Final = ("Reshape", "KpuConcat", "KpuSlice")
_STEPS: Final = {"CpuPad": 4, "CpuInterleave": 5, "KpuMove": 3}


def lower_to_fit(
    graph: Graph, target: Target, most_layers: int, ram: int = MAIN_RAM_BYTES
) -> tuple[Graph, list[Decision]]:
    """Lower for a target and so many bytes of main RAM.

    V3, if the file is larger: in layers of at most ``LARGEST_BODY`` and, where possible, at most ``most_layers``.
    """
    lowered, decisions = lower(graph, target=target)
    if target.version != 3 or _bytes(lowered) <= ram - LEAST_SCRATCH:
        return lowered, decisions
    for price in PRICES:
        lowered, decisions = lower(graph, target=target, layer_us=price, largest_body=LARGEST_BODY)
        if _layers(lowered) <= most_layers:
            break
    return lowered, decisions


def _bytes(lowered: Graph) -> int:
    """Return about how large the file will be."""
    return sum(_node_bytes(n) for n in lowered.nodes)


def _node_bytes(node: Node) -> int:
    size = sum(prod(t.shape) for t in node.inputs if t.is_constant)
    if node.op == "KpuConv":
        return size + LAYER_BYTES + BATCH_NORM_BYTES * node.output.shape[1]
    return 4 * size


def _layers(lowered: Graph) -> int:
    """Return about how many layers the file will have: a map that leaves AI RAM or comes back takes some more."""
    return sum(
        0
        if n.op in _NO_CODE
        else 3
        if n.op == "KpuConv" and n.attrs["vector"]
        else _STEPS.get(n.op, 1 if n.op == "KpuConv" else 2)
        for n in lowered.nodes
    )
