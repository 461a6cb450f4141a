"""Known-answer tests of public models on the virtual board."""

from __future__ import annotations

import random
import re
from pathlib import Path

import kat_bench as k
import pytest

from openkpu.api import load
from openkpu.kmodel.program import KpuConv
from openkpu.kmodel.v3_layers import CONV

pytestmark = pytest.mark.vendor

V3 = ("v3_maixpy_mnist", "v3_sdkdemo_face_detect", "v3syn_cpu_ops", "v3syn_conv8", "v3syn_fc", "v3_nncase010_iris")
V4 = ("real/mask_detect", "real/iris", "real/yolo20", "compiled/t_residual__noqbin")


@pytest.mark.parametrize("name", V3)
def test_v3_models_pass_layer_by_layer(vendor: Path, name: str) -> None:
    data = (vendor / "v3" / f"{name}.kmodel").read_bytes()
    test = k.with_test(data, "noise")
    lines = k.run(test, gc_heap=1 << 20)
    assert lines[-1].startswith("PASS")
    assert test.layers + len(test.missing) == len(load(data).steps)
    assert sum(" equal" in line for line in lines) == test.layers + test.outputs


@pytest.mark.parametrize("name", V4)
def test_v4_models_pass(vendor: Path, name: str) -> None:
    test = k.with_test((vendor / "v4" / f"{name}.kmodel").read_bytes(), "noise")
    lines = k.run(test)
    assert lines[-1].startswith("PASS")
    assert (test.layers, sum(" equal" in line for line in lines)) == (0, test.outputs)


def test_a_changed_word_of_the_face_model_is_found(vendor: Path) -> None:
    """In three layers, the 8 bytes of one channel's batch norm; the script names the layer."""
    data = (vendor / "v3" / "v3_sdkdemo_face_detect.kmodel").read_bytes()
    program = load(data).program
    test = k.with_test(data, "noise")
    places = _batch_norms(test.layout.package.parts[0].data)
    convs = [i for i, s in enumerate(program.steps) if isinstance(s, KpuConv)]
    assert sorted(places) == convs
    for layer in random.Random(6).sample(convs, 3):

        def change(content: bytes, at: int = places[layer]) -> bytes:
            return content[:at] + bytes([content[at] ^ 0xFF, content[at + 1] ^ 0xFF]) + content[at + 2 :]

        last = k.run(test, {"m0.kmodel": change})[-1]
        found = re.match(
            r"FAIL: layer (\d+) \(K210_CONV .*\): channel \d+, row \d+, column \d+: expected (\d+), got (\d+)$", last
        )
        assert found is not None, last
        assert int(found[1]) == layer
        assert found[2] != found[3]


def _batch_norms(data: bytes) -> dict[int, int]:
    """KPU layer -> file offset of its batch norm, by the offsets in the bodies."""
    from openkpu.kmodel.v3 import HEADER, LAYER_HEADER, OUTPUT
    from openkpu.kmodel.v3_conv import ARGUMENT

    header = HEADER.unpack(data, 0)
    table = HEADER.size + header["output_count"] * OUTPUT.size
    body = table + header["layers_length"] * LAYER_HEADER.size
    found = {}
    for i in range(header["layers_length"]):
        row = LAYER_HEADER.unpack(data, table + i * LAYER_HEADER.size)
        if row["type"] == CONV:
            found[i] = ARGUMENT.unpack(data, body)["bn_offset"]
        body += row["body_size"]
    return found
