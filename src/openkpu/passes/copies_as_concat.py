"""Copies along an axis as one thing after the other.

before: ``y = Tile(x)`` by (1, 2, 1, 3), or ``Expand`` of axes of size 1
after:  ``y = Concat(t, t, t)`` along the last axis, with ``t = Concat(x, x)`` along the channels

Exact. Copies that repeat single rows or columns are taken before (``planar_layout``); many copies of little are left.
"""

from __future__ import annotations

from typing import Final

from openkpu.graph.ir import Graph, Node, Tensor

MOST_COPIES: Final = 64


def copies_as_concat(graph: Graph) -> None:
    """Rewrite every Tile and Expand by whole numbers of copies."""
    for node in [n for n in graph.nodes if n.op in ("Tile", "Expand")]:
        repeats = _repeats(node)
        if repeats is not None and max(repeats) <= MOST_COPIES:
            at = graph.nodes.index(node)
            graph.nodes[at : at + 1] = _written_out(graph, node, repeats)


def _repeats(node: Node) -> list[int] | None:
    x, shape = node.inputs[0], node.output.shape
    if len(x.shape) != len(shape) or any(b % a for a, b in zip(x.shape, shape, strict=True)):
        return None
    return [b // a for a, b in zip(x.shape, shape, strict=True)]


def _written_out(graph: Graph, node: Node, repeats: list[int]) -> list[Node]:
    x, made = node.inputs[0], []
    axes = [a for a, count in enumerate(repeats) if count > 1]
    for a in axes:
        shape = tuple(d * repeats[i] if i == a else d for i, d in enumerate(x.shape))
        out = node.output if a == axes[-1] else Tensor(graph.fresh(f"{node.output.name}.copies{a}"), shape, x.dtype)
        made.append(Node("Concat", [x] * repeats[a], [out], {"axis": a}, node.source))
        x = out
    return made
