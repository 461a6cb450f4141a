"""Vectors of length 1, and reductions that are a function, a sum and a function.

before: ``x / max(ReduceL2(x), 1e-12)``, ``x * rsqrt(ReduceSum(x * x))`` and their like
after:  ``LpNormalization(x)``; other ``ReduceL1``, ``ReduceL2``, ``ReduceSumSquare`` become ``ReduceSum`` of a function

Exact but for vectors that are all but 0: the tiny number that exporters put into the denominator against them is left
to the runtime, which has one of its own.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from openkpu.graph.ir import Graph, Node, Tensor

TINY: Final = 1e-5
"""Numbers up to this only keep a denominator from being 0."""


def write_out_norms(graph: Graph) -> None:
    """Rewrite normalisations first, then the reductions that are left."""
    found = False
    for node in list(graph.nodes):
        match = _normalization(node)
        if match is not None:
            x, axis, p = match
            at = graph.nodes.index(node)
            graph.nodes[at] = Node("LpNormalization", [x], [node.output], {"axis": axis, "p": p}, node.source)
            found = True
    if found:
        graph.sort()
    for node in [n for n in graph.nodes if n.op in ("ReduceL1", "ReduceL2", "ReduceSumSquare")]:
        _write_out(graph, node)


def _write_out(graph: Graph, node: Node) -> None:
    x, out = node.inputs[0], node.output
    inner = Tensor(f"{out.name}.terms", x.shape)
    op, operands = ("Abs", [x]) if node.op == "ReduceL1" else ("Mul", [x, x])
    terms = Node(op, operands, [inner], {}, node.source)
    made = [terms]
    total = Tensor(f"{out.name}.sum", out.shape) if node.op == "ReduceL2" else out
    made.append(Node("ReduceSum", [inner], [total], dict(node.attrs), node.source))
    if total is not out:  # a sum of squares that was rounded below 0 has no root
        positive = Tensor(f"{out.name}.positive", out.shape)
        made += [Node("Relu", [total], [positive], {}, node.source), Node("Sqrt", [positive], [out], {}, node.source)]
    at = graph.nodes.index(node)
    graph.nodes[at : at + 1] = made


def _normalization(node: Node) -> tuple[Tensor, int, int] | None:
    """Return (x, axis, p) where the node computes ``x`` over its p-norm along one axis."""
    if node.op == "Div":
        pairs: list[tuple[Tensor, Tensor | None]] = [(node.inputs[0], _bare(node.inputs[1]))]
    elif node.op == "Mul":
        pairs = [(a, _inverse(b)) for a, b in (node.inputs, node.inputs[::-1])]
    else:
        return None
    for x, norm in pairs:
        found = None if norm is None else _norm_of(norm, x)
        if found is not None and node.output.shape == x.shape:
            return x, *found
    return None


def _inverse(t: Tensor) -> Tensor | None:
    """Return d where ``t`` is ``1 / d``; of ``s ** -0.5`` the tensor whose root d is, marked by its own node."""
    p = _bare(t).producer
    if p is None:
        return None
    if p.op == "Reciprocal":
        return _bare(p.inputs[0])
    if p.op == "Div" and _number(p.inputs[0]) == 1:
        return _bare(p.inputs[1])
    return p.output if p.op == "Rsqrt" or (p.op == "Pow" and _number(p.inputs[1]) == -0.5) else None


def _norm_of(t: Tensor, x: Tensor) -> tuple[int, int] | None:
    """Return (axis, p) where ``t`` is the p-norm of ``x`` along an axis (its inverse for Rsqrt and Pow -0.5)."""
    n = t.producer
    if n is None:
        return None
    root = n.op in ("Sqrt", "Rsqrt") or (n.op == "Pow" and _number(n.inputs[1]) in (0.5, -0.5))
    s = _bare(n.inputs[0]).producer if root else n
    if s is None:
        return None
    p = 2 if root else 1
    if s.op in ("ReduceL2", "ReduceL1") and not root:
        p, whose = (2 if s.op == "ReduceL2" else 1), s.inputs[0]
    elif s.op == "ReduceSumSquare" and root:
        whose = s.inputs[0]
    elif s.op == "ReduceSum":
        of = _terms_of(s.inputs[0], p)
        if of is None:
            return None
        whose = of
    else:
        return None
    axes = [a for a in _axes(s) if x.shape[a] != 1]
    return (axes[0], p) if whose is x and len(axes) == 1 else None


def _terms_of(t: Tensor, p: int) -> Tensor | None:
    """Return v where ``t`` is ``v * v`` (p 2) or ``|v|`` (p 1)."""
    n = t.producer
    if n is None:
        return None
    square = n.op == "Square" or (n.op == "Pow" and _number(n.inputs[1]) == 2)
    square = square or (n.op == "Mul" and n.inputs[0] is n.inputs[1])
    return n.inputs[0] if (square if p == 2 else n.op == "Abs") else None


def _axes(node: Node) -> list[int]:
    given = node.attrs.get("axes")
    if len(node.inputs) > 1 and node.inputs[1].data is not None:
        given = np.asarray(node.inputs[1].data).reshape(-1).tolist()
    rank = len(node.inputs[0].shape)
    return sorted({int(a) % rank for a in given}) if given is not None and len(given) else list(range(rank))


def _bare(t: Tensor) -> Tensor:
    """Return a tensor without what repeats it, gives it another shape or keeps it from being 0."""
    while (p := t.producer) is not None:
        tiny = p.op == "Clip" and 0 < p.attrs["min"] <= TINY and p.attrs["max"] > 1e30
        if p.op in ("Max", "Add"):
            rest = [i for i in p.inputs if not _is_tiny(i)]
            if len(rest) != 1 or rest[0].is_constant:
                return t
            t = rest[0]
        elif p.op in ("Expand", "Reshape") or tiny:
            t = p.inputs[0]
        else:
            return t
    return t


def _is_tiny(t: Tensor) -> bool:
    value = _number(t)
    return value is not None and 0 <= value <= TINY


def _number(t: Tensor) -> float | None:
    return float(np.asarray(t.data).reshape(())) if t.data is not None and t.data.size == 1 else None
