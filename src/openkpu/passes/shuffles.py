"""DepthToSpace and SpaceToDepth as a reshape, a transpose and a reshape: bytes that move once.

before: ``y = DepthToSpace(x)`` or ``SpaceToDepth(x)`` with blocks of s
after:  ``y = Reshape(Transpose(Reshape(x)))``

Exact: that is what they are. The transpose runs on bytes (its mark ``bytes``), never through floats.
"""

from __future__ import annotations

from typing import Final

from openkpu.graph.ir import Graph, Node, Tensor

DCR: Final = "DCR"
"""Channels in the order (sy, sx, c) (ONNX's default, TensorFlow)."""
CRD: Final = "CRD"
"""Channels in the order (c, sy, sx) (PyTorch's PixelShuffle)."""


def write_out_shuffles(graph: Graph) -> None:
    """Rewrite every DepthToSpace and SpaceToDepth."""
    for node in [n for n in graph.nodes if n.op in ("DepthToSpace", "SpaceToDepth")]:
        x, out = node.inputs[0], node.output
        s = node.attrs["blocksize"]
        if len(x.shape) != 4 or x.shape[0] != 1:
            continue
        if node.op == "DepthToSpace":
            order = CRD if node.attrs.get("mode") == "CRD" else DCR
            made = interleaved(x, out, (s, s), order, node.source)
        else:
            made = _apart(x, out, s, node.source)
        at = graph.nodes.index(node)
        graph.nodes[at : at + 1] = made


def interleaved(x: Tensor, out: Tensor, blocks: tuple[int, int], order: str, source: tuple[str, ...]) -> list[Node]:
    """Return the nodes that put channels (in the order DCR or CRD) between the pixels: ``out`` is sy by sx larger."""
    (sy, sx), (h, w) = blocks, x.shape[2:]
    c = out.shape[1]
    if (sy, sx) == (1, 1):
        return [Node("Reshape", [x], [out], {"shape": out.shape}, source)]
    if order == CRD:
        return _moved(x, out, (1, c, sy, sx, h, w), (0, 1, 4, 2, 5, 3), source)
    return _moved(x, out, (1, sy, sx, c, h, w), (0, 3, 4, 1, 5, 2), source)


def _apart(x: Tensor, out: Tensor, s: int, source: tuple[str, ...]) -> list[Node]:
    """Return the nodes that put the pixels of a block into channels (sy, sx, c)."""
    c, (h, w) = x.shape[1], x.shape[2:]
    return _moved(x, out, (1, c, h // s, s, w // s, s), (0, 3, 5, 1, 2, 4), source)


def _moved(
    x: Tensor, out: Tensor, shape: tuple[int, ...], perm: tuple[int, ...], source: tuple[str, ...]
) -> list[Node]:
    split = Tensor(f"{out.name}.split", shape)
    turned = Tensor(f"{out.name}.turned", tuple(shape[i] for i in perm))
    return [
        Node("Reshape", [x], [split], {"shape": shape}, source),
        Node("Transpose", [split], [turned], {"perm": perm, "bytes": True}, source),
        Node("Reshape", [turned], [out], {"shape": out.shape}, source),
    ]


def cropped(x: Tensor, out: Tensor, source: tuple[str, ...]) -> Node:
    """Return the node that keeps the first rows and columns of a map."""
    attrs = {"starts": (0, 0), "ends": out.shape[2:], "axes": (2, 3), "steps": (1, 1)}
    return Node("Slice", [x], [out], attrs, source)
