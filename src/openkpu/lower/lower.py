"""Walk the float graph once and lower every node; what cannot be lowered is refused by name, all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from openkpu.errors import OpenKPUError, UnsupportedError
from openkpu.estimate.price import LAYER_BYTES
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.k210 import MAIN_RAM_BYTES
from openkpu.lower import decide
from openkpu.lower.average import lower_global_average_pool
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
from openkpu.lower.movement_domain import choose_domains
from openkpu.lower.pool import lower_pool
from openkpu.lower.product import lower_mul
from openkpu.lower.reduce import lower_normalization, lower_reduce
from openkpu.lower.slices import lower_slice
from openkpu.lower.tail import kpu_pool
from openkpu.lower.target import V3, Target, elsewhere
from openkpu.lower.tensor import lower_tensor
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
    "Mul": lower_mul,
    "Concat": lower_concat,
    "Reshape": lower_reshape,
    "Transpose": lower_transpose,
    "Pad": lower_pad,
    "Resize": lower_resize,
    "Slice": lower_slice,
    "Softmax": lower_softmax,
    "Elementwise": lower_elementwise,
    "ReduceMean": lower_reduce,
    "ReduceSum": lower_reduce,
    "ReduceMax": lower_reduce,
    "ReduceMin": lower_reduce,
    "LpNormalization": lower_normalization,
}

SCRATCH_BYTES: Final = 1 << 20
"""What main RAM keeps free of weights."""

WAYS_ROUND: Final = {
    "ConvTranspose": "export it with constant weights",
    "ArgMax": "end the model before it and take the position in the script",
    "ArgMin": "end the model before it and take the position in the script",
}


def lower(
    graph: Graph,
    *,
    target: Target = V3,
    refused: list[OpenKPUError] | None = None,
    layer_us: float = 0.0,
    largest_body: int = 1 << 30,
) -> tuple[Graph, list[Decision]]:
    """Lower a canonical float graph for a kmodel version.

    Returns the lowered graph (operators of ``lower.ops``) and the decisions, in the order of the source's layers.
    Raises ``UnsupportedError`` for operators that have no lowering (all of them) and for the first layer that does not
    fit. With a list ``refused`` nothing is raised: the errors go there, the layers into the decisions as "not
    possible", and the lowered graph is for looking at only. ``layer_us``,
    ``largest_body``: see ``Context``.
    """
    unknown = [n for n in graph.nodes if n.op not in LOWERING and not target.has(n.op)]
    if unknown and refused is None:
        lines = "; ".join(f"{n.label} ({_way_round(n, target) or 'no lowering'})" for n in unknown[:20])
        more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
        raise UnsupportedError(
            "E200",
            f"{len(unknown)} layer(s) with operators that {target.title} does not have",
            where=lines + more,
            why=f"V{target.version} has: {', '.join(sorted({*LOWERING, *target.tensor_ops}))}",
            fix="replace these layers, or end the model before them with outputs=[...]",
        )
    register_exporters()
    ctx = Context(graph, graph.users(), target, room=_room(graph), layer_us=layer_us, largest_body=largest_body)
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
            _lower_node(ctx, node)
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
    _note_pictures(ctx)
    outputs = [ctx.flat(t) for t in graph.outputs]
    outputs = [
        o if tuple(o.shape) == t.shape else ctx.emit("Reshape", [o], t.shape, f"{t.name}.out", shape=t.shape)
        for o, t in zip(outputs, graph.outputs, strict=True)
    ]
    result = Graph(list(graph.inputs), outputs, ctx.nodes, graph.name)
    if not refused:
        result.sort()
    choose_domains(result, target.version)
    return result, ctx.decisions


def _room(graph: Graph) -> int:
    """Return what main RAM has beside the model's weights in 8 bits, its KPU layers and a scratch buffer."""
    constants = {id(t): int(np.prod(t.shape)) for n in graph.nodes for t in n.inputs if t.is_constant}
    layers = sum(n.op == "Conv" for n in graph.nodes)
    return MAIN_RAM_BYTES - SCRATCH_BYTES - sum(constants.values()) - layers * LAYER_BYTES


def _note_pictures(ctx: Context) -> None:
    """Tell every layer which part of its map is the picture: what lies outside has no say in ranges and corrections."""
    seen: dict[int, list[View]] = {}
    for v in ctx.values.values():
        if isinstance(v, View):
            seen.setdefault(id(v.tensor), []).append(v)
    for views in seen.values():
        v = views[0]
        made = v.tensor.producer
        alike = v.step == 1 and not v.is_whole and all(v.place == u.place for u in views)
        if made is not None and made.op == "KpuConv" and alike:
            made.attrs["picture"] = v.top, v.left, v.height, v.width


def _lower_node(ctx: Context, node: Node) -> None:
    """Lower one node: on the KPU or with an operator of V3 where possible, else with one of the target's own."""
    done, decisions, spent = set(ctx.done), len(ctx.decisions), ctx.spent
    try:
        if node.op not in LOWERING:
            raise UnsupportedError(
                "E200",
                f"operator {node.op}",
                where=node.label,
                why=f"{ctx.target.title} has no such operator",
                fix=_way_round(node, ctx.target) or "replace it, or end the model before it with outputs=[...]",
            )
        LOWERING[node.op](ctx, node)
    except OpenKPUError as refusal:
        # what was made before the refusal has no reader and is dropped
        ctx.done, ctx.spent = done, spent
        del ctx.decisions[decisions:]
        for t in node.inputs:
            lower_deferred(ctx, t)
        if not lower_tensor(ctx, node, refusal):
            other = elsewhere(node.op, ctx.target)
            if other and other not in refusal.fix:
                refusal.fix = f"{other}; or {refusal.fix}" if refusal.fix else other
            raise


def _way_round(node: Node, target: Target) -> str:
    ways = (elsewhere(node.op, target), WAYS_ROUND.get(node.op, ""))
    return "; or ".join(w for w in ways if w)
