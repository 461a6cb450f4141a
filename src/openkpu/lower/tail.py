"""Look ahead: which element-wise function and pooling after a layer the KPU can take into the same layer."""

from __future__ import annotations

from dataclasses import dataclass, field

from openkpu.graph.elementwise import Expr
from openkpu.graph.ir import Node, Tensor
from openkpu.lower.context import Context


@dataclass(slots=True)
class Tail:
    """The function and pooling that follow a layer, and the source tensor where they end."""

    end: Tensor
    fn: Expr | None = None
    pool: Node | None = None
    nodes: list[Node] = field(default_factory=list)

    @property
    def before_pool(self) -> Tensor:
        """The source tensor between function and pooling."""
        return self.pool.inputs[0] if self.pool is not None else self.end


def follow(ctx: Context, t: Tensor, *, pools: bool = True) -> Tail:
    """Follow the single readers of ``t``: an Elementwise, then a pooling that ``kpu_pool`` knows."""
    tail = Tail(t)
    node = ctx.only_user(t)
    if node is not None and node.op == "Elementwise":
        tail.fn, tail.end = node.attrs["fn"], node.output
        tail.nodes.append(node)
        node = ctx.only_user(tail.end)
    if pools and node is not None and kpu_pool(node) is not None:
        tail.pool, tail.end = node, node.output
        tail.nodes.append(node)
    return tail


def kpu_pool(node: Node) -> str | None:
    """Return the KPU pooling that equals this pooling node on a map without surroundings, or None.

    ``max2s1+max2``: a 3x3 maximum with stride 2 is ``max2s1`` in this layer and ``max2`` in one more.
    """
    if node.op not in ("MaxPool", "AveragePool"):
        return None
    kernel, strides, pads = node.attrs["kernel"], node.attrs["strides"], node.attrs["pads"]
    kind = "max" if node.op == "MaxPool" else "mean"
    key = (tuple(kernel), tuple(strides), tuple(pads))
    if key in (((2, 2), (2, 2), (0, 0, 0, 0)), ((4, 4), (4, 4), (0, 0, 0, 0))):
        return f"{kind}{kernel[0]}"
    if kind == "max" and key == ((2, 2), (1, 1), (0, 0, 1, 1)):
        return "max2s1"
    if kind == "max" and key[:2] == ((3, 3), (2, 2)) and pads[:2] == (0, 0) and max(pads[2:]) <= 1:
        return "max2s1+max2"
    return None
