"""Decide for every operator that only moves values whether it moves bytes or floats.

Bytes where the values come from a uint8 operator and something behind wants uint8 again, so that no tensor is turned
into floats only to be moved; floats otherwise. Tiles of a map and shuffled pixels always move as bytes.
"""

from __future__ import annotations

from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.lower.ops import MOVEMENT, Domain, input_domain, makes_u8


def choose_domains(graph: Graph) -> None:
    """Set ``u8`` of the movements of a lowered graph."""
    moves = [n for n in graph.nodes if n.op in MOVEMENT]
    if not moves:
        return
    possible: set[int] = set()
    for n in graph.nodes:
        if n.op in MOVEMENT and all(_comes_as_u8(t, possible) for t in n.inputs) and _keeps_bytes(n):
            possible.add(id(n))
    users = graph.users()
    for n in reversed(graph.nodes):
        if n.op in MOVEMENT:
            n.attrs["u8"] = id(n) in possible and (_always(n) or _wanted(n.output, users))


def _comes_as_u8(t: Tensor, possible: set[int]) -> bool:
    p = t.producer
    if t.is_constant or p is None:
        return not t.is_constant and len(t.shape) == 4  # the picture
    if p.op == "Reshape":
        return _comes_as_u8(p.inputs[0], possible)
    return id(p) in possible if p.op in MOVEMENT else makes_u8(p)


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
