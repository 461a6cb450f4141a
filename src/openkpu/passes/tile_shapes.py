"""How large the feature maps of a few layers are on the KPU, and how long the layers take: what tiling asks.

The KPU reads a map whole and writes one of the same size, or of half where a stride or pooling is inside. ``Maps``
walks a run of layers with given input sizes and says whether every layer fits the 2 MiB of AI RAM and the largest map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from openkpu.estimate import price
from openkpu.graph.ir import Node, Tensor
from openkpu.k210 import AI_RAM_BYTES, MAX_HEIGHT, MAX_WIDTH, MIN_SIZE
from openkpu.kpu.fmap import FeatureMapLayout

WINDOWS: Final = ("Conv", "MaxPool", "AveragePool")
FEWEST: Final = 8
"""Channels at a time of a wide depthwise kernel; fewer are possible, but many more layers."""
POINTWISE: Final = ("Elementwise", "Add", "Sub", "Mul")
Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """Kernel, stride, dilation and padding (top, left, bottom, right) of a layer; one pixel for pointwise ones."""

    kernel: Size = (1, 1)
    stride: Size = (1, 1)
    dilation: Size = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def reach(self, axis: int) -> int:
        """Rows (axis 0) or columns (axis 1) that the window spans."""
        return (self.kernel[axis] - 1) * self.dilation[axis] + 1


def window(node: Node) -> Window:
    """Return the window of a layer."""
    if node.op not in WINDOWS:
        return Window()
    a = node.attrs
    kernel = node.inputs[1].shape[2:] if node.op == "Conv" else a["kernel"]
    dilation = a["dilations"] if node.op == "Conv" else (1, 1)
    return Window((kernel[0], kernel[1]), tuple(a["strides"]), tuple(dilation), tuple(a["pads"]))


def can_tile(node: Node) -> bool:
    """Whether a part of the layer's result needs only a part of its inputs, all of them maps."""
    if len(node.outputs) != 1 or len(node.output.shape) != 4 or node.output.shape[0] != 1:
        return False
    if node.op in WINDOWS:
        w = window(node)
        if max(p - w.reach(i % 2) for i, p in enumerate(w.pads)) >= 0:
            return False  # a window of padding only
    if node.op == "Conv":
        return len(node.inputs[0].shape) == 4 and all(t.is_constant for t in node.inputs[1:])
    if node.op == "Concat":
        return bool(node.attrs["axis"] == 1) and not any(t.is_constant for t in node.inputs)
    same = all(t.shape[2:] == node.inputs[0].shape[2:] and not t.is_constant for t in node.inputs)
    return node.op in WINDOWS or (node.op in POINTWISE and same)


def is_depthwise(node: Node) -> bool:
    """One kernel a channel, as many outputs as inputs."""
    return node.op == "Conv" and node.attrs["group"] == node.inputs[0].shape[1] == node.output.shape[1] > 1


def pools_inside(node: Node) -> int:
    """Return by how much a 2x2 or 4x4 pooling that the KPU has shrinks a map; 1 for anything else."""
    if node.op not in ("MaxPool", "AveragePool"):
        return 1
    a = node.attrs
    square = tuple(a["kernel"]) == tuple(a["strides"]) and a["kernel"][0] == a["kernel"][1] in (2, 4)
    return int(a["kernel"][0]) if square and not any(a["pads"]) else 1


class Maps:
    """The maps of a run of layers. ``sizes`` grows layer by layer: the size in AI RAM of each tensor, by its id."""

    def __init__(self, nodes: Sequence[Node], sizes: dict[int, Size]) -> None:
        self.sizes = dict(sizes)
        self.microseconds = 0.0
        self.fits = True
        self.why = ""
        self._channels: dict[int, int] = {}
        self._last_reader: dict[int, int] = {}
        self._pending: dict[int, int] = {}
        """Stride of a depthwise layer that the next 1x1 convolution does."""
        users: dict[int, list[Node]] = {}
        for i, n in enumerate(nodes):
            for t in n.inputs:
                self._last_reader[id(t)] = i
                users.setdefault(id(t), []).append(n)
                if id(t) in sizes:
                    self._channels[id(t)] = t.shape[1]
        self._fused: set[int] = set()
        for i, n in enumerate(nodes):
            self._layer(i, n, users)

    def _layer(self, i: int, n: Node, users: dict[int, list[Node]]) -> None:
        sources = [t for t in n.inputs if not t.is_constant]
        size = self.sizes[id(sources[0])]
        out = n.output
        pending = max(self._pending.get(id(t), 1) for t in sources)
        if n.op == "Concat" or id(n) in self._fused:
            self._pending[id(out)] = pending
            self._keep(out, size)
            return
        w = window(n)
        own = is_depthwise(n) and copies(n) == 1
        follows = n.op == "Conv" and w == Window() and not is_depthwise(n)
        if pending > 1 and not follows:
            size = (size[0] // pending, size[1] // pending)
        extra = shrink = 1
        if n.op in WINDOWS:
            shrink = pools_inside(n)
            if n.op == "Conv":
                extra, shrink = _inside(n, w)
                shrink *= pending if follows else 1
        if shrink == 1 and n.op in (*POINTWISE, "Conv") and not is_depthwise(n):
            shrink = self._take_in(n, users)
        else:
            self._take_in(n, users, pools=False)
        result = (size[0] // shrink, size[1] // shrink)
        self._check(i, n, sources, size, extra, result)
        self.microseconds += _time(n, size, extra)
        if n.op in WINDOWS and shrink == 1 and max(w.stride) > 1 and not (own and w.stride == (2, 2)):
            result = (max(1, size[0] // w.stride[0]), max(1, size[1] // w.stride[1]))
        if own and w.stride == (2, 2):
            self._pending[id(out)] = 2
        self._keep(out, result)

    def _take_in(self, n: Node, users: dict[int, list[Node]], *, pools: bool = True) -> int:
        """Take a following function and pooling into the layer; returns by how much the pooling shrinks the map."""
        t = n.output
        readers = users.get(id(t), [])
        if len(readers) == 1 and readers[0].op == "Elementwise":
            self._fused.add(id(readers[0]))
            t = readers[0].output
            readers = users.get(id(t), [])
        if pools and len(readers) == 1 and pools_inside(readers[0]) > 1:
            self._fused.add(id(readers[0]))
            return pools_inside(readers[0])
        return 1

    def _keep(self, t: Tensor, size: Size) -> None:
        self.sizes[id(t)] = size
        self._channels[id(t)] = t.shape[1]

    def _check(self, i: int, n: Node, sources: list[Tensor], size: Size, extra: int, result: Size) -> None:
        alive = {k for k in self.sizes if self._last_reader.get(k, -1) >= i}
        need = FeatureMapLayout(n.output.shape[1], *result).bytes
        need += sum(FeatureMapLayout(self._channels[k], *self.sizes[k]).bytes for k in alive)
        if is_depthwise(n):
            need += room_for_copies(n, size)
        else:
            need += (extra - 1) * FeatureMapLayout(sources[0].shape[1], *size).bytes
        if need > AI_RAM_BYTES:
            self.fits = False
            self.why = f"{need} bytes of feature maps, limit {AI_RAM_BYTES}"
        if size[0] > MAX_HEIGHT or size[1] > MAX_WIDTH:
            self.fits = False
            self.why = f"{size[1]}x{size[0]} (width x height), limit {MAX_WIDTH}x{MAX_HEIGHT}"


def copies(n: Node) -> int:
    """Return how many shifted copies of the map a kernel wider than 3x3 reads; 1 for other layers."""
    w = window(n)
    if n.op != "Conv" or max(w.reach(0), w.reach(1)) <= 3:
        return 1
    down, across = (1 if w.reach(a) <= 3 else max(2, w.kernel[a] - 2) for a in (0, 1))
    return max(down * across, 9 if max(w.dilation) > 1 else 1)


def room_for_copies(n: Node, size: Size) -> int:
    """Return the bytes of AI RAM that a depthwise kernel over 3x3 needs beside its maps: twice the copies of a part."""
    return 2 * FeatureMapLayout(copies(n) * FEWEST, *size).bytes if copies(n) > 1 else 0


def _inside(n: Node, w: Window) -> tuple[int, int]:
    """Return how many copies of a convolution's input lie side by side, and how much its stride shrinks the map."""
    extra, shrink = copies(n), 1
    if w.stride == (2, 2) and (extra > 1 or not is_depthwise(n)):
        shrink = 2
        if w.kernel[0] > 1 and w.pads[0] == 0:
            extra *= 2  # odd rows need a copy that is shifted by one row
    return extra, shrink


def too_small(sizes: dict[int, Size]) -> bool:
    """Whether some map is smaller than the KPU takes."""
    return any(min(s) < MIN_SIZE for s in sizes.values())


def _time(n: Node, size: Size, extra: int) -> float:
    c = sum(t.shape[1] for t in n.inputs if not t.is_constant) * extra
    kernel = 1
    if n.op == "Conv":
        kernel = 3 if max(n.inputs[1].shape[2:]) > 1 else 1
    own = is_depthwise(n) and extra == 1
    if is_depthwise(n) and extra > 1:
        part = price.wide_depthwise_in_four(2 * FEWEST, *size, copies(n))
        return part.us * c / extra / (2 * FEWEST)
    return price.kpu_layer_us(c, *size, n.output.shape[1], kernel=kernel, depthwise=own)
