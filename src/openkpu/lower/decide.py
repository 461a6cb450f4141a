"""Record what the lowering decided, in the words that ``kpu check`` prints."""

from __future__ import annotations

from collections.abc import Sequence

from openkpu.errors import OpenKPUError
from openkpu.graph.ir import Node
from openkpu.kpu.constraints import LayerShape, broken
from openkpu.lower.context import Context, Decision


def conv(ctx: Context, node: Node, taken: Sequence[Node], us: float, *, joined: bool = False) -> None:
    """Record a convolution and the nodes that it took in."""
    a = node.attrs
    _, c, h, w = node.inputs[0].shape
    oc, oh, ow = node.output.shape[1:]
    kernel = node.inputs[1].shape[2:]
    s = LayerShape(
        c,
        (h, w),
        oc,
        (oh, ow),
        (kernel[0], kernel[1]),
        tuple(a["strides"]),
        tuple(a["dilations"]),
        a["group"],
        tuple(a["pads"]),
    )
    rules = [(r, why) for r, why in broken(s) if r.code != "R11"]
    handed_on = a["group"] == c > 1 and tuple(a["strides"]) == (2, 2)
    how = ["stride handed on to the next 1x1 convolution"] if handed_on else []
    names = {
        "R02": "stride on the CPU",
        "R03": "other padding as a part of the map, shifted copies or a CPU pad",
        "R01": "shifted copies of the map",
        "R04": "shifted copies of the map",
        "R05": "a dense kernel with zeros",
        "R08": "a frame round the small map",
        "R10": "split by output channels",
    }
    how += [names[r.code] for r, _ in rules if r.code in names]
    if joined:
        how.append("part of the following addition")
    else:
        how += _notes(ctx)
    ctx.decisions.append(
        Decision(
            _name(node),
            _ops(node, taken),
            _shape(node),
            "KPU after a rewrite" if how else "KPU",
            "; ".join(how),
            " ".join(f"{r.text} Here: {why}." for r, why in rules),
            "; ".join(dict.fromkeys(r.remedy for r, _ in rules)),
            us,
        )
    )


def kpu_rewrite(ctx: Context, node: Node, how: str, us: float, taken: Sequence[Node] = ()) -> None:
    """Record a node that the KPU runs in another form."""
    how = "; ".join([how, *_notes(ctx)])
    ctx.decisions.append(
        Decision(_name(node), _ops(node, taken), _shape(node), "KPU after a rewrite", how, microseconds=us)
    )


def on_cpu(ctx: Context, node: Node, why: str, fix: str, us: float, *, expected: bool = False) -> None:
    """Record a node that runs on the CPU; ``expected`` where that is its normal place."""
    why = "; ".join([why, *_notes(ctx)])
    ctx.decisions.append(
        Decision(_name(node), node.op, _shape(node), "CPU", "" if not expected else "as usual", why, fix, us)
    )


def _notes(ctx: Context) -> list[str]:
    """Return what was done to the layer's maps, each once, and forget it."""
    notes = list(dict.fromkeys(ctx.notes))
    ctx.notes.clear()
    return notes


def not_possible(ctx: Context, node: Node, error: OpenKPUError) -> None:
    """Record a node that kmodel V3 cannot express."""
    why = f"{error.what}: {error.why}" if error.why else error.what
    ctx.decisions.append(Decision(_name(node), node.op, _shape(node), "not possible", error.code, why, error.fix))


def _name(node: Node) -> str:
    return node.source[-1] if node.source else node.outputs[0].name


def _ops(node: Node, taken: Sequence[Node]) -> str:
    names = [node.op] + [str(n.attrs.get("label", "activation")) if n.op == "Elementwise" else n.op for n in taken]
    return " + ".join(names)


def _shape(node: Node) -> str:
    def dims(shape: tuple[int, ...]) -> str:
        return "x".join(map(str, shape[1:])) if len(shape) > 1 else "x".join(map(str, shape))

    return f"{dims(node.inputs[0].shape)} -> {dims(node.outputs[0].shape)}"
