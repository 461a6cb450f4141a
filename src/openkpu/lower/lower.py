"""Walk the float graph once and lower every node; what cannot be lowered is refused by name, all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from openkpu.errors import OpenKPUError, UnsupportedError
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.lower import decide
from openkpu.lower.context import Context, Decision
from openkpu.lower.conv import lower_conv, lower_deferred
from openkpu.lower.dense import lower_gemm
from openkpu.lower.export import register_exporters
from openkpu.lower.merge import lower_add, lower_concat
from openkpu.lower.movement import (
    lower_elementwise,
    lower_pad,
    lower_reshape,
    lower_resize,
    lower_softmax,
    lower_transpose,
)
from openkpu.lower.pool import lower_global_average_pool, lower_pool
from openkpu.lower.tail import kpu_pool
from openkpu.lower.view import View


def _average_pool(ctx: Context, node: Node) -> None:
    """An average over up to 3x3 pixels that counts its padding is a depthwise convolution."""
    a = node.attrs
    counts = a["count_include_pad"] or not any(a["pads"])
    if kpu_pool(node) is not None or not counts or max(a["kernel"]) > 3:
        lower_pool(ctx, node)
        return
    c = node.inputs[0].shape[1]
    kh, kw = a["kernel"]
    w = Tensor(
        ctx.name(f"{node.output.name}.mean"),
        (c, 1, kh, kw),
        "float32",
        np.full((c, 1, kh, kw), 1 / (kh * kw), np.float32),
    )
    conv = Node(
        "Conv",
        [node.inputs[0], w],
        [node.output],
        {"strides": a["strides"], "pads": a["pads"], "dilations": (1, 1), "group": c},
        node.source,
    )
    lower_conv(ctx, conv)
    node.output.producer = node  # the source graph stays as it was


LOWERING: Final[dict[str, Callable[[Context, Node], None]]] = {
    "Conv": lower_conv,
    "Gemm": lower_gemm,
    "MaxPool": lower_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lower_global_average_pool,
    "Add": lower_add,
    "Sub": lower_add,
    "Concat": lower_concat,
    "Reshape": lower_reshape,
    "Transpose": lower_transpose,
    "Pad": lower_pad,
    "Resize": lower_resize,
    "Softmax": lower_softmax,
    "Elementwise": lower_elementwise,
}

WAYS_ROUND: Final = {
    "ConvTranspose": "use nearest-neighbour Resize and a 3x3 convolution",
    "Mul": "V3 cannot multiply two computed tensors (squeeze-and-excite needs V4 or V5)",
    "Slice": "end the model before it (outputs=[...])",
}


def lower(graph: Graph, *, refused: list[OpenKPUError] | None = None) -> tuple[Graph, list[Decision]]:
    """Lower a canonical float graph for kmodel V3.

    Returns the lowered graph (operators of ``lower.ops``) and the decisions, in the order of the source's layers.
    Raises ``UnsupportedError`` for operators that have no lowering (all of them) and for the first layer that does not
    fit. With a list ``refused`` nothing is raised: the errors go there, the layers into the decisions as "not
    possible", and the lowered graph is for looking at only.
    """
    unknown = [n for n in graph.nodes if n.op not in LOWERING]
    if unknown and refused is None:
        lines = "; ".join(f"{n.label} ({WAYS_ROUND.get(n.op, 'no lowering for kmodel V3')})" for n in unknown[:20])
        more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
        raise UnsupportedError(
            "E200",
            f"{len(unknown)} layer(s) with operators that kmodel V3 does not have",
            where=lines + more,
            why=f"V3 has: {', '.join(sorted(LOWERING))}",
            fix="replace these layers, or end the model before them with outputs=[...]",
        )
    register_exporters()
    ctx = Context(graph, graph.users())
    for t in graph.inputs:
        ctx.names.add(t.name)
        ctx.values[id(t)] = View.whole(t) if len(t.shape) == 4 and t.shape[2:] != (1, 1) else t
    for node in graph.nodes:
        if id(node) in ctx.done:
            continue
        ctx.origin = node.source
        if node.op not in ("Add", "Sub"):
            for t in node.inputs:
                lower_deferred(ctx, t)
        try:
            if node.op not in LOWERING:
                raise UnsupportedError(
                    "E200",
                    f"operator {node.op}",
                    where=node.label,
                    why="kmodel V3 has no such operator",
                    fix=WAYS_ROUND.get(node.op, "replace it, or end the model before it with outputs=[...]"),
                )
            LOWERING[node.op](ctx, node)
        except OpenKPUError as e:
            if not e.where:
                e.where = node.label
            if refused is None:
                raise
            refused.append(e)
            decide.not_possible(ctx, node, e)
            for t in node.outputs:
                stand_in = Tensor(ctx.name(t.name), t.shape)
                spatial = len(t.shape) == 4 and t.shape[2:] != (1, 1)
                ctx.values[id(t)] = View.whole(stand_in) if spatial else stand_in
    ctx.origin = ()
    outputs = [ctx.flat(t) for t in graph.outputs]
    outputs = [
        o if tuple(o.shape) == t.shape else ctx.emit("Reshape", [o], t.shape, f"{t.name}.out", shape=t.shape)
        for o, t in zip(outputs, graph.outputs, strict=True)
    ]
    result = Graph(list(graph.inputs), outputs, ctx.nodes, graph.name)
    if not refused:
        result.sort()
    return result, ctx.decisions
