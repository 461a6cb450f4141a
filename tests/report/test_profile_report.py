"""The report of a profile: it fits the width, sorts, shortens and says where numbers come from."""

import io

import pytest

from openkpu.analyze.profile import profile
from openkpu.api import Model
from openkpu.kmodel.program import Dequantize, DType
from openkpu.report.console import Printer
from openkpu.report.profile import show
from openkpu.report.words import cells
from tests.program_builders import conv, main, program

LONG = "StatefulPartitionedCall/model/block_13_depthwise_conv/BatchNorm/FusedBatchNormV3/Conv2D__"
NET = program(
    *(conv(8000 * (i % 2), 8000 * ((i + 1) % 2), 16, 16, 8 + 8 * i, 33, name=f"{LONG}{i}") for i in range(4)),
    conv(0, 8000, 16, 16, 32, 33, to_main=0, name="out"),
    Dequantize(input=main(0, DType.U8, 16, 32, 33), output=main(16896, DType.F32, 16, 32, 33), scale=1.0, bias=0.0),
)


def printed(width: int = 80, encoding: str = "utf-8", **options: object) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    model = Model(NET)
    show(profile(model), model, Printer(stream, width=width, color=False), title="net.kmodel", **options)  # type: ignore[arg-type]
    stream.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_it_fits_and_says_everything(width):
    text = printed(width)
    assert all(cells(line) <= width for line in text.splitlines())
    for part in (
        "kmodel V3",
        "KPU 400 MHz, CPU 400 MHz",
        "frames/s",
        "5 layers in 1 segment",
        "compute",
        "What to do",
        "load_flash",
    ):
        assert part in text
    assert "Estimated, not measured." in text


def test_sorted_by_time():
    lines = [line for line in printed(sort="ms").splitlines() if "KpuConv" in line]
    times = [
        float(next(w for w in line.split() if w.count(".") == 1 and w.replace(".", "").isdigit())) for line in lines
    ]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("top", [1, 3])
def test_top_keeps_the_slowest_and_counts_the_rest(top):
    text = printed(top=top)
    steps = [s for s in text.splitlines() if "KpuConv" in s or "Dequantize " in s or " Input" in s]
    assert len([s for s in steps if "%" not in s.partition("of the time")[2]]) >= top
    assert f"and {7 - top} steps with" in text
    assert "total" in text
    assert "Dequantize" in text


def test_plain_ascii():
    text = printed(encoding="ascii")
    assert text.isascii()
    assert "####" in text
