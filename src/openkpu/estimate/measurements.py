"""Times that people measured on a K210 and published, with where they wrote them.

Layer times are what the model of the KPU is fitted to. Where the network's shapes were not published with a time, they
follow from the times themselves: a thread of three logs by one author (issues 95, 96 and 97 of nncase) names a picture
of 320x240 and layers of 16 channels; only layers on the halved picture explain all its KPU times with one cycle a line,
the Dequantize that follows each, and the same author's known slim-320 (whose second layer takes 0.04 ms there too).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from openkpu.estimate.kpu import Work

NNCASE: Final = "https://github.com/kendryte/nncase/issues/"
SIPEED: Final = "https://bbs.sipeed.com/t/topic/691"


@dataclass(frozen=True, slots=True)
class LayerMeasurement:
    """One KPU layer on the chip. ``runtime``: V3, V4, or raw (the KPU driven directly)."""

    name: str
    us: float
    work: Work
    runtime: str
    kpu_mhz: int
    cpu_mhz: int
    source: str


def _face_detect() -> list[LayerMeasurement]:
    """The 22 layers of the SDK's face detection demo that stay in AI RAM; the demo sets 400 MHz."""
    layers = (
        (206, Work(3, 240, 320, 16, 3)),
        (39, Work(16, 120, 160, 16, 3, True)),
        (514, Work(16, 120, 160, 32, 1)),
        (29, Work(32, 60, 80, 32, 3, True)),
        (680, Work(32, 60, 80, 64, 1)),
        (53, Work(64, 60, 80, 64, 3, True)),
        (1328, Work(64, 60, 80, 64, 1)),
        (20, Work(64, 30, 40, 64, 3, True)),
        (704, Work(64, 30, 40, 128, 1)),
        (34, Work(128, 30, 40, 128, 3, True)),
        (1385, Work(128, 30, 40, 128, 1)),
        (16, Work(128, 15, 20, 128, 3, True)),
        (781, Work(128, 15, 20, 256, 1)),
        (25, Work(256, 15, 20, 256, 3, True)),
        (1522, Work(256, 15, 20, 256, 1)),
        (26, Work(256, 15, 20, 256, 3, True)),
        (1521, Work(256, 15, 20, 256, 1)),
        (26, Work(256, 15, 20, 256, 3, True)),
        (1521, Work(256, 15, 20, 256, 1)),
        (26, Work(256, 15, 20, 256, 3, True)),
        (1521, Work(256, 15, 20, 256, 1)),
        (25, Work(256, 15, 20, 256, 3, True)),
    )
    return [
        LayerMeasurement(f"face-detect layer {i}", us, work, "V3", 400, 400, f"{NNCASE}77")
        for i, (us, work) in enumerate(layers)
    ]


def _sipeed() -> list[LayerMeasurement]:
    """128 to 128 channels, 3x3, 16-bit weights, pictures of ten sizes; CPU 500 MHz, KPU 300 MHz."""
    times = (
        (4, 4, 339),
        (16, 4, 339),
        (16, 16, 417),
        (32, 16, 692),
        (32, 32, 1138),
        (64, 32, 2125),
        (64, 64, 3891),
        (128, 64, 7709),
        (128, 128, 14778),
        (256, 256, 57756),
    )
    return [
        LayerMeasurement(
            f"16-bit 3x3 128->128 {w}x{h}", us, Work(128, h, w, 128, 3, weight_size=2), "raw", 300, 500, SIPEED
        )
        for w, h, us in times
    ]


def _v4() -> list[LayerMeasurement]:
    """Layers of the three logs on the V4 runtime; the mean where one layer was logged several times."""
    layers = (
        ("95", "first 3x3", 210, Work(3, 240, 320, 16, 3)),
        ("95", "3x3 16->16", 268, Work(16, 120, 160, 16, 3)),
        ("96", "3x3 16->16 on 80x60", 98.7, Work(16, 60, 80, 16, 3)),
        ("97", "depthwise on 160x120", 42, Work(16, 120, 160, 16, 3, True)),
        ("97", "1x1 16->32", 518, Work(16, 120, 160, 32, 1)),
        ("97", "depthwise on 80x60", 32, Work(32, 60, 80, 32, 3, True)),
    )
    return [
        LayerMeasurement(f"issue {issue} {name}", us, work, "V4", 400, 400, f"{NNCASE}{issue}")
        for issue, name, us, work in layers
    ]


LAYERS: Final = (*_face_detect(), *_sipeed(), *_v4())
"""Every published time of a single KPU layer whose shape is known."""
