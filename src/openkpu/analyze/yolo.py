"""Boxes from the output of a YOLOv2 network: the region layer as MaixPy and the Kendryte SDK compute it.

The output is (anchors * (5 + classes), grid height, grid width), channel after channel: for every anchor x, y, width,
height, objectness and one value a class. Sigmoid on x, y and objectness, softmax over the classes; the box's centre
is the cell plus (x, y), its size exp(width, height) times the anchor, all in cells. A class counts where objectness
times its share is above ``threshold``; of boxes of one class that overlap by more than ``nms`` (intersection over
union) the best stays. Each box then has its best class. MaixPy itself takes five anchors for granted when it counts
the classes; here the anchors decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Box:
    """One object. Coordinates are fractions of the picture, corners (left, top) and (right, bottom); not clipped."""

    label: int
    score: float
    left: float
    top: float
    right: float
    bottom: float

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return (left, top, right, bottom) in pixels as the board computes them: cut off, and not below 0."""
        sides = (self.left * width, self.top * height, self.right * width, self.bottom * height)
        left, top, right, bottom = (int(min(max(0.0, side), float(1 << 31))) for side in sides)
        return left, top, right, bottom


@np.errstate(over="ignore", invalid="ignore")
def decode(
    output: NDArray[Any],
    anchors: Sequence[float],
    *,
    classes: int | None = None,
    threshold: float = 0.5,
    nms: float = 0.3,
) -> list[Box]:
    """Return the boxes in a YOLOv2 output, float (channels, grid height, grid width), in the board's order.

    ``anchors`` is width, height, width, height ... in cells. ``classes`` only checks the number of channels.
    ``InputError`` E433 says what does not fit.
    """
    v = _planes(output, anchors, classes, threshold, nms)
    n, _, rows, columns = v.shape
    sizes = np.asarray(anchors, np.float64).reshape(n, 2)
    x, y, objectness = (1 / (1 + np.exp(-v[:, i])) for i in (0, 1, 4))
    cx, cy = (x + np.arange(columns)) / columns, (y + np.arange(rows)[:, None]) / rows
    w = np.exp(v[:, 2]) * sizes[:, 0, None, None] / columns
    h = np.exp(v[:, 3]) * sizes[:, 1, None, None] / rows
    e = np.exp(v[:, 5:] - v[:, 5:].max(axis=1, keepdims=True))
    share = e / e.sum(axis=1, keepdims=True)
    scores = (objectness[:, None] * share).transpose(0, 2, 3, 1).reshape(-1, share.shape[1])
    corners = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], axis=-1).reshape(-1, 4)
    scores[~(scores > threshold)] = 0
    for c in range(scores.shape[1]):
        _suppress(corners, scores[:, c], nms)
    return [
        Box(int(scores[i].argmax()), float(scores[i].max()), *(float(t) for t in corners[i]))
        for i in np.flatnonzero(scores.max(axis=1))
    ]


def _planes(
    output: NDArray[Any], anchors: Sequence[float], classes: int | None, threshold: float, nms: float
) -> Floats:
    """Check everything; return the output as float64 (anchors, 5 + classes, rows, columns)."""
    n, odd = divmod(len(anchors), 2)
    a = np.asarray(output)
    if n == 0 or odd or not np.isfinite(anchors).all() or min(anchors) <= 0:
        _refuse(
            "the anchors", f"{len(anchors)} numbers: {list(anchors)}", "give width,height of each anchor, all above 0"
        )
    if not (0 <= threshold <= 1 and 0 <= nms <= 1):
        _refuse("the limits", f"threshold {threshold}, nms {nms}", "give numbers from 0 to 1")
    if a.ndim != 3 or not np.issubdtype(a.dtype, np.floating):
        _refuse(
            "the output",
            f"{a.dtype} {a.shape}, not float (channels, rows, columns)",
            "use a model with a YOLOv2 output",
        )
    found, rest = divmod(a.shape[0], n)
    if rest or found < 6 or (classes is not None and classes != found - 5):
        wanted = "a whole number of classes" if classes is None else f"{classes} classes"
        _refuse(
            "the channels",
            f"{a.shape[0]} channels and {n} anchors do not give {wanted}: an anchor has 5 + classes",
            "check the number of anchors and classes",
        )
    return a.astype(np.float64).reshape(n, found, *a.shape[1:])


def _suppress(corners: Floats, scores: Floats, nms: float) -> None:
    """Set the score of every box to 0 that overlaps a better one too much (in place, one class)."""
    order = [int(i) for i in np.argsort(-scores, kind="stable") if scores[i] > 0]
    for position, best in enumerate(order):
        if scores[best] > 0:
            rest = order[position + 1 :]
            scores[[i for i in rest if _overlap(corners[best], corners[i]) > nms]] = 0


def _overlap(a: Floats, b: Floats) -> float:
    """Intersection over union."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    inner = float(np.prod(np.maximum(high - low, 0)))
    return inner / (float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - inner)


def _refuse(where: str, why: str, fix: str) -> None:
    raise InputError("E433", "this output cannot be read as YOLOv2 boxes", where=where, why=why, fix=fix)
