"""The YOLOv2 region layer as the firmware computes it: float32, in place on the model's first output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
ANCHORS_ASSUMED = 5
"""The firmware counts classes as channels / 5 - 5, whatever the number of anchors."""
OBJECTS = 10
"""Room for results on the board; more overwrite what follows."""


@dataclass(frozen=True, slots=True)
class Found:
    """One object, in pixels of the model's input."""

    x: int
    y: int
    w: int
    h: int
    label: int
    score: float


def class_count(channels: int) -> int:
    """The number of classes that the firmware takes a model with so many channels to have."""
    return channels // ANCHORS_ASSUMED - 5


def needed_floats(channels: int, width: int, height: int, anchors: int) -> int:
    """How many floats the layer reads and writes from the start of the output."""
    return width * height * (class_count(channels) + 5) * anchors


def _sigmoid(x: Floats) -> Floats:
    one = np.float32(1)
    result: Floats = one / (one + np.exp(-x))
    return result


@np.errstate(over="ignore", invalid="ignore")
def run(
    output: Floats,
    grid: tuple[int, int, int],
    image: tuple[int, int],
    anchors: list[float],
    threshold: float,
    nms: float,
) -> list[Found]:
    """Activate ``output`` (float32, flat, at least ``needed_floats`` long) in place and return the objects.

    ``grid`` is (width, height, channels) of the output, ``image`` (width, height) of the input.
    """
    wo, ho, cho = grid
    n, classes, cells = len(anchors) // 2, class_count(cho), wo * ho
    v = output[: n * (classes + 5) * cells].reshape(n, classes + 5, cells)
    for entry in (0, 1, 4):
        v[:, entry] = _sigmoid(v[:, entry])
    scores = v[:, 5:]
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    v[:, 5:] = e / e.sum(axis=1, keepdims=True, dtype=np.float32)
    best = (v[:, 4:5] * v[:, 5:]).transpose(0, 2, 1).reshape(n * cells, classes)
    probability = np.where(best > np.float32(threshold), best, np.float32(0))
    some = np.flatnonzero(probability.any(axis=1))
    if not some.size:
        return []
    probability = probability[some]
    boxes = _boxes(v, some, wo, ho, np.asarray(anchors, np.float32).reshape(n, 2))
    for c in range(classes):
        _suppress(boxes, probability[:, c], np.float32(nms))
    return [_found(boxes[i], probability[i], image) for i in np.flatnonzero(probability.max(axis=1) > threshold)]


def _boxes(v: Floats, some: NDArray[np.intp], wo: int, ho: int, anchors: Floats) -> Floats:
    """Centre and size of the boxes ``some``, as shares of the picture, float32 (k, 4)."""
    anchor, cell = np.divmod(some, wo * ho)
    row, column = np.divmod(cell, wo)
    x, y, w, h = (v[anchor, i, cell] for i in range(4))
    sizes = anchors[anchor]
    return np.stack(
        [
            (column.astype(np.float32) + x) / np.float32(wo),
            (row.astype(np.float32) + y) / np.float32(ho),
            np.exp(w) * sizes[:, 0] / np.float32(wo),
            np.exp(h) * sizes[:, 1] / np.float32(ho),
        ],
        axis=1,
    )


def _suppress(boxes: Floats, scores: Floats, nms: np.float32) -> None:
    """Zero, in place, what overlaps a better box of the class too much. Equal scores: the earlier box counts first."""
    order = [int(i) for i in np.argsort(-scores, kind="stable") if scores[i] > 0]
    for position, i in enumerate(order):
        if scores[i] > 0:
            for j in order[position + 1 :]:
                if scores[j] > 0 and _overlap(boxes[i], boxes[j]) > nms:
                    scores[j] = 0


def _overlap(a: Floats, b: Floats) -> np.float32:
    """Intersection over union, float32."""
    half = np.float32(0.5)
    inner = np.float32(1)
    for i in (0, 1):
        low = max(a[i] - a[i + 2] * half, b[i] - b[i + 2] * half)
        high = min(a[i] + a[i + 2] * half, b[i] + b[i + 2] * half)
        inner *= max(high - low, np.float32(0))
    return np.float32(inner / (a[2] * a[3] + b[2] * b[3] - inner))


def _found(box: Floats, scores: Floats, image: tuple[int, int]) -> Found:
    half = np.float32(0.5)
    low, high = [], []
    for i in (0, 1):
        size = np.float32(image[i])
        low.append(_u32(box[i] * size - box[i + 2] * size * half))
        high.append(_u32(box[i] * size + box[i + 2] * size * half))
    label = int(scores.argmax())
    x, y, w, h = (_i16(t) for t in (low[0], low[1], high[0] - low[0], high[1] - low[1]))
    return Found(x, y, w, h, label, float(scores[label]))


def _u32(value: np.float32) -> int:
    """A float to uint32 as the chip converts: cut off, saturated at both ends."""
    if np.isnan(value):
        return 0xFFFFFFFF
    return int(min(max(float(value), 0.0), 4294967295.0))


def _i16(value: int) -> int:
    """The low 16 bits, signed."""
    return ((value + 0x8000) & 0xFFFF) - 0x8000
