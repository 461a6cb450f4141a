"""The quantisation of a tensor whose bytes were only moved: of the same numbers, in other places."""

from __future__ import annotations

import numpy as np

from openkpu.graph.ir import Node
from openkpu.quantize.params import QParams


def moved(sources: list[QParams], node: Node) -> QParams:
    """Return the parameters of a movement's result. Where channels mix, the sources are all the same."""
    shape = node.output.shape
    channels = shape[1] if len(shape) > 1 else 1
    if node.op == "TensorConcat" and node.attrs["axis"] == 1 and shape[0] == 1:
        return QParams.side_by_side(sources)
    p = sources[0]
    if p.is_uniform:
        return QParams(np.full(channels, p.scale[0]), p.zero_point, np.full(channels, p.offset[0]))
    if node.op == "TensorSlice" and len(shape) > 1:
        begin, end, stride = (node.attrs[k][1] for k in ("begin", "end", "stride"))
        taken = list(range(begin, end, stride))
        return QParams(p.scale[taken], p.zero_point, p.offset[taken])
    return p
