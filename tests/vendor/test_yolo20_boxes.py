"""The 20-class YOLO on the picture of the photographed board gives the boxes on the board's display."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import openkpu

pytestmark = pytest.mark.vendor

ANCHORS = np.array([[1.08, 1.19], [3.42, 4.41], [6.63, 11.38], [9.42, 5.11], [16.62, 10.52]], np.float32)
BICYCLE, CAR, DOG = 1, 6, 11  # Pascal VOC
WIDTH, HEIGHT = 320, 240


def boxes(output: np.ndarray, threshold: float, nms: float) -> set[tuple[int, int, int, int, int]]:
    """YOLOv2 region layer: {(class, x1, y1, x2, y2)} in pixels, as the board's demo draws them."""
    anchors, grid_h, grid_w = len(ANCHORS), *output.shape[1:]
    v = output.reshape(anchors, -1, grid_h, grid_w).astype(np.float64)
    sigmoid = 1 / (1 + np.exp(-v[:, [0, 1, 4]]))
    x = (sigmoid[:, 0] + np.arange(grid_w)) / grid_w
    y = (sigmoid[:, 1] + np.arange(grid_h)[:, None]) / grid_h
    w = np.exp(v[:, 2]) * ANCHORS[:, 0, None, None] / grid_w
    h = np.exp(v[:, 3]) * ANCHORS[:, 1, None, None] / grid_h
    e = np.exp(v[:, 5:] - v[:, 5:].max(axis=1, keepdims=True))
    p = (sigmoid[:, 2][:, None] * e / e.sum(axis=1, keepdims=True)).transpose(0, 2, 3, 1).reshape(-1, v.shape[1] - 5)
    corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=-1).reshape(-1, 4)
    p = np.where(p > threshold, p, 0)
    for c in range(p.shape[1]):
        order = np.argsort(-p[:, c])
        for i, a in enumerate(order):
            if p[a, c] > 0:
                rest = order[i + 1 :]
                p[rest[iou(corners[a], corners[rest]) > nms], c] = 0
    size = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
    return {(int(p[i].argmax()), *(int(t) for t in corners[i] * size)) for i in np.flatnonzero(p.max(axis=1))}


def iou(a: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of one box with many, corners (x1, y1, x2, y2)."""
    low, high = np.maximum(a[:2], others[:, :2]), np.minimum(a[2:], others[:, 2:])
    inner = np.prod(np.maximum(high - low, 0), axis=1)
    return inner / (np.prod(a[2:] - a[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - inner)


def test_boxes_of_the_photograph(vendor: Path) -> None:
    golden = np.load(vendor / "v3" / "v3_nncase010_yolo20.npz")
    (output,) = openkpu.load(vendor / "v3" / "v3_nncase010_yolo20.kmodel").run(golden["dog_input"])
    assert boxes(output, 0.5, 0.2) == {(CAR, 181, 36, 235, 77), (DOG, 38, 76, 130, 231), (BICYCLE, 36, 41, 255, 200)}
