"""Rules for KPU layers and for what brings their results to main RAM.

V3 and V4 layers write main RAM themselves, V5 downloads. V4's runtime copies from AI RAM, so the map stays there; of V3
that is not known, so a layer whose map is read in both places runs twice.
"""

from __future__ import annotations

from dataclasses import replace

from openkpu.codegen.gaps import is_read
from openkpu.codegen.identity import identity_layer
from openkpu.codegen.retarget import U8, Rewriter
from openkpu.k210 import AI_LINE_BYTES
from openkpu.kmodel import program as p
from openkpu.kmodel.program import KpuConv, Operand
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.kpu.layer import KpuLayer


def conv(r: Rewriter, s: KpuConv) -> None:
    """The layer itself stays as it is."""
    if r.version > 3 and s.layer.weights.itemsize == 2:
        raise r.refuse("its weights have 16 bits, which V4 and V5 cannot say")
    main = r.at(s.main_output) if s.main_output is not None else None
    if r.version == 5:
        r.add(replace(s, main_output=None, flags=0))
        if main is not None:
            r.add(p.KpuDownload(input=s.output, output=_map(main, s.output)))
        return
    if r.version == 4:
        r.add(replace(s, main_output=main, flags=0))
        return
    for i in range(s.batches):
        one = _picture(s, i)
        if main is not None:
            size = s.layer.output_shape[0] * s.layer.output_shape[1] * s.layer.output_shape[2]
            place = Operand(main.memory, main.start + i * size, main.dtype, s.layer.output_shape)
            r.add(KpuConv(layer=one, main_output=place, flags=1))
        if main is None or is_read(r.source, s.output, r.position):
            r.add(KpuConv(layer=one))


def _map(main: Operand, ai: Operand) -> Operand:
    return replace(main, shape=ai.shape)


def _picture(s: KpuConv, i: int) -> KpuLayer:
    """Return the layer for picture ``i`` of the batch."""
    reg = s.layer.registers
    src, dst = (
        FeatureMapLayout(*shape).bytes // AI_LINE_BYTES for shape in (s.layer.input_shape, s.layer.output_shape)
    )
    moved = replace(reg, image_src_addr=reg.image_src_addr + i * src, image_dst_addr=reg.image_dst_addr + i * dst)
    return replace(s.layer, registers=moved)


def download(r: Rewriter, s: p.KpuDownload) -> None:
    """V5 downloads; before, a layer writes main RAM: one that copies the map byte for byte."""
    out = r.at(s.output)
    if r.version == 5:
        r.add(replace(s, output=out))
        return
    *batch, c, h, w = s.input.shape
    before = r.steps[-1] if r.steps else None
    if isinstance(before, KpuConv) and before.main_output is None and before.output == s.input and not batch:
        place = replace(out, shape=s.input.shape)
        if r.version == 4:
            r.steps[-1] = replace(before, main_output=place)
            return
        r.steps[-1] = replace(before, main_output=place, flags=1)
        if is_read(r.source, s.input, r.position):
            r.add(replace(before, main_output=None, flags=0))
        return
    if min(h, w) < 4:
        raise r.refuse(f"a map of {w}x{h} that no layer wrote just before cannot be brought to main RAM by the KPU")
    layer = identity_layer((c, h, w))
    copy = r.scratch(U8, (c, h, w), p.Memory.AI)
    size = FeatureMapLayout(c, h, w).bytes
    for i in range(batch[0] if batch else 1):
        registers = replace(
            layer.registers,
            image_src_addr=(s.input.start + i * size) // AI_LINE_BYTES,
            image_dst_addr=copy.start // AI_LINE_BYTES,
        )
        place = Operand(out.memory, out.start + i * c * h * w, U8, (c, h, w))
        r.add(KpuConv(layer=replace(layer, registers=registers), main_output=place, flags=int(r.version == 3)))
