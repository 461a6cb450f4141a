"""Split layers whose feature maps do not fit the KPU into tiles of rows (and columns).

before: ``Y = layers(X)`` whose maps exceed 2 MiB of AI RAM or 512x256 pixels
after:  ``Y = Concat(layers(part of X), layers(part of X), ...)``, every part with the rows that its windows read

Exact: a window reads what it read before; padding stays at the borders of the picture only. A run of layers stays in
one tile as long as that is estimated to be faster than bringing the map to main RAM and back; the rows that
neighbouring tiles share are computed twice. Parts begin at multiples of the run's stride, so that every layer
samples the same even rows as before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import ceil
from typing import Final

from openkpu.estimate import price
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.k210 import MAX_CHANNELS, MAX_WIDTH
from openkpu.passes.tile_shapes import (
    POINTWISE,
    WINDOWS,
    Maps,
    Size,
    can_tile,
    copies,
    is_depthwise,
    too_small,
    window,
)

LONGEST_RUN: Final = 40
MOST_TILES: Final = 64
MOST_BEFORE: Final = 6
"""Layers before one that is too large among which the tiles may begin."""
COLUMN_ALIGNMENT: Final = 8
"""Widths that are multiples of it are uploaded four bytes at a time."""
Range = tuple[int, int]
Part = tuple[Range, Range]
"""Rows and columns of a tensor."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: which part of every tensor is needed, and which part of each input is cut out for it."""

    parts: dict[int, Part]
    cuts: dict[int, Part]


@dataclass(frozen=True, slots=True)
class Plan:
    """The tiles of a run of layers, row by row, and the estimated time."""

    rows: tuple[tuple[Tile, ...], ...]
    microseconds: float


def split_into_tiles(graph: Graph) -> None:
    """Rewrite every layer that does not fit, together with the layers behind it where that pays."""
    done: set[int] = set()
    while True:
        index = next((i for i, n in enumerate(graph.nodes) if id(n) not in done and is_too_large(graph, n)), None)
        if index is None:
            return
        first, found = _begin(graph, index)
        if found is None:
            done.add(id(graph.nodes[index]))  # the lowering will say why it cannot run
            continue
        index, (end, plan, _) = first, found
        names = {t.name for n in graph.nodes for t in n.outputs} | {t.name for t in graph.inputs}
        made = _rewrite(graph.nodes[index : end + 1], plan, names)
        done |= {id(n) for n in made}
        graph.nodes[index : end + 1] = made


def is_too_large(graph: Graph, node: Node) -> bool:
    """Whether a layer alone exceeds what the KPU takes."""
    if not can_tile(node) or node.op == "Concat":
        return False
    if copies(node) * node.inputs[0].shape[1] > MAX_CHANNELS and not is_depthwise(node):
        return False  # no tile helps: too many channels
    if node.op == "Elementwise":
        made = node.inputs[0].producer
        if made is not None and made.op in (*WINDOWS, *POINTWISE):
            return False  # part of that layer
    return not _alone(graph, node).fits


def _alone(graph: Graph, node: Node) -> Maps:
    nodes = [node]
    while not graph.is_output(nodes[-1].output) and len(nodes) < 3:
        readers = graph.consumers(nodes[-1].output)
        if len(readers) != 1 or readers[0].op not in ("Elementwise", "MaxPool", "AveragePool"):
            break
        nodes.append(readers[0])
        if readers[0].op != "Elementwise":
            break
    sizes = {id(t): (t.shape[2], t.shape[3]) for t in node.inputs if not t.is_constant}
    if nodes[-1].op != "Elementwise" and len(nodes) > 1:
        # a pooling that the KPU does not take in is a layer of its own
        inside = Maps(nodes, sizes)
        if inside.fits:
            return inside
        nodes.pop()
    return Maps(nodes, sizes)


# -- which layers go together ---------------------------------------------------------------------------------------
Run = tuple[int, Plan, float]
"""The last layer of a run in tiles, its tiles, and the time from its first layer to the end of what can be tiled."""


def _begin(graph: Graph, index: int) -> tuple[int, Run | None]:
    """Return where the tiles begin that the layer at ``index`` is computed in: there, or a few layers before it.

    Before a layer with few input channels there is less to cut.
    """
    best, found = index, _best(graph, index)
    before = 0.0
    for first in range(index - 1, max(-1, index - 1 - MOST_BEFORE), -1):
        n = graph.nodes[first]
        if found is None or not can_tile(n) or n.op == "Concat" or is_too_large(graph, n):
            break
        if n.op != "Elementwise" or n.inputs[0].producer is None:
            sizes = {id(t): (t.shape[2], t.shape[3]) for t in n.inputs if not t.is_constant}
            before += Maps([n], sizes).microseconds
        earlier = _best(graph, first)
        if earlier is not None and earlier[0] >= index and earlier[2] < before + found[2]:
            best, found, before = first, earlier, 0.0
    return best, found


def _best(graph: Graph, start: int) -> Run | None:
    """Return the run from ``start`` that is best computed in tiles."""
    nodes = graph.nodes
    last = start
    while last + 1 < len(nodes) and last - start < LONGEST_RUN and can_tile(nodes[last + 1]):
        last += 1

    @cache
    def tiled(first: int, end: int) -> Plan | None:
        run = nodes[first : end + 1]
        return plan_tiles(run) if _has_one_exit(graph, run) else None

    @cache
    def large(i: int) -> bool:
        return is_too_large(graph, nodes[i])

    @cache
    def best(first: int) -> tuple[float, int]:
        """Time from layer ``first``, which is too large, to the end, and the end of its run."""
        found = (float("inf"), -1)
        for end in range(first, last + 1):
            plan = tiled(first, end)
            if plan is not None:
                found = min(found, (plan.microseconds + rest(end + 1), end))
        return found

    @cache
    def rest(i: int) -> float:
        if i > last:
            return 0.0
        if large(i):
            return best(i)[0]
        n = nodes[i]
        sizes = {id(t): (t.shape[2], t.shape[3]) for t in n.inputs if not t.is_constant}
        return Maps([n], sizes).microseconds + rest(i + 1)

    us, end = best(start)
    if end < 0:
        ends = [e for e in range(start, last + 1) if tiled(start, e) is not None]
        end = ends[-1] if ends else -1
    plan = tiled(start, end) if end >= 0 else None
    return (end, plan, us) if plan is not None else None


def _has_one_exit(graph: Graph, run: list[Node]) -> bool:
    """Whether only the last layer's result is used outside the run, and no function behind it is left out."""
    inside = {id(n) for n in run}
    for n in run:
        leaves = graph.is_output(n.output) or any(id(u) not in inside for u in graph.consumers(n.output))
        if leaves and n is not run[-1]:
            return False
    users = graph.consumers(run[-1].output)
    return not (len(users) == 1 and users[0].op == "Elementwise" and run[-1].op in ("Conv", *POINTWISE))


# -- tiles ----------------------------------------------------------------------------------------------------------
def plan_tiles(run: list[Node]) -> Plan | None:
    """Return the fastest tiles in which every layer of the run fits; None where there are none."""
    height, width = run[-1].output.shape[2:]
    best: Plan | None = None
    widest = max(t.shape[3] for n in run for t in n.inputs if len(t.shape) == 4 and not t.is_constant)
    fewest = ceil(widest / MAX_WIDTH)
    for columns in range(fewest, fewest + 3):
        for rows in range(1, MOST_TILES + 1):
            if rows * columns < 2 or rows > height or columns > width or rows * columns > MOST_TILES:
                continue
            plan = _plan(run, rows, columns)
            if plan is None:
                continue
            if best is None or plan.microseconds < best.microseconds:
                best = plan
            break
    return best


def _plan(run: list[Node], rows: int, columns: int) -> Plan | None:
    height, width = run[-1].output.shape[2:]
    inside = {id(n.output) for n in run}
    inputs = list({id(t): t for n in run for t in n.inputs if not t.is_constant and id(t) not in inside}.values())
    strides = _strides(run)
    us = 0.0
    grid: list[tuple[Tile, ...]] = []
    for r in _shares(height, rows):
        line: list[Tile] = []
        for c in _shares(width, columns):
            parts = _needed(run, (r, c))
            cuts = {id(t): _cut(t, parts[id(t)], strides[id(t)]) for t in inputs}
            sizes: dict[int, Size] = {k: (b[1] - b[0], d[1] - d[0]) for k, (b, d) in cuts.items()}
            maps = Maps(run, sizes)
            if not maps.fits or (too_small(maps.sizes) and min(height, width) > 4):
                return None
            us += maps.microseconds + _transfer(inputs, sizes, run[-1], maps.sizes[id(run[-1].output)])
            line.append(Tile(parts, cuts))
        grid.append(tuple(line))
    return Plan(tuple(grid), us)


def _transfer(inputs: list[Tensor], sizes: dict[int, Size], last: Node, result: Size) -> float:
    """Return the time to cut the inputs, and to put the result into its place and bring it back to AI RAM."""
    there = 0.0
    for t in inputs:
        size = t.shape[1], *sizes[id(t)]
        there += min(price.cpu_cut_us(0, size), price.kpu_rows_us(*size) if size[2] == t.shape[3] else float("inf"))
    back = last.output.shape[1] * result[0] * result[1]
    ns = 1000 * there + back * (price.DOWNLOAD_NS + 2 * price.COPY_NS + price.UPLOAD_NS)
    if is_depthwise(last) and max(last.attrs["strides"]) > 1:
        ns += 3 * back * price.DOWNLOAD_NS  # its stride is left to do
    return ns / 1000


def _shares(n: int, parts: int) -> list[Range]:
    """Split 0..n into parts of nearly equal size."""
    edges = [n * i // parts for i in range(parts + 1)]
    return list(pairwise(edges))


def _needed(run: list[Node], last: Part) -> dict[int, Part]:
    """Return the part of every tensor that a part of the last result needs."""
    parts: dict[int, Part] = {id(run[-1].output): last}
    for n in reversed(run):
        rows, columns = parts[id(n.output)]
        for t in n.inputs:
            if t.is_constant:
                continue
            need = (reads(n, 0, rows)[0], reads(n, 1, columns)[0])
            have = parts.get(id(t))
            parts[id(t)] = need if have is None else (_union(have[0], need[0]), _union(have[1], need[1]))
    return parts


def _union(a: Range, b: Range) -> Range:
    return min(a[0], b[0]), max(a[1], b[1])


def reads(node: Node, axis: int, part: Range) -> tuple[Range, Range]:
    """Return which rows (axis 0) or columns (axis 1) of its input a part of a layer's result needs, and the padding."""
    w = window(node)
    size = next(t for t in node.inputs if not t.is_constant).shape[2 + axis]
    first = part[0] * w.stride[axis] - w.pads[axis]
    end = (part[1] - 1) * w.stride[axis] - w.pads[axis] + w.reach(axis)
    low, high = min(max(first, 0), size - 1), max(min(end, size), 1)
    return (low, max(high, low + 1)), (low - first, end - max(high, low + 1))


def _strides(run: list[Node]) -> dict[int, Size]:
    """Return the product of the strides between every tensor and the run's result."""
    strides: dict[int, Size] = {id(run[-1].output): (1, 1)}
    for n in reversed(run):
        w, (rows, columns) = window(n), strides[id(n.output)]
        for t in n.inputs:
            if not t.is_constant:
                have = strides.get(id(t), (1, 1))
                strides[id(t)] = (max(have[0], rows * w.stride[0]), max(have[1], columns * w.stride[1]))
    return strides


def _cut(t: Tensor, part: Part, stride: Size) -> Part:
    """Return what is cut out of an input: whole strides, and columns that are quick to upload."""
    steps = (stride[0], stride[1] * ceil(COLUMN_ALIGNMENT / stride[1]) if stride[1] in (1, 2, 4) else stride[1])
    result = [
        (low // step * step, min(size, -(-high // step) * step))
        for (low, high), step, size in zip(part, steps, t.shape[2:], strict=True)
    ]
    return result[0], result[1]


# -- rewriting ------------------------------------------------------------------------------------------------------
def _rewrite(run: list[Node], plan: Plan, names: set[str]) -> list[Node]:
    """Return the nodes that compute the run in tiles; its last result keeps its tensor."""
    made: list[Node] = []
    end = run[-1].output
    lines: list[Tensor] = []
    for r, line in enumerate(plan.rows):
        results = [
            _tile(run, tile, f"tile{r}" if len(line) == 1 else f"tile{r}.{c}", made, names)
            for c, tile in enumerate(line)
        ]
        if len(results) > 1:
            shape = (*results[0].shape[:3], sum(t.shape[3] for t in results))
            row = Tensor(_fresh(f"{end.name}.row{r}", names), shape) if len(plan.rows) > 1 else end
            made.append(Node("Concat", results, [row], {"axis": 3, "tiles": True}, run[-1].source))
            results = [row]
        lines += results
    if len(lines) > 1:
        made.append(Node("Concat", lines, [end], {"axis": 2, "tiles": True}, run[-1].source))
    return made


def _tile(run: list[Node], tile: Tile, name: str, made: list[Node], names: set[str]) -> Tensor:
    """Append the layers of one tile; returns its result."""
    have: dict[int, tuple[Tensor, Part]] = {}

    def slice_of(x: Tensor, held: Part, part: Part, how: tuple[str, tuple[str, ...], bool]) -> Tensor:
        """Append a Slice of ``part`` from a tensor that holds ``held``; how: name, source, whether it is cut out."""
        starts = tuple(p[0] - h[0] for p, h in zip(part, held, strict=True))
        ends = tuple(p[1] - h[0] for p, h in zip(part, held, strict=True))
        if starts == (0, 0) and ends == x.shape[2:]:
            return x
        out = Tensor(_fresh(how[0], names), (*x.shape[:2], ends[0] - starts[0], ends[1] - starts[1]))
        attrs = {"starts": starts, "ends": ends, "axes": (2, 3), "steps": (1, 1), "cut": how[2]}
        made.append(Node("Slice", [x], [out], attrs, how[1]))
        return out

    def take(t: Tensor, part: Part, source: tuple[str, ...]) -> Tensor:
        x, held = have[id(t)]
        return x if held == part else slice_of(x, held, part, (f"{t.name}.{name}.part", source, False))

    for n in run:
        rows, columns = tile.parts[id(n.output)]
        (top, pad_rows), (left, pad_columns) = reads(n, 0, rows), reads(n, 1, columns)
        inputs = []
        for t in n.inputs:
            if t.is_constant:
                inputs.append(t)
                continue
            if id(t) not in have:
                whole = ((0, t.shape[2]), (0, t.shape[3]))
                cut = tile.cuts[id(t)]
                have[id(t)] = (slice_of(t, whole, cut, (f"{t.name}.{name}.cut", n.source, True)), cut)
            inputs.append(take(t, (top, left), n.source))
        attrs = dict(n.attrs)
        if n.op in WINDOWS:
            attrs["pads"] = (pad_rows[0], pad_columns[0], pad_rows[1], pad_columns[1])
        shape = (1, n.output.shape[1], rows[1] - rows[0], columns[1] - columns[0])
        out = Tensor(_fresh(f"{n.output.name}.{name}", names), shape)
        made.append(Node(n.op, inputs, [out], attrs, n.source))
        have[id(n.output)] = (out, (rows, columns))
    return have[id(run[-1].output)][0]


def _fresh(stem: str, names: set[str]) -> str:
    """Return an unused name and keep it."""
    name, i = stem, 1
    while name in names:
        i += 1
        name = f"{stem}.{i}"
    names.add(name)
    return name
