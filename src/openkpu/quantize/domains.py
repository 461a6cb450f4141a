"""Which tensors of a lowered graph exist as uint8, and which quantisation they inherit from their input."""

from __future__ import annotations

from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.lower.ops import Domain, input_domain

INHERIT = ("CpuMaxPool", "CpuPad", "CpuResize", "Reshape", "KpuConcat")
"""Operators whose output has the quantisation of their inputs."""


def is_quantized(graph: Graph, t: Tensor, users: dict[int, list[Node]]) -> bool:
    """Whether the tensor has a uint8 form: a uint8 operator made it, or one reads it."""
    p = t.producer
    if p is None:
        return any(wants_u8(u, users) for u in users.get(id(t), []))
    if p.op == "Reshape":
        return any(wants_u8(u, users) for u in users.get(id(t), [])) or is_quantized(graph, p.inputs[0], users)
    if makes_u8(p):
        return True
    return any(wants_u8(u, users) for u in users.get(id(t), []))


def makes_u8(node: Node) -> bool:
    """Whether the operator's own result is uint8."""
    return node.op in ("KpuConv", "KpuConcat", "CpuMaxPool", "CpuPad", "CpuResize", "CpuTable")


def wants_u8(node: Node, users: dict[int, list[Node]]) -> bool:
    """Whether the operator reads uint8; a Reshape passes the question on."""
    if node.op == "Reshape":
        return any(wants_u8(u, users) for u in users.get(id(node.output), []))
    return input_domain(node) is not Domain.F32
