"""The decoder of the region layer gives the boxes of the photographed board, in the order of the firmware."""

from pathlib import Path

import numpy as np
import pytest

import openkpu
from openkpu.analyze.yolo import decode

pytestmark = pytest.mark.vendor

ANCHORS = (1.08, 1.19, 3.42, 4.41, 6.63, 11.38, 9.42, 5.11, 16.62, 10.52)
BICYCLE, CAR, DOG = 1, 6, 11


def test_boxes_of_the_photograph(vendor: Path) -> None:
    golden = np.load(vendor / "v3" / "v3_nncase010_yolo20.npz")
    (output,) = openkpu.load(vendor / "v3" / "v3_nncase010_yolo20.kmodel").run(golden["dog_input"])
    boxes = decode(output, ANCHORS, classes=20, threshold=0.5, nms=0.2)
    found = [(b.label, *b.pixels(320, 240)) for b in boxes]
    assert found == [(CAR, 181, 36, 235, 77), (DOG, 38, 76, 130, 231), (BICYCLE, 36, 41, 255, 200)]
