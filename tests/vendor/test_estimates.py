"""The time model on a real file whose log was published, layer by layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from openkpu.analyze.profile import profile
from openkpu.estimate.measurements import LAYERS
from openkpu.estimate.networks import FACE_DETECT

pytestmark = pytest.mark.vendor


def test_the_file_has_the_layers_of_the_published_log(vendor: Path) -> None:
    p = profile(vendor / "v3" / "v3_sdkdemo_face_detect.kmodel")
    works = [s.work for s in p.steps if s.work is not None]
    assert [(w.c, w.h, w.w, w.oc, w.kernel, w.depthwise) for w in works] == [
        (w.c, w.h, w.w, w.oc, w.kernel, w.depthwise) for w in FACE_DETECT
    ]


def test_every_layer_of_the_log(vendor: Path) -> None:
    p = profile(vendor / "v3" / "v3_sdkdemo_face_detect.kmodel")
    logged = [m.us for m in LAYERS if m.name.startswith("face-detect")]
    for step, us in zip(p.steps[1:23], logged, strict=True):
        assert step.time.us == pytest.approx(us, rel=0.05)
        assert step.time.covers(us)
    last, dequantize = p.steps[23:]
    assert last.time.us == pytest.approx(326, rel=0.05)
    assert dequantize.time.us == pytest.approx(404, rel=0.05)
    assert (p.total.us - p.steps[0].time.us) / 1000 == pytest.approx(12.732, rel=0.03)
    assert p.segments == 1
