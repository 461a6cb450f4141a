"""Decide for every operator that works on bytes or floats which of the two it gets.

Bytes where the values come from a uint8 operator and something behind wants uint8 again, so that no tensor is turned
into floats only to be moved or added up; floats otherwise. Tiles of a map and shuffled pixels always move as bytes.
Arithmetic of two tensors has whole numbers in V4 only; there a small second operand (the gates of squeeze-and-excite)
is turned into bytes for it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.lower.ops import EITHER, MOVEMENT, Domain, input_domain, makes_u8

WHOLE: Final = ("Add", "Sub", "Mul", "Min", "Max")
"""Arithmetic that V4 has in whole numbers; a quotient could divide by 0, which a small number rounds to."""
SMALL: Final = 8
"""An operand so many times smaller than the result is turned into bytes for it."""


def choose_domains(graph: Graph, version: int) -> None:
    """Set ``u8`` of the operators of a lowered graph that work on bytes or floats."""
    if not any(n.op in EITHER for n in graph.nodes):
        return
    possible: set[int] = set()
    for n in graph.nodes:
        moves = n.op in MOVEMENT and all(_comes_as_u8(t, possible) for t in n.inputs) and _keeps_bytes(n)
        if moves or (n.op == "TensorBinary" and version == 4 and _whole(n, possible)):
            possible.add(id(n))
    users = graph.users()
    for n in reversed(graph.nodes):
        if n.op in EITHER:
            n.attrs["u8"] = id(n) in possible and (_always(n) or _wanted(n.output, users))


def _comes_as_u8(t: Tensor, possible: set[int]) -> bool:
    p = t.producer
    if t.is_constant or p is None:
        return not t.is_constant and len(t.shape) == 4  # the picture
    if p.op == "Reshape":
        return _comes_as_u8(p.inputs[0], possible)
    return id(p) in possible if p.op in EITHER else makes_u8(p)


def _whole(n: Node, possible: set[int]) -> bool:
    """Whether an arithmetic operator can work on bytes: both operands are computed, the large one as bytes."""
    if n.attrs["kind"] not in WHOLE or any(t.is_constant or _is_picture(t) for t in n.inputs):
        return False
    size = _size(n.output)
    return any(_size(t) == size for t in n.inputs) and all(
        _comes_as_u8(t, possible) or SMALL * _size(t) <= size for t in n.inputs
    )


def _is_picture(t: Tensor) -> bool:
    """Whether the tensor is the model's input, whose channels may be scaled apart."""
    while t.producer is not None and (t.producer.op == "Reshape" or t.producer.op in MOVEMENT):
        t = t.producer.inputs[0]
    return t.producer is None


def _size(t: Tensor) -> int:
    return int(np.prod(t.shape))


def _keeps_bytes(n: Node) -> bool:
    """A padding of another value than 0 may have no byte."""
    return n.op != "TensorPad" or n.attrs["value"] == 0


def _always(n: Node) -> bool:
    return bool(n.attrs.get("tiles") or n.attrs.get("bytes"))


def _wanted(t: Tensor, users: dict[int, list[Node]]) -> bool:
    for u in users.get(id(t), []):
        if u.op == "Reshape":
            if _wanted(u.output, users):
                return True
        elif input_domain(u) is not Domain.F32:
            return True
    return False
