"""The picture of a program: sound XML, every value in its place, names escaped."""

import xml.etree.ElementTree as ET

import program_builders as build

from openkpu.analyze.inspect import summarize
from openkpu.k210 import AI_RAM_BYTES
from openkpu.kmodel.program import Dequantize, DType, Memory
from openkpu.report.picture import AI_WIDTH, ROW, TOP, draw, kind
from openkpu.runtime.lifetimes import values

SVG = "{http://www.w3.org/2000/svg}"


def sample():
    conv = build.conv(0, 64, 3, 8, 16, 16, k=3, pool=5, name="a<b>&'c'")
    again = build.conv(64, 128, 8, 8, 8, 8, to_main=0)
    return build.program(
        conv,
        again,
        Dequantize(input=build.main(0, DType.U8, 512), output=build.main(512, DType.F32, 512), scale=0.5, bias=0.0),
    )


def test_it_is_sound_and_complete():
    program = sample()
    root = ET.fromstring(draw("x & y.kmodel", program, summarize(program)))
    titles = [t.text for t in root.iter(f"{SVG}title")]
    assert any("a<b>&'c'" in t for t in titles)
    boxes = [r for g in root.iter(f"{SVG}g") for r in g.iter(f"{SVG}rect")]
    assert [b.get("class") for b in boxes] == ["kpu", "kpu", "cpu"]
    flows = [p for p in root.iter(f"{SVG}path") if p.get("class") == "flow"]
    assert len(flows) == sum(len(v.readers) for v in values(program))
    assert "http" not in "".join(root.itertext())


def test_a_rectangle_is_as_wide_as_its_bytes_and_as_high_as_its_life():
    program = sample()
    root = ET.fromstring(draw("m", program, summarize(program)))
    rects = {r.find(f"{SVG}title").text: r for r in root.iter(f"{SVG}rect") if r.find(f"{SVG}title") is not None}
    (first,) = [r for t, r in rects.items() if "8x8x8" in t and "at 4096" in t]
    value = next(v for v in values(program) if v.operand.memory is Memory.AI and v.operand.start == 4096)
    assert (value.born, value.last) == (0, 1)
    assert float(first.get("y")) == TOP + 1
    assert float(first.get("height")) == 2 * ROW - 2
    assert float(first.get("width")) == max(round(AI_WIDTH * value.operand.size / AI_RAM_BYTES, 1), 1)


def test_kinds_of_steps():
    assert [kind(op) for op in ("KpuConv", "KpuUpload", "Softmax", "ConcatTensors")] == ["kpu", "move", "cpu", "move"]
