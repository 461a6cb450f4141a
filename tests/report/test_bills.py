"""The memory bill of every build: a line each, and what would help."""

import io
from dataclasses import replace

import program_builders as build
import pytest

from openkpu.api import Model
from openkpu.report import bills
from openkpu.report.console import Printer
from openkpu.report.words import cells

PROGRAM = build.program(build.conv(0, 64, 3, 8, 16, 16, to_main=0))


def printed(model, width=80):
    stream = io.StringIO()
    bills.show(model, Printer(stream, width=width, color=False))
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_a_small_model_fits_everywhere(width):
    text = printed(Model(PROGRAM), width)
    assert all(cells(line) <= width for line in text.splitlines())
    assert text.count("to spare") == 4
    assert "too much" not in text


def test_a_large_one_does_not_and_advice_follows():
    large = Model(replace(PROGRAM, main_bytes=3 << 20))
    text = printed(large)
    assert "too much" in text
    assert "firmware minimum: frees" in text
    data = {b["firmware"]: b for b in bills.as_dict(large)}
    assert not data["full"]["fits"]
    assert data["minimum"]["fits"]
    assert data["minimum"]["left"] - data["full"]["left"] == 3_128_320 - 825_424


def test_no_build_loads_v5():
    assert bills.bills(Model(replace(PROGRAM, version=5), file_bytes=1000)) == []
    assert {b.firmware.name for b in bills.bills(Model(replace(PROGRAM, version=4), file_bytes=1000))} == {
        "full",
        "full-v0.6.2",
        "minimum-v4",
    }
