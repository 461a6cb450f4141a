"""What to do about accuracy: which layers lose it, why, and the change that helps, in a few sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from openkpu.analyze.study import LayerStudy

MOST: Final = 6


def accuracy_advice(layers: Sequence[LayerStudy]) -> list[str]:
    """Return the sentences: layers that lose much themselves, values cut off, functions that 16 segments miss."""
    found = []
    weak = sorted((layer for layer in layers if layer.alone_db < 25), key=lambda layer: layer.alone_db)[:3]
    for layer in weak:
        found.append(
            f"{layer.layer} alone reaches only {layer.alone_db:.1f} dB: its values or weights span more than 8 bits "
            "can hold. More typical calibration pictures, or training with smaller weights there, help most."
        )
    for layer in layers:
        if layer.at_limits[1] > 0.01:
            found.append(
                f"{layer.layer} is at its upper limit for {100 * layer.at_limits[1]:.1f} % of its values: the "
                "calibration pictures did not show values as large as these."
            )
    for layer in layers:
        if layer.curve is not None and layer.curve.worst > 6:
            found.append(
                f"The 16 segments of {layer.layer} miss its function by up to {layer.curve.worst:.0f} of 255 counts; "
                "a function with fewer bends fits better."
            )
    return found[:MOST]
