"""Whole networks, and CPU operators, that people timed on a K210; the model is judged on them, not fitted to them.

``CPU`` are the logs behind the measured rates of ``cpu``. ``NETWORKS`` are times of a forward pass. A network is listed
where its layers are known: from its file, or from the source model and what its compiler makes of it. Everything else
that was published is in docs/estimate.md with the reason why it says nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from openkpu.estimate.bar import Estimate, total
from openkpu.estimate.cpu import RUNTIMES
from openkpu.estimate.kpu import Work, layer_time
from openkpu.estimate.measurements import NNCASE


@dataclass(frozen=True, slots=True)
class OperatorMeasurement:
    """A CPU operator in a log: ``units`` of a rate of the runtime took ``us``."""

    rate: str
    version: int
    units: int
    us: float
    source: str


CPU: Final = (
    OperatorMeasurement("download", 4, 307200, 26563 - 268, f"{NNCASE}95"),
    OperatorMeasurement("download", 4, 76800, 6690 - 99, f"{NNCASE}96"),
    OperatorMeasurement("download", 4, 307200, 26508 - 210, f"{NNCASE}97"),
    OperatorMeasurement("download", 4, 76800, 6691 - 99, f"{NNCASE}96"),
    OperatorMeasurement("dequantize", 4, 307200, 9357, f"{NNCASE}95"),
    OperatorMeasurement("dequantize", 4, 76800, 2341, f"{NNCASE}96"),
    OperatorMeasurement("dequantize", 4, 76800, 2342, f"{NNCASE}97"),
    OperatorMeasurement("quantized_add", 4, 307200, 58699, f"{NNCASE}97"),
    OperatorMeasurement("quantized_add", 4, 76800, 15974, f"{NNCASE}97"),
    OperatorMeasurement("input_dma", 4, 230400, 329, f"{NNCASE}95"),
    OperatorMeasurement("input_dma", 4, 230400, 328, f"{NNCASE}97"),
    OperatorMeasurement("upload_bytes", 4, 307200, 20367, f"{NNCASE}97"),
    OperatorMeasurement("pad", 4, 40960, 5500, f"{NNCASE}99"),
    OperatorMeasurement("dequantize", 3, 9000, 404, f"{NNCASE}77"),
    OperatorMeasurement("download", 3, 9000, 142, f"{NNCASE}77"),
)
"""Every published time of a CPU operator whose number of elements is known; the KPU's own time is taken off."""


def cross_validate_cpu() -> list[tuple[OperatorMeasurement, float, float | None]]:
    """Return each log with the relative error of the rate in use and of the mean of the other logs (None: no other)."""
    found = []
    for m in CPU:
        used = getattr(RUNTIMES[m.version], m.rate).ns * m.units / 1000 / m.us - 1
        others = [o.us / o.units for o in CPU if (o.rate, o.version) == (m.rate, m.version) and o is not m]
        found.append((m, used, float(np.mean(others)) * m.units / m.us - 1 if others else None))
    return found


@dataclass(frozen=True, slots=True)
class Network:
    """One network on one runtime; ``operators`` are (rate, units) of its CPU work, the input's way into AI RAM too."""

    name: str
    version: int
    measured_ms: tuple[float, ...]
    """What was published: more than one figure where people disagree."""
    layers: tuple[Work, ...]
    operators: tuple[tuple[str, int], ...]
    source: str
    kpu_mhz: int = 400
    cpu_mhz: int = 400
    clock: str = "not stated"
    """stated, the demo's (its source sets it, the log does not say so), or not stated."""
    used: str = ""
    """Which rate was derived from this very figure; empty when the estimate is held out."""
    shapes: str = "from the file"
    """How the layers are known."""

    def estimate(self) -> Estimate:
        """The time of a forward pass."""
        return total(list(self._parts()))

    def _parts(self) -> Iterator[Estimate]:
        runtime = RUNTIMES[self.version]
        for work in self.layers:
            interpreted = self.version > 3
            yield layer_time(work, kpu_mhz=self.kpu_mhz, cpu_mhz=self.cpu_mhz, interpreted=interpreted).time
        for rate, units in self.operators:
            yield getattr(runtime, rate).time(units, self.cpu_mhz)

    @property
    def nearest(self) -> float:
        """Of the published figures the one next to the estimate."""
        at = self.estimate().us / 1000
        return min(self.measured_ms, key=lambda ms: abs(ms - at))


def _pair(c: int, oc: int, w: int, h: int) -> tuple[Work, Work]:
    """A depthwise 3x3 and a 1x1 convolution on a map of w x h."""
    return Work(c, h, w, c, 3, True), Work(c, h, w, oc, 1)


FACE_DETECT: Final = (
    Work(3, 240, 320, 16, 3),
    *_pair(16, 32, 160, 120),
    *_pair(32, 64, 80, 60),
    *_pair(64, 64, 80, 60),
    *_pair(64, 128, 40, 30),
    *_pair(128, 128, 40, 30),
    *_pair(128, 256, 20, 15),
    *_pair(256, 256, 20, 15) * 4,
    Work(256, 15, 20, 256, 3, True),
    Work(256, 15, 20, 30, 1),
)

_HEADS: Final = (  # slim-320 and RFB-320 from the first pair of heads on; each head is a depthwise and a 1x1 layer
    *_pair(64, 6, 40, 30),
    *_pair(64, 12, 40, 30),
    *_pair(64, 128, 40, 30),
    *_pair(128, 128, 20, 15) * 2,
    *_pair(128, 4, 20, 15),
    *_pair(128, 8, 20, 15),
    Work(128, 15, 20, 128, 3, True),
    Work(128, 16, 20, 256, 1),
    *_pair(256, 256, 10, 8),
    *_pair(256, 4, 10, 8),
    *_pair(256, 8, 10, 8),
    Work(256, 8, 10, 64, 1),
    *_pair(64, 256, 10, 8),
    Work(256, 4, 5, 6, 3),
    Work(256, 4, 5, 12, 3),
)
_STEM: Final = (
    Work(3, 240, 320, 16, 3),
    *_pair(16, 32, 160, 120),
    *_pair(32, 32, 160, 120),
    *_pair(32, 32, 80, 60),
    *_pair(32, 64, 80, 60),
)
SLIM: Final = (*_STEM, *_pair(64, 64, 40, 30) * 3, *_HEADS)

_SSD_OPERATORS: Final = (  # the heads of both, brought together: 4420 boxes of two scores and four coordinates
    ("input_dma", 230400),
    ("download", 64920),
    ("pad", 40960),
    ("upload_bytes", 40960),
    ("transpose", 26520),
    ("dequantize", 44200),
    ("copy", 106080),
    ("quantize", 26520),
    ("average", 17680),
    ("quantized_broadcast", 17680),
    ("exp", 8840),
    ("step", 73),
)


def _dilated(d: int, h: int, w: int) -> tuple[tuple[str, int], ...]:
    """A dilated 3x3 layer, 16 channels on 40x30: pad, reorder to d*d small pictures, upload, and the same way back."""
    n = 16 * h * w * d * d
    return (
        ("download", 19200),
        ("pad", n),
        ("transpose", n),
        ("upload_bytes", n),
        ("download", n),
        ("transpose", n),
        ("pad", 19200),
        ("dequantize", 19200),
    )


RFB: Final = (
    *_STEM,
    *_pair(64, 64, 40, 30) * 2,
    *(Work(64, 30, 40, 8, 1),) * 3,
    *(Work(8, 30, 40, 16, 3),) * 2,
    Work(8, 30, 40, 12, 3),
    Work(12, 30, 40, 16, 3),
    Work(16, 17, 22, 16, 3, batches=4),
    Work(16, 12, 16, 16, 3, batches=9),
    Work(16, 8, 10, 16, 3, batches=25),
    Work(48, 30, 40, 64, 1),
    Work(64, 30, 40, 64, 1),
    *_HEADS,
)
_RFB_OPERATORS: Final = (
    *_SSD_OPERATORS,
    *_dilated(2, 17, 22),
    *_dilated(3, 12, 16),
    *_dilated(5, 8, 10),
    ("copy", 4 * 57600),  # the three branches come together in float
    ("quantize", 57600),
    ("upload_bytes", 57600),
    ("download", 2 * 76800),  # the shortcut
    ("quantized_add", 76800),
    ("upload_bytes", 76800),
    ("step", 36),
)

_BLOCKS: Final = (
    (24, 48, 112),
    (48, 96, 112),
    (96, 96, 56),
    (96, 192, 56),
    (192, 192, 28),
    (192, 384, 28),
    *((384, 384, 14),) * 5,
    (384, 768, 14),
    (768, 768, 7),
)
MOBILENET: Final = (Work(3, 224, 224, 24, 3), *(work for c, oc, s in _BLOCKS for work in _pair(c, oc, s, s)))
"""MobileNetV1-0.75 at 224x224 with strides taken by the layer after a depthwise one, as nncase 0.1 does it."""

_LOG_95: Final = (Work(3, 240, 320, 16, 3), *(Work(16, 120, 160, 16, 3),) * 3)
_LOG_96: Final = (Work(3, 240, 320, 16, 3), Work(16, 120, 160, 16, 3), *(Work(16, 60, 80, 16, 3),) * 4)

NETWORKS: Final = (
    Network(
        "face detection of the SDK",
        3,
        (12.732,),
        FACE_DETECT,
        (("download", 9000), ("dequantize", 9000)),
        f"{NNCASE}77",
        clock="the demo's",
        used="dequantize, download",
    ),
    Network(
        "slim-320",
        4,
        (65.6, 60.0),
        SLIM,
        _SSD_OPERATORS,
        "nncase 0.2 examples/fast_facedetect; issue 81",
        clock="stated",
    ),
    Network(
        "RFB-320",
        4,
        (164.8,),
        RFB,
        _RFB_OPERATORS,
        "nncase 0.2 examples/fast_facedetect",
        clock="stated",
        shapes="from the float model and the compiler's rule for dilated layers",
    ),
    Network(
        "MobileNetV1-0.75, V3",
        3,
        (37.0,),
        (*MOBILENET, Work(768, 4, 4, 1000, 1)),
        (
            ("upload_words", 150528),
            ("download", 37632),
            ("dequantize", 37632 + 1000),
            ("average", 37632),
            ("quantize", 768),
            ("pad", 768),
            ("download", 16000),
            ("slice", 1000),
            ("exp", 1000),
        ),
        "bbs.sipeed.com topic 1790",
        shapes="from the architecture",
    ),
    Network(
        "MobileNetV1-0.75, V4",
        4,
        (111.0,),
        MOBILENET,
        (
            ("upload_bytes", 150528),
            ("download", 37632),
            ("dequantize", 37632),
            ("average", 37632),
            ("mac", 768000),
            ("exp", 1000),
        ),
        "bbs.sipeed.com topic 1790",
        used="mac",
        shapes="from the architecture",
    ),
    Network(
        "four 3x3 layers of 16 channels",
        4,
        (36.666,),
        _LOG_95,
        (("download", 307200), ("dequantize", 307200)),
        f"{NNCASE}95",
        used="download, dequantize",
        shapes="inferred from the times",
    ),
    Network(
        "six 3x3 layers of 16 channels",
        4,
        (9.807,),
        _LOG_96,
        (("download", 76800), ("dequantize", 76800)),
        f"{NNCASE}96",
        used="download, dequantize",
        shapes="inferred from the times",
    ),
    Network(
        "eight 3x3 layers of 16 channels",
        4,
        (10.005,),
        (*_LOG_96, *(replace(_LOG_96[-1]),) * 2),
        (("download", 76800), ("dequantize", 76800)),
        f"{NNCASE}96",
        used="download, dequantize",
        shapes="inferred from the times",
    ),
    Network(
        "three layers with max 4x4 and mean/std on the CPU",
        5,
        (600.0,),
        (Work(3, 224, 320, 16, 3), Work(16, 56, 80, 16, 3), Work(16, 14, 20, 2, 3)),
        (
            ("dequantize", 215040),
            ("broadcast", 2 * 215040),
            ("quantize", 215040),
            ("input_dma", 215040),
            ("download", 560),
            ("slice", 432),
            ("pool_output", 108),
        ),
        f"{NNCASE}428",
        used="binary, broadcast",
        shapes="from the author's code",
    ),
)
"""Forward passes whose layers are known."""
