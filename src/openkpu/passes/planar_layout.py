"""Turn a graph that keeps pictures as (1, H, W, C) into one that keeps them as (1, C, H, W), as the KPU does.

before: ``Conv(Transpose(Relu(Transpose(Conv(x), to HWC)), to CHW))``
after:  ``Conv(Relu(Conv(x)))``

Exact: element-wise operators, concatenations, pads, slices, softmaxes and means do the same in either order, with their
axes renumbered; so they work on the planar picture wherever there is one, and transposes back and forth meet and go.
Exporters of TensorFlow and Keras leave such graphs. A model's input that reaches convolutions only through a transpose
becomes planar itself. Columns and rows that are repeated by Reshape, Tile, Reshape (Keras' upsampling) become a Resize,
also where one Reshape ends one repetition and begins the next (as TensorFlow Lite's converter joins them).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from openkpu.graph.elementwise import BINARY, UNARY
from openkpu.graph.ir import Graph, Node, Tensor

TO_PLANAR: Final = (0, 3, 1, 2)
TO_PLAIN: Final = (0, 2, 3, 1)
AXIS: Final = (0, 2, 3, 1)
"""Where dimension 0, 1, 2, 3 of (1, H, W, C) is in (1, C, H, W)."""
REPEATED: Final = {"mode": "nearest", "coordinate": "asymmetric", "rounding": "floor"}
"""The Resize that copies each pixel a whole number of times."""
FUNCTIONS: Final = frozenset(
    (
        *UNARY,
        "Relu",
        "Clip",
        "LeakyRelu",
        "Elu",
        "HardSigmoid",
        "HardSwish",
        "Silu",
        "Mish",
        "ThresholdedRelu",
    )
)
MOVERS: Final = frozenset((*FUNCTIONS, *BINARY, "PRelu", "Concat", "Pad", "Slice", "Softmax"))
"""Operators that do the same in either order of dimensions."""


def planar_layout(graph: Graph) -> None:
    """Rewrite the graph where it has transposes between the two orders."""
    if any(_turns(n, TO_PLANAR) for n in graph.nodes):
        _Layout(graph).run()
        graph.sort()


def _turns(node: Node, perm: tuple[int, ...]) -> bool:
    return node.op == "Transpose" and tuple(node.attrs["perm"]) == perm


class _Layout:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.planar: dict[int, Tensor] = {}
        """Planar form of a (1, H, W, C) tensor, by its id."""
        self.plain: list[Tensor] = []  # keeps the ids of ``planar`` alive
        self.users = graph.users()
        self.names = {t.name for n in graph.nodes for t in (*n.inputs, *n.outputs)}

    def run(self) -> None:
        """Visit every node once, in order."""
        for i, t in enumerate(self.graph.inputs):
            if len(t.shape) == 4 and not self.graph.is_output(t) and self._leads_to_planar(t):
                n, h, w, c = t.shape
                source = Tensor(t.name, (n, c, h, w), t.dtype)
                t.name = self._fresh(f"{t.name}.nhwc")
                self.graph.inputs[i] = source
                self._remember(t, source)
                self.nodes.append(Node("Transpose", [source], [t], {"perm": TO_PLAIN}))
        for node in self.graph.nodes:
            for part in self._apart(node):
                self._visit(part)
        self.graph.nodes = self.nodes

    def _leads_to_planar(self, t: Tensor) -> bool:
        """Whether a tensor is turned planar somewhere behind operators that do not mind the order."""
        seen: set[int] = set()
        stack = [t]
        while stack:
            t = stack.pop()
            for user in self.users.get(id(t), []):
                if _turns(user, TO_PLANAR):
                    return True
                if user.op in MOVERS and id(user) not in seen:
                    seen.add(id(user))
                    stack.append(user.output)
        return False

    def _fresh(self, stem: str) -> str:
        name, i = stem, 1
        while name in self.names:
            i += 1
            name = f"{stem}.{i}"
        self.names.add(name)
        return name

    def _remember(self, plain: Tensor, planar: Tensor) -> None:
        self.planar[id(plain)] = planar
        self.plain.append(plain)

    def _apart(self, node: Node) -> tuple[Node, ...]:
        """Return a Reshape between two repetitions as two with a picture between them; other nodes as they are."""
        shape = node.output.shape if node.op == "Reshape" else ()
        before = node.inputs[0].producer if node.inputs else None
        after = self.users.get(id(node.output), []) if shape else []
        if len(shape) != 5 or not _repeats(before) or len(after) != 1 or not _repeats(after[0]):
            return (node,)
        one = next((i for i, (a, b) in enumerate(zip(shape, after[0].output.shape, strict=False)) if a != b), 0)
        picture = Tensor(self._fresh(f"{node.output.name}.picture"), shape[:one] + shape[one + 1 :], node.output.dtype)
        first = Node("Reshape", [node.inputs[0]], [picture], {"shape": picture.shape}, node.source)
        return first, Node("Reshape", [picture], node.outputs, node.attrs, node.source)

    def _visit(self, node: Node) -> None:
        if _turns(node, TO_PLAIN):
            self._remember(node.output, node.inputs[0])
            self.nodes.append(node)
        elif _turns(node, TO_PLANAR) and id(node.inputs[0]) in self.planar:
            self._meet(node, self.planar[id(node.inputs[0])])
        elif node.op in MOVERS and self._fits(node):
            self._move(node)
        elif node.op == "ReduceMean" and self._mean(node):
            pass
        elif not (node.op == "Reshape" and self._stretch(node)):
            self.nodes.append(node)

    def _meet(self, node: Node, source: Tensor) -> None:
        """Let readers of a transpose read what it would bring back."""
        out = node.output
        if self.graph.is_output(out):
            free = source.producer is not None and not self.graph.is_output(source)
            if not free:
                self.nodes.append(node)
                return
            source.name = out.name
        self.graph.outputs = [source if t is out else t for t in self.graph.outputs]
        for reader in self.users.get(id(out), []):
            reader.inputs = [source if t is out else t for t in reader.inputs]
        if id(source) in self.users or source.producer is not None:
            self.users.setdefault(id(source), []).extend(self.users.get(id(out), []))

    def _fits(self, node: Node) -> bool:
        """Whether an operator has a planar picture to work on, and everything else can be turned so."""
        computed = [t for t in node.inputs if not t.is_constant]
        return (
            len(node.output.shape) == 4
            and any(id(t) in self.planar for t in computed)
            and all(len(t.shape) == 4 for t in computed)
            and all(len(t.shape) <= 4 for t in node.inputs)
        )

    def _move(self, node: Node) -> None:
        operands = [self._operand(t, node) for t in node.inputs]
        self._emit(node.op, operands, node, _attributes(node))

    def _operand(self, t: Tensor, node: Node) -> Tensor:
        if t.data is not None:
            data = np.asarray(t.data)
            if data.size == 1:
                return t
            full = data.reshape((1,) * (4 - data.ndim) + data.shape)
            return self.graph.constant(f"{t.name}.planar", np.ascontiguousarray(full.transpose(TO_PLANAR)))
        if id(t) not in self.planar:
            turned = Tensor(self._fresh(f"{t.name}.planar"), tuple(t.shape[p] for p in TO_PLANAR), t.dtype)
            self.nodes.append(Node("Transpose", [t], [turned], {"perm": TO_PLANAR}, node.source))
            self._remember(t, turned)
        return self.planar[id(t)]

    def _emit(self, op: str, operands: Sequence[Tensor], node: Node, attrs: dict[str, Any]) -> None:
        """Compute a node's output as a planar picture, and turn it back for who still wants it so."""
        out = node.output
        shape = tuple(out.shape[p] for p in TO_PLANAR)
        if self.graph.is_output(out):
            planar = Tensor(self._fresh(f"{out.name}.planar"), shape, out.dtype)
        else:
            planar = Tensor(out.name, shape, out.dtype)
            out.name = self._fresh(f"{out.name}.nhwc")
        self.nodes.append(Node(op, list(operands), [planar], attrs, node.source))
        self.nodes.append(Node("Transpose", [planar], [out], {"perm": TO_PLAIN}, node.source))
        self._remember(out, planar)

    def _mean(self, node: Node) -> bool:
        """Take the mean over H and W of a planar picture."""
        x = self.planar.get(id(node.inputs[0]))
        if x is None or tuple(node.attrs["axes"]) != (1, 2):
            return False
        out = node.output
        pooled = Tensor(self._fresh(f"{out.name}.mean"), (*x.shape[:2], 1, 1))
        self.nodes.append(Node("GlobalAveragePool", [x], [pooled], {}, node.source))
        self.nodes.append(Node("Reshape", [pooled], [out], {"shape": out.shape}, node.source))
        if len(out.shape) == 4:
            self._remember(out, pooled)
        return True

    def _stretch(self, node: Node) -> bool:
        """Write the last of Reshape, Tile, Reshape as a Resize of a planar picture."""
        tile = node.inputs[0].producer
        turned = tile is not None and tile.op == "Transpose" and tuple(tile.attrs["perm"]) == (0, 2, 3, 4, 1)
        if tile is not None and turned:  # the channels went last on the way
            tile = tile.inputs[0].producer
        spread = tile.inputs[0].producer if tile is not None and _repeats(tile) else None
        if tile is None or spread is None or spread.op != "Reshape" or len(spread.output.shape) != 5:
            return False
        source = spread.inputs[0]
        x = source if turned else self.planar.get(id(source))
        if x is None or len(source.shape) != 4:
            return False
        for axis in (2, 3) if turned else (1, 2):
            count = tile.output.shape[axis + 1]
            head, tail = source.shape[: axis + 1], source.shape[axis + 1 :]
            result = list(source.shape)
            result[axis] *= count
            if turned:
                result = [result[a] for a in TO_PLAIN]
            shapes = spread.output.shape, tile.output.shape, node.output.shape
            if shapes == ((*head, 1, *tail), (*head, count, *tail), tuple(result)):
                x = _unrepeated(x)  # rows and columns at once
                self._emit("Resize", [x], node, dict(REPEATED))
                return True
        return False


def _unrepeated(x: Tensor) -> Tensor:
    """Return the picture that ``x`` repeats the pixels of, or ``x`` itself."""
    node = x.producer
    if node is None or node.op != "Resize" or node.attrs != REPEATED:
        return x
    small = node.inputs[0]
    return x if any(b % a for a, b in zip(small.shape, x.shape, strict=True)) else small


def _repeats(node: Node | None) -> bool:
    return node is not None and node.op in ("Tile", "Expand")


def _attributes(node: Node) -> dict[str, Any]:
    """Return a node's attributes with its axes renumbered."""
    attrs = dict(node.attrs)
    if "axis" in attrs:
        attrs["axis"] = AXIS[attrs["axis"]]
    if node.op == "Slice":
        attrs["axes"] = tuple(AXIS[a] for a in attrs["axes"])
    if node.op == "Pad":
        pads = attrs["pads"]
        attrs["pads"] = tuple(pads[i + a] for i in (0, 4) for a in TO_PLANAR)
    return attrs
