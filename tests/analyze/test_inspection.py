import program_builders as build
import pytest

from openkpu.analyze.inspect import inspect, summarize
from openkpu.errors import FileFormatError
from openkpu.kmodel import v3
from openkpu.kmodel.detect import Kind, byteswap
from openkpu.kmodel.program import Dequantize, DType


def steps():
    conv = build.conv(0, 64, 3, 8, 16, 16, k=3, pool=5, to_main=0, name="stem")
    dequantize = Dequantize(
        input=build.main(0, DType.U8, 512), output=build.main(512, DType.F32, 512), scale=0.5, bias=0.0
    )
    return conv, dequantize, build.fully_connected(512, 4096, 512, 10)


def test_steps_are_described():
    conv, dequantize, dense = summarize(build.program(*steps()))
    assert (conv.name, conv.on_kpu, conv.detail, conv.place) == ("stem", True, "3x3, pick 2x2", "main 0..511")
    assert conv.macs == 16 * 16 * 9 * 3 * 8
    assert conv.weights_bytes == 9 * 3 * 8 + 8 * 8 + 144
    assert (dequantize.macs, dequantize.weights_bytes, dequantize.on_kpu) == (0, 0, False)
    assert (dense.input_shape, dense.output_shape, dense.macs) == ((512,), (10,), 5120)
    assert dense.weights_bytes == (5120 + 10) * 4
    assert [s.ai_bytes for s in (conv, dequantize, dense)] == [64 * (16 * 1 + 8 * 2), 0, 0]
    assert [s.main_bytes for s in (conv, dequantize, dense)] == [512, 512 + 2048, 2048 + 40]


def test_a_swapped_file_is_opened_with_a_note(tmp_path):
    file = tmp_path / "be.kmodel"
    file.write_bytes(byteswap(v3.write(build.program(*steps()))))
    found = inspect(file)
    assert found.kind.kind is Kind.V3_SWAPPED
    assert len(found.steps) == 3
    assert "swapped" in found.as_dict()["model"]["notes"][0]


def test_a_damaged_file_names_itself(tmp_path):
    file = tmp_path / "cut.kmodel"
    file.write_bytes(v3.write(build.program(*steps()))[:200])
    with pytest.raises(FileFormatError) as caught:
        inspect(file)
    assert caught.value.where.startswith(str(file))
