"""Small drawings for the page: histograms, activation curves, boxes on pictures. Each returns SVG text."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from openkpu.analyze.curve import Curve
    from openkpu.analyze.yolo import Box

WIDTH: Final = 300
HEIGHT: Final = 150


def histogram(counts: Sequence[int], *, width: int = WIDTH, height: int = HEIGHT, axis: bool = True) -> str:
    """Draw counts as bars over 0..255; heights are square roots, so that rare values show."""
    top = max(max(counts), 1) ** 0.5
    room = height - (14 if axis else 0)
    step = width / len(counts)
    bars = "".join(
        f"M{i * step:.1f} {room}h{step - 0.4:.1f}v{-room * n**0.5 / top:.1f}h{-step + 0.4:.1f}z"
        for i, n in enumerate(counts)
        if n
    )
    labels = ""
    if axis:
        ends = ((0, "start", "0"), (width / 2, "middle", "128"), (width, "end", "255"))
        labels = f'<path class="axis" d="M0 {room + 0.5}H{width}"/>' + "".join(
            f'<text x="{x:.0f}" y="{height - 2}" text-anchor="{anchor}">{text}</text>' for x, anchor, text in ends
        )
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="histogram of output bytes"><path class="hist" d="{bars}"/>{labels}</svg>'
    )


def curve(c: Curve, *, width: int = WIDTH, height: int = HEIGHT) -> str:
    """Draw the table against its function, over how often each input occurs."""
    low_x, high_x = c.x[0], c.x[-1]
    low_y, high_y = min(*c.wanted, *c.got), max(*c.wanted, *c.got)
    span = (high_y - low_y) or 1.0
    room = height - 16

    def at(x: float) -> float:
        return (x - low_x) / (high_x - low_x) * width

    def up(y: float) -> float:
        return room - 4 - (y - low_y) / span * (room - 8)

    def line(ys: Iterable[float]) -> str:
        return "M" + "L".join(f"{at(x):.1f} {up(y):.1f}" for x, y in zip(c.x, ys, strict=True))

    step = width / len(c.x)
    density = "".join(
        f"M{at(x) - step / 2:.1f} {room}h{step:.1f}v{-0.5 * room * d**0.5:.1f}h{-step:.1f}z"
        for x, d in zip(c.x, c.density, strict=True)
        if d
    )
    starts = "".join(f'<path class="start" d="M{at(s):.1f} 0V{room}"/>' for s in c.starts)
    ends = ((0, "start", low_x), (width, "end", high_x))
    labels = "".join(
        f'<text x="{x}" y="{height - 2}" text-anchor="{anchor}">{value:.3g}</text>' for x, anchor, value in ends
    )
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="activation table"><path class="hist" d="{density}"/>{starts}'
        f'<path class="axis" d="M0 {room}H{width}"/><path class="wanted" d="{line(c.wanted)}"/>'
        f'<path class="got" d="{line(c.got)}"/>{labels}</svg>'
    )


def photo(
    jpeg: bytes, size: tuple[int, int], kpu: Sequence[Box] = (), reference: Sequence[Box] = (), label: str = ""
) -> str:
    """Show a picture of ``size`` (width, height) with the boxes of the KPU and of the float model."""
    width, height = size
    data = base64.b64encode(jpeg).decode()
    boxes = "".join(_box(b, width, height, kind) for kind, group in (("float", reference), ("kpu", kpu)) for b in group)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label, {chr(34): "&quot;"})}">'
        f'<image href="data:image/jpeg;base64,{data}" width="{width}" height="{height}"/>{boxes}</svg>'
    )


def _box(b: Box, width: int, height: int, kind: str) -> str:
    x, y = b.left * width, b.top * height
    return (
        f'<rect class="box {kind}" x="{x:.1f}" y="{y:.1f}" width="{(b.right - b.left) * width:.1f}" '
        f'height="{(b.bottom - b.top) * height:.1f}"><title>{kind} {b.label} {100 * b.score:.0f} %</title></rect>'
    )
