"""Let convolutions choose channels: slices, gathers and shuffles of channels become weights.

before: ``Conv(Slice(x))``, ``Slice(Relu(Conv(x)))``, ``Concat(y, Slice(Shuffle(x)))`` along the channels
after:  ``Conv(x)`` with zeros, ``Relu(Conv(x))`` with a part of the weights, ``Concat(y, Conv(x))`` with zeros and ones

Exact. Where everything that reads a layer wants parts of its channels, the layer is made in parts. Else a convolution
that reads chosen channels reads all of them, with weights 0 for the others; for other readers a 1x1 convolution
chooses. So nothing leaves the KPU, in ShuffleNet, CSP blocks and pictures in another order of colours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.k210 import MAX_CHANNELS, MIN_SIZE

THROUGH: Final = ("Elementwise", "MaxPool", "AveragePool", "Resize")
"""Operators that treat each channel by itself, whatever the others are."""
READERS: Final = (*THROUGH, "Conv", "Concat", "Add", "Sub", "GlobalAveragePool")
"""Operators of maps: what they read is worth a layer of the KPU."""
MOST_ZEROS: Final = 4
"""A convolution reads at most so many times the channels that it uses."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """Channels ``index`` of the map ``x``."""

    x: Tensor
    index: NDArray[np.int64]


def choose_channels(graph: Graph) -> None:
    """Rewrite every choice of channels that a convolution can make."""
    choices = _find(graph)
    if choices:
        _Chooser(graph, choices).run()
        graph.sort()


def _find(graph: Graph) -> dict[int, tuple[Tensor, _Choice]]:
    """``id(tensor)`` -> the tensor and what it chooses; a choice from a choice is one from the first map."""
    found: dict[int, tuple[Tensor, _Choice]] = {}
    for node in graph.nodes:
        choice = _slice(node) or _gather(node) or _shuffle(graph, node)
        if choice is None:
            continue
        _, before = found.get(id(choice.x), (None, None))
        if before is not None:
            choice = _Choice(before.x, before.index[choice.index])
        choice = _of_one(choice)
        found[id(node.output)] = node.output, choice
    return found


def _of_one(choice: _Choice) -> _Choice:
    """Take a choice from one of the maps of a Concat as one from that map."""
    node = choice.x.producer
    if node is None or node.op != "Concat" or node.attrs["axis"] != 1:
        return choice
    first = 0
    for x in node.inputs:
        index = choice.index - first
        if index.min() >= 0 and index.max() < x.shape[1] and not x.is_constant:
            return _of_one(_Choice(x, index))
        first += x.shape[1]
    return choice


def _is_map(t: Tensor) -> bool:
    return len(t.shape) == 4 and t.shape[0] == 1 and min(t.shape[2:]) >= MIN_SIZE and t.shape[1] <= MAX_CHANNELS


def _slice(node: Node) -> _Choice | None:
    if node.op != "Slice" or tuple(node.attrs["axes"]) != (1,) or not _is_map(node.inputs[0]):
        return None
    a, x = node.attrs, node.inputs[0]
    return _Choice(x, np.arange(x.shape[1])[slice(a["starts"][0], a["ends"][0], a["steps"][0])])


def _gather(node: Node) -> _Choice | None:
    if node.op != "Gather" or not _is_map(node.inputs[0]) or len(node.inputs) != 2 or len(node.output.shape) != 4:
        return None
    x, index = node.inputs[0], node.inputs[1].data
    if index is None or index.ndim != 1 or node.attrs.get("axis", 0) % 4 != 1:
        return None
    return _Choice(x, np.where(index < 0, index + x.shape[1], index).astype(np.int64))


def _shuffle(graph: Graph, node: Node) -> _Choice | None:
    """Match Reshape, Transpose, Reshape that only changes the order of channels."""
    turn = node.inputs[0].producer if node.op == "Reshape" else None
    split = turn.inputs[0].producer if turn is not None and turn.op == "Transpose" else None
    if turn is None or split is None or split.op != "Reshape":
        return None
    x = split.inputs[0]
    if not _is_map(x) or node.output.shape != x.shape:
        return None
    c, pixels = x.shape[1], math.prod(x.shape[2:])
    moved = np.arange(c * pixels).reshape(split.output.shape).transpose(turn.attrs["perm"]).reshape(c, pixels)
    index = moved[:, 0] // pixels
    same = (moved == index[:, None] * pixels + np.arange(pixels)).all()
    return _Choice(x, index) if same else None


class _Chooser:
    def __init__(self, graph: Graph, choices: dict[int, tuple[Tensor, _Choice]]) -> None:
        self.graph = graph
        self.choices = choices
        self.users = graph.users()
        self.inside = {id(n) for t, _ in choices.values() for n in _way(t)}
        """Nodes that only choose."""

    def run(self) -> None:
        """Make the choices that somebody reads."""
        wanted: dict[int, list[tuple[Tensor, _Choice]]] = {}
        for t, choice in self.choices.values():
            if self._readers(t) or self.graph.is_output(t):
                wanted.setdefault(id(choice.x), []).append((t, choice))
        for group in wanted.values():
            if self._only_parts(group) and self._in_parts(group):
                continue
            for t, choice in group:
                self._by_weights(t, choice)

    def _readers(self, t: Tensor) -> list[Node]:
        return [n for n in self.users.get(id(t), []) if id(n) not in self.inside]

    # -- the layer in parts ---------------------------------------------------------------------------------------
    def _only_parts(self, group: list[tuple[Tensor, _Choice]]) -> bool:
        """Whether all readers of a map want parts of it, together no more than it has."""
        x = group[0][1].x
        if self.graph.is_output(x) or self._readers(x) or sum(len(c.index) for _, c in group) > x.shape[1]:
            return False
        return all(len(c.index) < x.shape[1] for _, c in group)

    def _in_parts(self, group: list[tuple[Tensor, _Choice]]) -> bool:
        """Make the layers behind a map once for each part; False where they cannot be taken apart."""
        way: list[Node] = []
        node = group[0][1].x.producer
        while node is not None:
            way.append(node)
            if node.op == "Conv" and all(t.is_constant for t in node.inputs[1:]) and node.attrs["group"] == 1:
                break
            alone = self.users.get(id(node.inputs[0]), []) == [node] and not self.graph.is_output(node.inputs[0])
            if node.op not in THROUGH or len(node.inputs) != 1 or not alone:
                return False
            node = node.inputs[0].producer
        if node is None:
            return False
        for t, choice in group:
            x = node.inputs[0]
            for layer in reversed(way):
                shape = (1, len(choice.index), *layer.output.shape[2:])
                name = t.name if layer is way[0] else self.graph.fresh(f"{t.name}.{layer.op.lower()}")
                x = self._part(layer, x, choice.index, name, shape)
            self._replace(t, x)
        return True

    def _part(self, layer: Node, x: Tensor, index: NDArray[np.int64], name: str, shape: tuple[int, ...]) -> Tensor:
        constants = [
            self.graph.constant(f"{name}.{i}", np.ascontiguousarray(np.asarray(c.data)[index]))
            for i, c in enumerate(layer.inputs[1:])
        ]
        out = Tensor(name, shape)
        self.graph.nodes.append(Node(layer.op, [x, *constants], [out], dict(layer.attrs), layer.source))
        return out

    # -- weights of the readers -----------------------------------------------------------------------------------
    def _by_weights(self, t: Tensor, choice: _Choice) -> None:
        x, rest = choice.x, []
        for reader in self._readers(t):
            if not self._reads_all(reader, t, choice):
                rest.append(reader)
        if not any(r.op in READERS for r in rest):
            return
        name = self.graph.fresh(f"{t.name}.chosen")
        w = np.zeros((len(choice.index), x.shape[1], 1, 1), np.float32)
        w[np.arange(len(choice.index)), choice.index] = 1
        out = Tensor(name, t.shape)
        attrs = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}
        source = t.producer.source if t.producer is not None else ()
        self.graph.nodes.append(Node("Conv", [x, self.graph.constant(f"{name}.w", w)], [out], attrs, source))
        self._replace(t, out)

    def _reads_all(self, reader: Node, t: Tensor, choice: _Choice) -> bool:
        """Give a convolution of chosen channels weights for all channels."""
        constant = all(i.is_constant for i in reader.inputs[1:])
        if reader.op != "Conv" or reader.inputs[0] is not t or not constant or reader.attrs["group"] != 1:
            return False
        if choice.x.shape[1] > MOST_ZEROS * len(choice.index):
            return False
        w, _ = reader.weights_and_bias()
        whole = np.zeros((w.shape[0], choice.x.shape[1], *w.shape[2:]), np.float32)
        for i, channel in enumerate(choice.index):
            whole[:, channel] += w[:, i]
        reader.inputs[0] = choice.x
        reader.inputs[1] = self.graph.constant(f"{reader.inputs[1].name}.all", whole)
        return True

    def _replace(self, t: Tensor, new: Tensor) -> None:
        """Let readers of a choice read its new form, under the same name."""
        name = t.name
        if new.name != name:
            t.name, new.name = self.graph.fresh(f"{name}.before"), name
        else:
            t.name = self.graph.fresh(f"{name}.before")
        self.graph.replace_uses(t, new)


def _way(t: Tensor) -> list[Node]:
    """Return the nodes of one choice: a slice, a gather, or the three of a shuffle."""
    node = t.producer
    assert node is not None
    if node.op != "Reshape":
        return [node]
    turn = node.inputs[0].producer
    assert turn is not None
    split = turn.inputs[0].producer
    assert split is not None
    return [node, turn, split]
