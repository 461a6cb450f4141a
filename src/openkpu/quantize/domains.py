"""Which tensors of a lowered graph exist as uint8, and which quantisation they inherit from their input."""

from __future__ import annotations

from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.lower.ops import MOVEMENT, Domain, input_domain, makes_u8

_INHERIT = (
    "KpuMove", "KpuRows", "CpuMaxPool", "CpuPad", "CpuResize", "CpuInterleave", "Reshape", "KpuConcat", "KpuSlice"
)  # fmt: skip


def inherits(node: Node) -> bool:
    """Whether the operator's output has the quantisation of its inputs."""
    return node.op in _INHERIT or (node.op in MOVEMENT and makes_u8(node))


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


def quantized(graph: Graph, users: dict[int, list[Node]]) -> set[int]:
    """Return the ids of all tensors that exist as uint8."""
    tensors = {id(t): t for n in graph.nodes for t in (*n.inputs, *n.outputs) if not t.is_constant}
    return {i for i, t in tensors.items() if is_quantized(graph, t, users)}


def keeps_channels(reshape: Node) -> bool:
    """Whether numbers for each channel can be carried through a Reshape: to a vector, or below the same channels."""
    before, after = reshape.inputs[0].shape, reshape.output.shape
    vector = len(after) == 2 and after[0] == 1
    return vector or (len(after) > 1 and len(before) > 1 and before[:2] == after[:2])


def needs_uniform(node: Node, users: dict[int, list[Node]]) -> bool:
    """Whether the operator reads its uint8 input with one scale for all channels."""
    if node.op == "Reshape":
        return not keeps_channels(node) and wants_u8(node, users)
    if node.op in MOVEMENT and makes_u8(node):
        return not _keeps_channels_apart(node)
    return node.op in ("CpuTable", "CpuInterleave") or (node.op == "TensorBinary" and makes_u8(node))


def _keeps_channels_apart(move: Node) -> bool:
    """Whether every channel of the result comes from one channel of an input."""
    if move.op == "TensorTranspose":
        return bool(move.attrs["order"][:2] == (0, 1))
    if move.op == "TensorConcat":
        return bool(move.attrs["axis"] == 1 and move.output.shape[0] == 1) or bool(move.attrs["tiles"])
    if move.op == "TensorPad":
        return not any(side[1] for side in move.attrs["pads"] if len(side) > 1)
    return True


def stands_apart(node: Node) -> bool:
    """Whether the operator puts channels beside each other whose quantisation may differ."""
    if node.op == "TensorConcat":
        return makes_u8(node) and node.attrs["axis"] == 1 and not node.attrs["tiles"]
    return node.op == "KpuConcat"


def origins(t: Tensor) -> list[Tensor]:
    """Return the tensors whose quantisation ``t`` inherits (itself, if it has its own)."""
    p = t.producer
    if p is None or not inherits(p):
        return [t]
    return [o for i in p.inputs for o in origins(i)]


def reaches_padding(t: Tensor, users: dict[int, list[Node]]) -> bool:
    """Whether a zero is ever put beside the values of ``t``: a 3x3 layer or a Pad, perhaps behind movements."""
    return any(
        u.op in ("KpuMove", "CpuPad", "TensorPad")
        or (u.op == "KpuConv" and u.inputs[1].shape[2] == 3)
        or (inherits(u) and reaches_padding(u.output, users))
        for u in users.get(id(t), [])
    )


def wants_u8(node: Node, users: dict[int, list[Node]]) -> bool:
    """Whether the operator reads uint8; a Reshape passes the question on."""
    if node.op == "Reshape":
        return any(wants_u8(u, users) for u in users.get(id(node.output), []))
    return input_domain(node) is not Domain.F32
