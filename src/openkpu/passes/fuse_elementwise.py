"""Fuse chains of element-wise operators on one tensor into one ``Elementwise`` node that holds the function.

before: ``s = Sigmoid(x); y = Mul(x, s)``
after:  ``y = Elementwise(x)`` with ``fn = x * sigmoid(x)``

Exact: only a composition of functions. Chains and joins fuse as long as everything comes from the same tensor and all
constants are plain numbers; so HardSwish, Mish, SiLU and GELU that an exporter wrote out come back together.
"""

from __future__ import annotations

import numpy as np

from openkpu.graph.elementwise import BINARY, Expr, X, const, from_op
from openkpu.graph.ir import Graph, Node, Tensor

MOST_NODES = 100
"""Longest function that is fused. A written-out GELU has about 20 nodes; a chain beyond this is no activation."""

Form = tuple[Tensor, Expr]
"""A tensor as a function of a root tensor."""


def fuse_elementwise(graph: Graph) -> None:
    """Rewrite all element-wise nodes to ``Elementwise`` nodes (attribute ``fn``, an ``Expr``)."""
    forms: dict[int, list[Form]] = {}
    chained: dict[int, tuple[str, ...]] = {}
    users = graph.users()

    def of(t: Tensor) -> list[Form]:
        return forms.get(id(t), [(t, X)])

    element_nodes: set[int] = set()
    for node in graph.nodes:
        found = _forms(node, of)
        if not found:
            continue
        small = [f for f in found if f[1].size <= MOST_NODES]
        if not small:
            # too long to go on: the function starts anew from this node's own input
            small = _forms(node, lambda t: [(t, X)]) or []
            for t in node.inputs:
                if not t.is_constant and id(t) in forms and forms[id(t)][0][0] is not t:
                    forms[id(t)].insert(0, (t, X))
        if not small:
            continue
        found = small
        element_nodes.add(id(node))
        out = node.output
        sources = (s for t in node.inputs for s in chained.get(id(t), ()))
        chained[id(out)] = tuple(dict.fromkeys((*sources, *node.source)))[-MOST_NODES:]
        seen_elsewhere = graph.is_output(out) or any(_forms(u, of) is None for u in users.get(id(out), []))
        forms[id(out)] = ([(out, X)] if seen_elsewhere else []) + found

    result: list[Node] = []
    for node in graph.nodes:
        if id(node) not in element_nodes:
            result.append(node)
            continue
        out = node.output
        candidates = [f for f in forms[id(out)] if f[0] is not out]
        if len(candidates) == len(forms[id(out)]):
            continue  # nobody outside the chain reads it
        root, expr = candidates[0]
        source = tuple(dict.fromkeys(chained[id(out)]))
        result.append(Node("Elementwise", [root], [out], {"fn": expr}, source))
    graph.nodes = result
    graph.sort()


def _forms(node: Node, of: object) -> list[Form] | None:
    """Return the node's output as functions of possible roots; None if the node is not element-wise in one tensor."""
    get = of
    assert callable(get)
    if node.op == "Elementwise":
        return [(root, node.attrs["fn"].substitute(e)) for root, e in get(node.inputs[0])]
    if node.op in BINARY and len(node.inputs) == 2:
        a, b = node.inputs
        if a.is_constant and b.is_constant:
            return None
        if a.is_constant or b.is_constant:
            c, x = (a, b) if a.is_constant else (b, a)
            if np.asarray(c.data).size != 1 or len(c.shape) > len(x.shape):
                return None
            number = const(float(np.asarray(c.data).reshape(())))
            return [(r, Expr(node.op, (number, e) if c is a else (e, number))) for r, e in get(x)]
        if a.shape != b.shape:
            return None
        right = {id(r): (r, e) for r, e in get(b)}
        both = [(r, Expr(node.op, (e, right[id(r)][1]))) for r, e in get(a) if id(r) in right]
        return both or None
    fn = from_op(node.op, node.attrs)
    if fn is None or len(node.inputs) != 1:
        return None
    return [(r, fn.substitute(e)) for r, e in get(node.inputs[0])]
