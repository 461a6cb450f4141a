"""Products by squares (``lower.product``): the factor that brings both operands to the same size.

``a * b = ((p a + b / p)^2 - (p a - b / p)^2) / 4`` holds for every p. Both squares have the least range, and so the
finest steps, where ``p a`` and ``b / p`` reach equally far: ``p = sqrt(max |b| / max |a|)``, channel by channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.float.session import FloatSession
from openkpu.graph.ir import Graph, Node

PICTURES: Final = 8
"""Pictures that are looked at; ranges of products need no rare values."""
LEAST: Final = 1 / 64
"""A channel that hardly moves counts as if it moved so much of the widest one."""


def products(graph: Graph) -> list[Node]:
    """Return the layers whose activation is the square of a sum or difference of two operands."""
    return [n for n in graph.nodes if n.op == "KpuConv" and "product" in n.attrs]


def balance(graph: Graph, inputs: Sequence[NDArray[np.float32]]) -> None:
    """Set the factors in the weights of all products from what the float model does on some inputs (1, ...)."""
    layers = products(graph)
    if not layers:
        return
    both = {id(n.inputs[0]): n.inputs[0] for n in layers}
    session = FloatSession(graph, list(both.values()))
    most: dict[int, NDArray[np.float64]] = {}
    for x in inputs[:PICTURES]:
        values = session.run({graph.inputs[0].name: x})
        for key, t in both.items():
            found = np.abs(values[t.name]).max((0, 2, 3)).astype(np.float64)
            most[key] = np.maximum(most.get(key, found), found)
    for n in layers:
        _set(n, most[id(n.inputs[0])])


def _set(n: Node, most: NDArray[np.float64]) -> None:
    c, second = n.attrs["product"]
    a, b = (_floored(most[first : first + c]) for first in (0, second))
    p = np.sqrt(b / a)
    w: NDArray[Any] = np.sign(np.asarray(n.inputs[1].data, np.float64))
    w[:, :c] *= p[:, None, None]
    w[:, second : second + c] /= p[:, None, None]
    n.inputs[1].data = w.astype(np.float32)


def _floored(most: NDArray[np.float64]) -> NDArray[np.float64]:
    top = float(most.max())
    return np.maximum(most, top * LEAST) if top > 0 else np.ones_like(most)
