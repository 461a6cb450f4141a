"""The steps of ``KpuMove`` and ``KpuRows``: frames round pictures, layers that use them, layers that copy rows."""

from __future__ import annotations

from openkpu.codegen.assemble import Assembler
from openkpu.codegen.buffers import Buffer
from openkpu.codegen.byte_layers import Shape, full_layer, move_layer, narrow_layer
from openkpu.graph.ir import Node, Tensor
from openkpu.kmodel.program import DType, Memory
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.kpu.layer import KpuLayer
from openkpu.lower.ops import Domain

Part = tuple[int, int, int, int]
"""Top, left, height, width."""


def kpu_move(asm: Assembler, node: Node, *, ai: bool, main: bool) -> None:
    """Append the layers; ``ai``, ``main``: where the result is wanted."""
    a, t = node.attrs, node.output
    x = asm.get(node.inputs[0], Domain.AI)
    zero_point = asm.params(node.inputs[0]).zero_point
    again = a["picture"] if a["picture"] is not None and (zero_point or a["touched"]) else None
    filler = 0 if a["low"] else zero_point
    if again is None:
        _apply(asm, x, a["shift"], a["keep"], a["pool"], filler, t, ai=ai, main=main)
        return
    between = Buffer(Memory.AI, DType.U8, t.shape[1:], f"{t.name}.pooled")
    _apply(asm, x, a["shift"], a["keep"], a["pool"], filler, between, ai=True, main=False)
    _apply(asm, between, (0, 0), again, "none", zero_point, t, ai=ai, main=main)


def kpu_rows(asm: Assembler, node: Node) -> None:
    """Copy rows, a group of channels that share a line at a time: rows of one group are a map of their own."""
    sources = [asm.get(t, Domain.AI) for t in node.inputs]
    if not asm.actions:
        # the first layer of a kmodel says what the picture is, so it reads it whole
        copy = Buffer(Memory.AI, DType.U8, sources[0].shape, f"{sources[0].name}.copy")
        _run(
            asm,
            move_layer(_shape(sources[0]), (0, 0), "none", 0, framed=False, weight_bits=asm.q.weight_bits),
            sources[0],
            copy,
        )
        sources = [copy if b is sources[0] else b for b in sources]
    c, height, w = node.output.shape[1:]
    out = asm.forms[id(node.output), Domain.AI] = asm.buffer(Memory.AI, DType.U8, (c, height, w), node.output)
    whole = FeatureMapLayout(c, height, w)
    at = 0
    zero_point = asm.params(node.inputs[0]).zero_point
    pieces = (node.attrs[k] for k in ("first", "count", "shift"))
    for source, first, count, shift in zip(sources, *pieces, strict=True):
        lay = FeatureMapLayout(*_shape(source))
        for group in range(-(-c // lay.group)):
            channels = min(lay.group, c - group * lay.group)
            bits = asm.q.weight_bits
            layer = move_layer((channels, count, w), (shift, 0), "none", zero_point, framed=False, weight_bits=bits)
            there = group * lay.channel_lines + first * lay.row_lines
            here = group * whole.channel_lines + at * whole.row_lines
            asm.conv(layer, source, out, None, None, source_line=there, target_line=here)
        at += count


def _apply(
    asm: Assembler,
    x: Buffer,
    shift: tuple[int, int],
    keep: Part | None,
    pool: str,
    filler: int,
    result: Tensor | Buffer,
    *,
    ai: bool,
    main: bool,
) -> None:
    shape = _shape(x)
    bits = asm.q.weight_bits
    layer = move_layer(shape, shift, pool, filler, framed=keep is not None, weight_bits=bits)
    source = x if keep is None else asm.beside(_frame(asm, x, keep), x)
    if isinstance(result, Tensor):
        asm.steps.layer(asm, layer, source, result, ai=ai, main=main)
        asm.made[-1] = None  # no tensor of the float model's own
    else:
        asm.conv(layer, source, result, None, None)


def _frame(asm: Assembler, x: Buffer, keep: Part) -> Buffer:
    """Return a new frame for maps of this size: 255 in the part, 0 outside."""
    c, h, w = _shape(x)
    top, left, height, width = keep
    margins = [top, left, h - top - height, w - left - width]
    channels = FeatureMapLayout(c, h, w).group
    bits = asm.q.weight_bits
    shape = channels, h, w
    frame = Buffer(Memory.AI, DType.U8, shape, f"{x.name}.frame")
    # one channel of the map is enough, since the layer ignores it; the kmodel's first layer reads the whole picture
    _run(asm, full_layer((1 if asm.actions else c, h, w), channels, bits), x, frame)
    while any(margins):
        narrower = Buffer(Memory.AI, DType.U8, shape, f"{x.name}.frame")
        sides = margins[0] > 0, margins[1] > 0, margins[2] > 0, margins[3] > 0
        _run(asm, narrow_layer(shape, sides, bits), frame, narrower)
        frame, margins = narrower, [max(0, m - 1) for m in margins]
    return frame


def _run(asm: Assembler, layer: KpuLayer, source: Buffer, target: Buffer) -> None:
    asm.conv(layer, source, target, None, None)


def _shape(b: Buffer) -> Shape:
    c, h, w = b.shape
    return c, h, w
