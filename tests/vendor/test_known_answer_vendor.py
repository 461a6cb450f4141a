"""Known-answer tests of public models on the virtual board."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import kat_bench as k
import pytest

from openkpu.api import load
from openkpu.kat.picture import test_input as input_of
from openkpu.kmodel.v3_layers import CONV
from openkpu.runtime.session import Session

pytestmark = pytest.mark.vendor

V3 = ("v3_maixpy_mnist", "v3_sdkdemo_face_detect", "v3syn_cpu_ops", "v3syn_fc", "v3_nncase010_iris")
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
    """In three layers, the batch norm of one channel whose change the simulator sees; the script names the layer."""
    data = (vendor / "v3" / "v3_sdkdemo_face_detect.kmodel").read_bytes()
    test = k.with_test(data, "noise")
    packed = test.layout.package.parts[0].data
    places = _batch_norms(packed)
    for layer in random.Random(6).sample(sorted(places), 3):
        changed = next(c for c in _changed(packed, places[layer]) if _result(c, layer) != _result(packed, layer))
        last = k.run(test, {"m0.kmodel": lambda content, changed=changed: changed})[-1]
        pattern = rf"FAIL: layer {layer} \(K210_CONV .*\): channel \d+, row \d+, column \d+: expected (\d+), got (\d+)$"
        found = re.match(pattern, last)
        assert found is not None, last
        assert found[1] != found[2]


def _changed(data: bytes, at: int) -> Iterator[bytes]:
    """The file with the batch norm of one channel after the other inverted in its low bits."""
    for i in range(8):
        word = bytes(b ^ 0x7F for b in data[at + 8 * i : at + 8 * i + 6])
        yield data[: at + 8 * i] + word + data[at + 8 * i + 6 :]


def _result(data: bytes, layer: int) -> bytes:
    program = load(data).program
    results: list[bytes] = []
    array = input_of(program, "noise", "").array
    Session(replace(program, steps=program.steps[: layer + 1], outputs=())).run(
        array, trace=lambda i, step, result: results.append(result.tobytes())
    )
    return results[-1]


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
