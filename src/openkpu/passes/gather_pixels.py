"""Write operators that pick channels, or every second pixel, as convolutions whose weights are 0 and 1.

before: ``Slice`` of channels, ``Split``, channel shuffles, ``Gather`` of channels; every second row and column
        (``x[:, :, ::2, 1::2]``), ``SpaceToDepth``, YOLO's reorganisation, several of them concatenated (Focus)
after:  a 1x1 convolution that copies channels; a 2x2 convolution with stride 2 that copies pixels

Exact: a copy has the numbers of what it copies. The KPU does that far faster than any CPU operator, and V3 has none. A
channel pick goes on into the convolutions that read it where their zeros cost less than a layer of copies; a chain of
reshapes and transposes is recognised by what it does to the positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.estimate import price
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.k210 import MAX_CHANNELS, MIN_SIZE

MOST_POSITIONS: Final = 1 << 22
"""Largest tensor whose positions are followed through a chain of reshapes and transposes."""
ON_KPU: Final = frozenset(("Conv", "MaxPool", "AveragePool", "Add", "Sub", "Resize", "BatchNormalization"))
"""Operators that leave their result where the KPU reads it."""
PASSING: Final = frozenset(
    ("Relu", "Clip", "LeakyRelu", "HardSwish", "Silu", "Mish", "Elu", "Sigmoid", "HardSigmoid", "Tanh", "Concat", "Mul",
     "Slice", "Reshape", "Transpose", "SpaceToDepth", "DepthToSpace", "Gather", "PRelu", "Div", "Pad")
)  # fmt: skip
Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pick:
    """Output channel k is pixel (step*i + row[k], step*j + column[k]) of channel ``source[k]`` of ``x``."""

    x: Tensor
    step: int
    source: Positions
    row: Positions
    column: Positions


def gather_pixels(graph: Graph) -> None:
    """Rewrite every pick on maps that the KPU has."""
    picks: dict[int, Pick] = {}
    for node in list(graph.nodes):
        pick = _pick(graph, node, picks)
        if pick is not None:
            picks[id(node.output)] = pick
    users = graph.users()
    for node in reversed(list(graph.nodes)):
        pick = picks.get(id(node.output)) if len(node.outputs) == 1 else None
        if pick is None:
            continue
        readers = users.get(id(node.output), [])
        inner = not graph.is_output(node.output)
        if inner and all(_picks_on(r, node.output, picks) for r in readers):
            continue  # taken into the picks behind it
        if _is_whole(pick):
            graph.replace_uses(node.output, pick.x) if inner else None
            continue
        if inner and pick.step == 1 and readers and all(_takes_in(r, node.output, pick, len(readers)) for r in readers):
            for r in readers:
                _into(graph, r, pick)
            continue
        at = graph.nodes.index(node)
        graph.nodes[at : at + 1] = _convolutions(graph, node, pick)
    _shuffles(graph)
    graph.sort()


def _picks_on(reader: Node, t: Tensor, picks: dict[int, Pick]) -> bool:
    """Whether a reader of a pick is a pick that goes past it."""
    pick = picks.get(id(reader.output)) if len(reader.outputs) == 1 else None
    return pick is not None and pick.x is not t


# -- what a node picks ---------------------------------------------------------------------------------------------
def _pick(graph: Graph, node: Node, picks: dict[int, Pick]) -> Pick | None:
    """Return what a node picks of a map on the KPU; picks of picks are joined."""
    if len(node.outputs) != 1 or len(node.output.shape) != 4 or node.output.shape[0] != 1:
        return None
    found: Pick | None = None
    if node.op == "Slice":
        found = _of_slice(node)
    elif node.op == "Gather":
        found = _of_gather(node)
    elif node.op == "SpaceToDepth":
        found = _of_space_to_depth(node)
    elif node.op == "Concat":
        return _side_by_side(node, picks)
    elif node.op in ("Reshape", "Transpose"):
        found = _of_chain(graph, node)
    if found is None or not _is_on_kpu(found.x) or min(found.x.shape[2:]) < MIN_SIZE:
        return None
    if min(node.output.shape[2:]) < 2 or len(found.source) > MAX_CHANNELS:
        return None
    before = picks.get(id(found.x))
    return found if before is None else _joined(before, found)


def _joined(a: Pick, b: Pick) -> Pick:
    """Return b after a; two steps of 2 stay two."""
    if a.step > 1 and b.step > 1:
        return b
    row = a.row[b.source] + a.step * b.row if a.step > 1 or b.step == 1 else b.row
    column = a.column[b.source] + a.step * b.column if a.step > 1 or b.step == 1 else b.column
    return Pick(a.x, a.step * b.step, a.source[b.source], row, column)


def _is_on_kpu(t: Tensor) -> bool:
    """Whether a map comes from the KPU or is the picture."""
    seen: set[int] = set()
    stack = [t]
    while stack:
        t = stack.pop()
        p = t.producer
        if t.is_constant or id(t) in seen:
            continue
        seen.add(id(t))
        if p is None:
            if len(t.shape) != 4:
                return False
        elif p.op in PASSING:
            stack += p.inputs
        elif p.op not in ON_KPU or min(p.output.shape[2:]) < MIN_SIZE:
            return False
    return True


def _of_slice(node: Node) -> Pick | None:
    x, a = node.inputs[0], node.attrs
    if a.get("cut") or len(x.shape) != 4:
        return None
    taken = {i: range(d) for i, d in enumerate(x.shape)}
    for start, stop, axis, step in zip(a["starts"], a["ends"], a["axes"], a["steps"], strict=True):
        taken[axis] = range(*slice(start, stop, step).indices(x.shape[axis]))
    rows, columns = taken[2], taken[3]
    channels = np.array(list(taken[1]), np.int64)
    whole = rows == range(x.shape[2]) and columns == range(x.shape[3])
    second = rows.step == columns.step == 2 and max(rows.start, columns.start) < 2
    if not whole and not second:
        return None
    if second:  # all that there is from the start on
        full = [range(r.start, d, 2) for r, d in ((rows, x.shape[2]), (columns, x.shape[3]))]
        if [rows, columns] != full:
            return None
    ones = np.ones(len(channels), np.int64)
    start = (rows.start, columns.start) if second else (0, 0)
    return Pick(x, 2 if second else 1, channels, ones * start[0], ones * start[1])


def _of_gather(node: Node) -> Pick | None:
    x, index = node.inputs[0], node.inputs[1].data
    if len(x.shape) != 4 or index is None or index.ndim != 1 or node.attrs.get("axis", 0) not in (1, -3):
        return None
    source = np.asarray(index, np.int64) % x.shape[1]
    return Pick(x, 1, source, np.zeros_like(source), np.zeros_like(source))


def _of_space_to_depth(node: Node) -> Pick | None:
    x, s = node.inputs[0], node.attrs["blocksize"]
    if s not in (2, 4) or any(d % s for d in x.shape[2:]):
        return None
    row, column, source = (g.reshape(-1) for g in np.meshgrid(*map(np.arange, (s, s, x.shape[1])), indexing="ij"))
    return Pick(x, s, source, row, column)


def _side_by_side(node: Node, picks: dict[int, Pick]) -> Pick | None:
    """Picks of one map beside each other are one."""
    parts = [picks.get(id(t)) for t in node.inputs]
    first = parts[0]
    if node.attrs["axis"] != 1 or first is None or node.output.shape[1] > MAX_CHANNELS:
        return None
    if any(p is None or p.x is not first.x or p.step != first.step for p in parts):
        return None
    if first.step == 1 and len(node.inputs) == 1:
        return None
    made = [p for p in parts if p is not None]
    return Pick(
        first.x, first.step, *(np.concatenate([getattr(p, k) for p in made]) for k in ("source", "row", "column"))
    )


def _of_chain(graph: Graph, node: Node) -> Pick | None:
    """Follow positions through the longest chain of reshapes and transposes that ends here and is a pick."""
    if any(r.op in ("Reshape", "Transpose") for r in graph.consumers(node.output)) and not graph.is_output(node.output):
        return None
    chain, t = [node], node.inputs[0]
    best: Pick | None = None
    while True:
        if len(t.shape) == 4 and t.shape[0] == 1 and len(chain) > 1:
            best = _positions(t, chain) or best
        p = t.producer
        if p is None or p.op not in ("Reshape", "Transpose") or graph.only_reader(t) is None:
            return best
        chain.insert(0, p)
        t = p.inputs[0]


def _followed(x: Tensor, chain: list[Node]) -> Positions | None:
    size = int(np.prod(x.shape))
    if size > MOST_POSITIONS:
        return None
    at = np.arange(size).reshape(x.shape)
    for n in chain:
        at = at.reshape(n.output.shape) if n.op == "Reshape" else at.transpose(n.attrs["perm"])
    return at


def _positions(x: Tensor, chain: list[Node]) -> Pick | None:
    _, _, h, w = x.shape
    k, oh, ow = chain[-1].output.shape[1:]
    s = h // oh
    if (oh * s, ow * s) != (h, w) or s not in (1, 2, 4):
        return None
    at = _followed(x, chain)
    if at is None:
        return None
    first = at[0, :, :1, :1]
    if not (at[0] == first + s * (w * np.arange(oh)[:, None] + np.arange(ow))).all():
        return None
    source, rest = np.divmod(first.reshape(k), h * w)
    row, column = np.divmod(rest, w)
    return Pick(x, s, source, row, column) if max(row.max(), column.max()) < s else None


def _is_whole(p: Pick) -> bool:
    return p.step == 1 and p.source.tolist() == list(range(p.x.shape[1]))


# -- what becomes of it --------------------------------------------------------------------------------------------
def _takes_in(reader: Node, t: Tensor, p: Pick, readers: int) -> bool:
    """Whether reading all channels, some with zeros, costs a convolution less than its share of a layer of copies."""
    if reader.op != "Conv" or reader.attrs["group"] != 1 or reader.inputs[0] is not t:
        return False
    if not reader.inputs[1].is_constant or any(u is t for u in reader.inputs[1:]):
        return False
    (oc, k), (_, c, h, w) = reader.inputs[1].shape[:2], p.x.shape
    kernel = 1 if reader.inputs[1].shape[2:] == (1, 1) else 3

    def us(inputs: int, outputs: int, kernel: int) -> float:
        return price.kpu_layer_us(inputs, h, w, min(outputs, MAX_CHANNELS), kernel=kernel, depthwise=False)

    return us(c, oc, kernel) - us(k, oc, kernel) <= us(c, k, 1) / readers


def _into(graph: Graph, reader: Node, p: Pick) -> None:
    """Let a convolution read all channels, those that were not picked with zeros."""
    w = np.asarray(reader.inputs[1].data, np.float32)
    wide = np.zeros((w.shape[0], p.x.shape[1], *w.shape[2:]), np.float32)
    for k, source in enumerate(p.source.tolist()):
        wide[:, source] += w[:, k]
    reader.inputs = [p.x, graph.constant(f"{reader.inputs[1].name}.picked", wide), *reader.inputs[2:]]


def _convolutions(graph: Graph, node: Node, p: Pick) -> list[Node]:
    """Return the convolutions that copy; two for steps of 4."""
    out, x = node.output, p.x
    if p.step == 4:
        block = np.arange(4)
        c, (h, w) = x.shape[1], x.shape[2:]
        row, column, source = (np.tile(np.repeat(v, n), r) for v, n, r in (
            (block // 2, c, 1), (block % 2, c, 1), (np.arange(c), 1, 4)
        ))  # fmt: skip
        half = Tensor(f"{out.name}.half", (1, 4 * c, h // 2, w // 2))
        first = _copy(graph, half, Pick(x, 2, source, row, column), node.source)
        inner = (p.row % 2 * 2 + p.column % 2) * c + p.source
        return [first, _copy(graph, out, Pick(half, 2, inner, p.row // 2, p.column // 2), node.source)]
    return [_copy(graph, out, p, node.source)]


def _copy(graph: Graph, out: Tensor, p: Pick, source: tuple[str, ...]) -> Node:
    k, s = len(p.source), p.step
    (_, c, h, w), (oh, ow) = p.x.shape, out.shape[2:]
    weights = np.zeros((k, c, s, s), np.float32)
    weights[range(k), p.source, p.row, p.column] = 1
    pads = (0, 0, max(0, s * oh - h), max(0, s * ow - w))
    attrs: dict[str, Any] = {"strides": (s, s), "pads": pads, "dilations": (1, 1), "group": 1}
    return Node("Conv", [p.x, graph.constant(f"{out.name}.picked", weights)], [out], attrs, source)


# -- the other way round -------------------------------------------------------------------------------------------
def _shuffles(graph: Graph) -> None:
    """Give chains of reshapes and transposes that put channels between the pixels their name, DepthToSpace."""
    for node in list(graph.nodes):
        if node.op != "Reshape" or len(node.output.shape) != 4 or len(node.inputs[0].shape) != 6:
            continue
        turn = node.inputs[0].producer
        first = turn.inputs[0].producer if turn is not None and turn.op == "Transpose" else None
        if turn is None or first is None or first.op != "Reshape" or len(first.inputs[0].shape) != 4:
            continue
        if any(graph.only_reader(t) is None for t in (node.inputs[0], turn.inputs[0])):
            continue
        x, out = first.inputs[0], node.output
        s = out.shape[2] // x.shape[2]
        if s < 2 or x.shape[0] != 1 or out.shape[1:] != (x.shape[1] // (s * s), x.shape[2] * s, x.shape[3] * s):
            continue
        c, (h, w) = out.shape[1], x.shape[2:]
        for mode, shape, perm in (
            ("DCR", (1, s, s, c, h, w), (0, 3, 4, 1, 5, 2)),
            ("CRD", (1, c, s, s, h, w), (0, 1, 4, 2, 5, 3)),
        ):
            if first.output.shape == shape and tuple(turn.attrs["perm"]) == perm:
                attrs = {"blocksize": s, "mode": mode}
                graph.nodes[graph.nodes.index(node)] = Node("DepthToSpace", [x], [out], attrs, node.source)
                break
