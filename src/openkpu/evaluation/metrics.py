"""Figures of merit from what was found and what is there: shares of right classes, mean average precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openkpu.evaluation.dataset import Truth

Detection = tuple[int, float, float, float, float, float]
"""(class, score, left, top, right, bottom), sides as fractions of the picture."""


def share_interval(right: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share: what luck in choosing the pictures may have done."""
    if of == 0:
        return 0.0, 1.0
    p = right / of
    centre, spread = p + z * z / (2 * of), z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    return max(0.0, (centre - spread) / (1 + z * z / of)), min(1.0, (centre + spread) / (1 + z * z / of))


@dataclass(frozen=True, slots=True)
class ClassPrecision:
    """Average precision of one class; ``objects`` of it are in the pictures."""

    label: int
    objects: int
    precision: float


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inner = width * height
    return inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner)


def average_precisions(
    found: Sequence[Sequence[Detection]], truth: Sequence[Sequence[Truth]], iou: float, *, points: int | None = None
) -> list[ClassPrecision]:
    """Return the average precision of every class that is in the pictures.

    Detections of a class are taken by falling score; one is right if it overlaps a free object of its class by at
    least ``iou`` (the best such object counts). ``points`` None: the area under the falling hull of precision over
    recall (Pascal VOC 2010 on); a number: the mean of the hull at so many evenly spaced recalls (COCO: 101).
    """
    labels = sorted({t.label for picture in truth for t in picture if not t.ignore})
    return [_class_precision(label, found, truth, iou, points) for label in labels]


def _class_precision(
    label: int,
    found: Sequence[Sequence[Detection]],
    truth: Sequence[Sequence[Truth]],
    iou: float,
    points: int | None,
) -> ClassPrecision:
    objects = [[t for t in picture if t.label == label] for picture in truth]
    total = sum(not t.ignore for picture in objects for t in picture)
    ranked = sorted(
        ((d[1], i, d[2:]) for i, picture in enumerate(found) for d in picture if d[0] == label),
        key=lambda r: (-r[0], r[1], r[2]),
    )
    taken = [[False] * len(picture) for picture in objects]
    marks = []
    for _, picture, box in ranked:
        there = objects[picture]
        overlaps = [overlap(box, t.box) for t in there]
        # a free object that counts is preferred to one that is ignored, however the boxes lie
        order = sorted(range(len(there)), key=lambda k: (there[k].ignore, -overlaps[k]))
        hit = next((k for k in order if overlaps[k] >= iou and not taken[picture][k]), None)
        if hit is None:
            marks.append(0)
        elif not there[hit].ignore:
            taken[picture][hit] = True
            marks.append(1)
    return ClassPrecision(label, total, _area(np.array(marks, np.int64), total, points))


def _area(marks: NDArray[np.int64], total: int, points: int | None) -> float:
    if not len(marks):
        return 0.0
    right = np.cumsum(marks)
    recall, precision = right / total, right / np.arange(1, len(marks) + 1)
    hull = np.maximum.accumulate(precision[::-1])[::-1]
    if points is None:
        steps = np.diff(recall, prepend=0.0)
        return float((steps * hull).sum())
    at = np.searchsorted(recall, np.linspace(0, 1, points) - 1e-12)
    return float(np.where(at < len(hull), hull[np.minimum(at, len(hull) - 1)], 0).mean())
