"""A slice of a slice as one slice.

before: ``y = Slice(Slice(x, rows), columns)``, as exporters write ``x[:, :, ::2, ::2]``
after:  ``y = Slice(x, rows and columns)``

Exact: both take the same elements. A slice that others read stays for these.
"""

from __future__ import annotations

from openkpu.graph.ir import Graph


def join_slices(graph: Graph) -> None:
    """Let every slice read what the slice before it reads."""
    for node in list(graph.nodes):
        before = node.inputs[0].producer if node.op == "Slice" else None
        if before is None or before.op != "Slice" or node.attrs.get("cut") or before.attrs.get("cut"):
            continue
        x, part = before.inputs[0], before.output
        taken = [range(d) for d in x.shape]
        for step in (before, node):
            a = step.attrs
            for start, end, axis, by in zip(a["starts"], a["ends"], a["axes"], a["steps"], strict=True):
                taken[axis] = taken[axis][start:end:by]
        axes = [i for i, r in enumerate(taken) if r != range(x.shape[i])] or [0]
        node.inputs[0] = x
        node.attrs |= {
            "starts": tuple(taken[i].start for i in axes),
            "ends": tuple(taken[i].stop if taken[i].stop >= 0 else -x.shape[i] - 1 for i in axes),
            "axes": tuple(axes),
            "steps": tuple(taken[i].step for i in axes),
        }
        if not graph.consumers(part) and not graph.is_output(part):
            graph.nodes.remove(before)
