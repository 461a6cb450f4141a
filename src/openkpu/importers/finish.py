"""The end of every import: outputs under the file's names, nodes in order, invariants checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from openkpu.errors import UnsupportedError
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.importers.onnx_call import Builder


def finish(
    builder: Builder, inputs: Sequence[Tensor], outputs: Mapping[str, Tensor | None], where: str, name: str
) -> Graph:
    """Return the graph that gives ``outputs``, each under its name.

    A tensor that is an input, or an output already, cannot take another name: a Reshape to its own shape stands for it.
    ``UnsupportedError`` E271: an output that does not depend on the input.
    """
    results: list[Tensor] = []
    used: set[int] = set()
    for output, t in outputs.items():
        if t is None or t.is_constant:
            raise UnsupportedError(
                "E271",
                f"output '{output}' does not depend on the input",
                where=where,
                why="it is a constant" if t is not None else "this importer does not give it",
                fix="leave it out: outputs=[...]",
            )
        if t.name != output:
            shared = t.producer is None or t.name in outputs or id(t) in used
            if shared:
                copy = Tensor(output, t.shape, t.dtype)
                builder.nodes.append(Node("Reshape", [t], [copy], {"shape": t.shape}, (output,)))
                t = copy
            else:
                t.name = output
        results.append(t)
        used.add(id(t))
    graph = Graph(list(inputs), results, builder.nodes, name)
    graph.sort()
    graph.validate()
    return graph
