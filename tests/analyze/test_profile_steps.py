"""Profiles of small programs: sums, shares, clocks, the forms they are written in, and the advice."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import openkpu
from openkpu.analyze.advice import advice
from openkpu.analyze.profile import COLUMNS, csv_rows, profile
from openkpu.api import Model
from openkpu.errors import FileFormatError, InputError
from openkpu.estimate.steps import program_time
from openkpu.kmodel.program import Dequantize, DType, Program
from openkpu.report.profile import csv_text
from tests.program_builders import conv, fully_connected, main, program


def small() -> Program:
    return program(
        conv(0, 4000, 3, 16, 40, 64, k=3, pool=1, name="stem"),
        conv(4000, 8000, 16, 16, 20, 32, k=3, depthwise=True),
        conv(8000, 4000, 16, 8, 20, 32, to_main=0, name="head"),
        Dequantize(input=main(0, DType.U8, 8, 20, 32), output=main(8000, DType.F32, 8, 20, 32), scale=0.1, bias=0.0),
    )


def dense(inputs: int = 512, outputs: int = 256) -> Program:
    return program(fully_connected(0, 4 * inputs, inputs, outputs))


def test_the_parts_make_the_whole():
    p = profile(Model(small()))
    assert p.total == program_time(small())
    assert p.total.us == pytest.approx(sum(s.time.us for s in p.steps))
    assert p.total.low < p.total.us < p.total.high
    assert p.fps == pytest.approx(1e6 / p.total.us)
    assert [s.where for s in p.steps] == ["DMA", "KPU", "KPU", "KPU", "CPU"]
    assert [s.index for s in p.steps] == [-1, 0, 1, 2, 3]
    dma = p.steps[0].time.us
    assert p.kpu.us + p.cpu.us + dma == pytest.approx(p.total.us)
    assert p.cpu_share == pytest.approx(p.steps[4].time.us / p.total.us)
    assert p.segments == 1
    assert p.macs == sum(s.layer.macs for s in small().steps[:3])


def test_a_step_says_what_it_does():
    p = profile(Model(small()))
    stem, depthwise, head, out = p.steps[1:]
    assert (stem.name, stem.input_shape, stem.output_shape) == ("stem", (3, 40, 64), (16, 20, 32))
    assert stem.detail == "3x3, max 2x2"
    assert 0 < stem.utilisation < 1
    assert stem.utilisation == pytest.approx(stem.macs / (stem.time.us * 400 * 576))
    assert depthwise.bottleneck in ("output", "overhead")
    assert head.main_moved == 8 * 20 * 32 + head.weights_bytes
    assert stem.ai_moved == 3 * 40 * 64 + 16 * 20 * 32
    assert (out.bottleneck, out.basis, out.utilisation) == ("CPU", "measured", None)
    assert out.main_moved == 5 * 8 * 20 * 32
    assert out.cycles == round(out.time.us * 400)


@given(st.floats(100, 800), st.floats(100, 800), st.floats(1, 1.9))
def test_faster_clocks_are_never_slower(kpu, cpu, times):
    model = Model(small())
    slow = profile(model, kpu_mhz=kpu, cpu_mhz=cpu).total.us
    assert profile(model, kpu_mhz=min(800, kpu * times), cpu_mhz=cpu).total.us <= slow * (1 + 1e-9)
    assert profile(model, kpu_mhz=kpu, cpu_mhz=min(800, cpu * times)).total.us <= slow * (1 + 1e-9)


def test_clocks_go_where_they_belong():
    slow, fast = profile(Model(small())), profile(Model(small()), cpu_mhz=800)
    assert fast.cpu.us == pytest.approx(slow.cpu.us / 2)
    assert slow.kpu.us / 2 < fast.kpu.us < slow.kpu.us


@pytest.mark.parametrize("mhz", [0, -400, 25, 801, float("nan"), float("inf")])
@pytest.mark.parametrize("clock", ["kpu_mhz", "cpu_mhz"])
def test_impossible_clocks(clock, mhz):
    with pytest.raises(InputError) as caught:
        profile(Model(small()), **{clock: mhz})
    assert caught.value.code == "E443"
    assert "MHz" in caught.value.what


def test_models_files_and_bytes(tmp_path):
    model = Model(small())
    model.save(tmp_path / "net.kmodel")
    total = profile(model).total
    assert openkpu.profile(tmp_path / "net.kmodel").total == total
    assert openkpu.profile(str(tmp_path / "net.kmodel")).total == total
    assert openkpu.profile(model.to_bytes()).total == total
    assert isinstance(openkpu.profile(model), openkpu.Profile)
    with pytest.raises(FileFormatError):
        profile(b"not a kmodel at all")


def test_json_has_the_columns():
    p = profile(Model(small()))
    data = json.loads(json.dumps(p.as_dict()))
    assert set(data) == {
        "version", "kpu_mhz", "cpu_mhz", "ms", "low_ms", "high_ms", "fps", "kpu_ms", "cpu_ms", "cpu_share",
        "cpu_copies_ms", "cpu_operators_ms", "operators_share",
        "segments", "macs", "beside_ms", "inputs", "outputs", "memory", "steps",
    }  # fmt: skip
    assert data["low_ms"] < data["ms"] < data["high_ms"]
    assert all(tuple(s) == COLUMNS for s in data["steps"])
    assert sum(s["ms"] for s in data["steps"]) == pytest.approx(data["ms"], abs=1e-3)
    assert sum(s["share"] for s in data["steps"]) == pytest.approx(1, abs=1e-3)
    assert data["memory"]["ai_ram_bytes"] == 2 * 1024 * 1024


def test_what_stands_beside_the_model():
    p = profile(Model(small()))
    assert list(p.beside) == ["flash", "flash_dual", "display", "camera"]
    assert p.beside["flash"].us > p.beside["flash_dual"].us > p.total.us
    read = p.memory.file_bytes / (67.17 / 2 * 0.89)
    assert p.beside["flash"].us == pytest.approx(p.total.us + read)


def test_csv_is_the_same_table():
    p = profile(Model(small()))
    rows = list(csv.reader(io.StringIO(csv_text(p))))
    assert rows == list(csv_rows(p))
    assert rows[0] == list(COLUMNS)
    assert len(rows) == 1 + len(p.steps)
    stem = dict(zip(rows[0], rows[2], strict=True))
    assert (stem["name"], stem["output"], stem["where"], stem["detail"]) == ("stem", "16x20x32", "KPU", "3x3, max 2x2")
    assert float(stem["ms"]) == pytest.approx(p.steps[1].time.us / 1000, abs=1e-4)
    assert rows[1][rows[0].index("utilisation")] == ""


def said(p: Program) -> str:
    return "\n".join(advice(profile(Model(p))))


def test_advice_names_the_cpu_and_the_remedy():
    text = said(dense())
    assert "FullyConnected on the CPU: 99 % of the time" in text or "FullyConnected on the CPU: 100 %" in text
    assert "a 1x1 convolution on a map of at least 4x4 runs on the KPU" in text


def test_advice_names_wasted_rows():
    text = said(program(conv(0, 8000, 64, 64, 33, 33), conv(8000, 0, 64, 64, 33, 33)))
    assert "a row of 33 pixels costs as much as one of 64: a width of 32 or 64 wastes nothing" in text


@pytest.mark.parametrize(
    ("w", "remedy"), [(6, "only fewer channels help"), (20, "a width of 16 or 32"), (130, "a width of 128 or 192")]
)
def test_advice_names_widths_that_fill_lines(w, remedy):
    assert remedy in said(program(conv(0, 16000, 64, 64, 12, w), conv(16000, 0, 64, 64, 12, w)))


def test_a_maximum_wastes_nothing():
    assert "is kept" not in said(program(conv(0, 8000, 64, 64, 64, 64, pool=1), conv(8000, 0, 64, 8, 32, 32)))


def test_advice_names_pixels_that_are_thrown_away():
    text = said(program(conv(0, 8000, 64, 64, 64, 64, pool=5), conv(8000, 0, 64, 8, 32, 32)))
    assert "only 25 % of what it computes is kept" in text


def test_advice_names_weights():
    text = said(program(conv(0, 8000, 256, 256, 4, 16, k=3)))
    assert "waiting for 589824 bytes of weights" in text


def test_advice_names_an_input_that_the_cpu_copies():
    assert "a width that is a multiple of 64 goes in by DMA" in said(program(conv(0, 8000, 3, 4, 200, 200)))
    assert "DMA" not in said(program(conv(0, 8000, 3, 4, 200, 192)))


def test_alike_layers_share_a_sentence():
    layers = [conv(8000 * (i % 2), 8000 * ((i + 1) % 2), 64, 64, 32, 64, name=f"block{i}") for i in range(5)]
    text = said(program(*layers))
    assert "block0, block1, 3 more like them" in text
    assert text.count("block") == 2
