"""Run single tensor operators of a lowered graph on batches, in onnxruntime: their meaning is the float reference's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.float.session import FloatSession
from openkpu.graph.ir import Graph, Node, Tensor

Array = NDArray[Any]


class TensorRunner:
    """Keeps a session for each operator."""

    def __init__(self) -> None:
        self._sessions: dict[int, tuple[Node, FloatSession]] = {}

    def run(self, node: Node, inputs: list[Array]) -> Array:
        """Run a float operator. Inputs of computed tensors have a batch in front, constants have not."""
        session = self._session(node)
        computed = {
            f"input{i}": (a, t) for i, (a, t) in enumerate(zip(inputs, node.inputs, strict=True)) if t.data is None
        }
        n = len(next(iter(computed.values()))[0])
        results = []
        for k in range(n):
            feeds = {name: np.asarray(a[k], np.float32).reshape(t.shape) for name, (a, t) in computed.items()}
            results.append(session.run(feeds)["output"])
        return np.stack(results).reshape(batched(node.output.shape, n))

    def move(self, node: Node, inputs: list[NDArray[np.uint8]], zero_point: int) -> NDArray[np.uint8]:
        """Run an operator that moves bytes; where it puts zeros in, the zero point goes."""
        base = zero_point if node.op == "TensorPad" else 0
        moved = self.run(node, [np.asarray(a, np.float32) - base for a in inputs]) + base
        if node.op == "TensorResize" and node.attrs["mode"] == "linear":
            moved = np.floor(moved + node.attrs["before_floor"])
        return np.asarray(moved, np.uint8)

    def _session(self, node: Node) -> FloatSession:
        found = self._sessions.get(id(node))
        if found is None:
            inputs = [
                Tensor(f"input{i}", t.shape, "float32", t.data) if t.data is not None else Tensor(f"input{i}", t.shape)
                for i, t in enumerate(node.inputs)
            ]
            output = Tensor("output", node.output.shape, node.output.dtype)
            single = Node(node.op, inputs, [output], node.attrs, node.source)
            graph = Graph([t for t in inputs if t.data is None], [output], [single], node.label)
            found = self._sessions[id(node)] = (node, FloatSession(graph))
        return found[1]


def batched(shape: tuple[int, ...], n: int) -> tuple[int, ...]:
    """Return the shape of ``n`` values of a shape, whose leading 1 (if it has one) becomes n."""
    return (n, *shape[1:]) if len(shape) > 1 and shape[0] == 1 else (n, *shape)
