"""The script passes where board and simulator agree, and names the first layer that differs where they do not."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import kat_bench as k
import numpy as np
import program_builders as b
import pytest
from board_bench import float_model, image_model, kmodel, vector_model
from hypothesis import given, settings
from hypothesis import strategies as st
from kat_bench import run, with_test
from PIL import Image

from openkpu.api import load
from openkpu.errors import OpenKPUError
from openkpu.kat import checks, known_answer, picture
from openkpu.kat.known_answer import add
from openkpu.kmodel import v3
from openkpu.kmodel.program import Dequantize, DType, KpuConv, KpuUpload, Program, Quantize
from openkpu.runtime.session import Session


def chain(seed: int, layers: int, c: int = 3, size: int = 16) -> Program:
    """KPU layers one after the other; every third goes to main RAM too, and so does the last."""
    rng = np.random.default_rng(seed)
    steps: list[KpuConv] = []
    at, h = 0, size
    for i in range(layers):
        oc = int(rng.integers(1, 9))
        pool = int(rng.integers(0, 2)) if h > 8 else 0
        place = 0 if i == layers - 1 else 4096 if i % 3 == 2 else None
        bn = 20 if i else 60
        step = b.conv(at, 8192 - at, c, oc, h, h, to_main=place, k=1, seed=seed + i, pool=pool, bn_mul=bn)
        steps.append(step)
        at, c, h = 8192 - at, oc, step.layer.output_shape[1]
    return b.program(*steps)


def results(program: Program, array: np.ndarray[Any, Any]) -> list[bytes]:
    found: list[bytes] = []
    fresh = v3.read(v3.write(program))  # engines keep what they prepared for a layer
    Session(fresh).run(array, trace=lambda i, step, result: found.append(result.tobytes()))
    return found


@pytest.mark.parametrize(
    "model",
    [image_model(), image_model(c=1), image_model(h=12, w=40), float_model(6), vector_model(), v3.write(chain(3, 5))],
    ids=["rgb", "gray", "wide", "floats", "vector", "chain"],
)
def test_passes_on_the_virtual_board(model: bytes) -> None:
    test = with_test(model)
    lines = run(test)
    steps = len(load(model).steps)
    assert lines[-1] == f"PASS: the board computes what the simulator computes (comparisons: {steps + 1})"
    assert sum(" equal" in line for line in lines) == steps + 1
    assert (test.outputs, test.layers, test.by_checksum, test.missing) == (1, steps, 0, ())


@settings(max_examples=40)
@given(st.integers(0, 999), st.integers(1, 6), st.data())
def test_names_the_first_layer_that_differs(seed: int, layers: int, data: Any) -> None:
    """One weight or one batch-norm value is changed in flash; the simulator says which layer shows it first."""
    program = chain(seed, layers)
    layer = data.draw(st.integers(0, layers - 1))
    where = data.draw(st.floats(0, 0.999))
    kind = data.draw(st.sampled_from(("weight", "mul", "add")))
    old = program.steps[layer]
    assert isinstance(old, KpuConv)
    weights, bn = old.layer.weights.copy(), old.layer.batch_norm
    if kind == "weight":
        weights.reshape(-1)[int(where * weights.size)] ^= 0x55
    else:
        values = getattr(bn, kind).copy()
        values[int(where * values.size)] += 40 if kind == "mul" else 1 << 19
        bn = replace(bn, **{kind: values})
    steps = list(program.steps)
    steps[layer] = replace(old, layer=replace(old.layer, weights=weights, batch_norm=bn))
    changed = replace(program, steps=tuple(steps))

    test = with_test(v3.write(program))
    other = v3.write(replace(changed, main_bytes=test.main_bytes[1]))
    lines = run(test, {"m0.kmodel": lambda data: other})
    array = picture.test_input(program, "noise", "m").array
    differ = [
        i
        for i, pair in enumerate(zip(results(program, array), results(changed, array), strict=True))
        if pair[0] != pair[1]
    ]
    assert lines[0] == "The model in flash at 0x300000 is not the one that was packed."
    if not differ:
        assert lines[-1].startswith("PASS")
        return
    assert differ[0] == layer
    good, bad = results(program, array)[layer], results(changed, array)[layer]
    i = next(i for i in range(len(good)) if good[i] != bad[i])
    _, h, w = old.layer.output_shape
    place = f"channel {i // (h * w)}, row {i // w % h}, column {i % w}"
    name = f"layer {layer} (K210_CONV 1x1 {'x'.join(map(str, old.layer.output_shape))})"
    assert lines[-1] == f"FAIL: {name}: {place}: expected {good[i]}, got {bad[i]}"


def test_floats_that_differ_are_named_with_their_values() -> None:
    program = load(float_model(6)).program
    dequantize = program.steps[1]
    assert isinstance(dequantize, Dequantize)
    other = v3.write(replace(program, steps=(program.steps[0], replace(dequantize, bias=-8.25))))
    lines = run(with_test(float_model(6)), {"m0.kmodel": lambda data: other})
    assert lines[-1].startswith("FAIL: layer 1 (DEQUANTIZE 6x8x8): channel 0, row 0, column 0: expected ")
    assert "DIFFERENT, largest difference 0.25 (allowed " in lines[-3]
    near = v3.write(replace(program, steps=(program.steps[0], replace(dequantize, bias=-8.00001))))
    assert run(with_test(float_model(6)), {"m0.kmodel": lambda data: near})[-1].startswith("PASS")


def rounding_model(scale: float) -> bytes:
    """KPU layer, floats, and bytes again."""
    conv = b.conv(0, 8192, 3, 2, 8, 8, to_main=4096, bn_mul=8)
    floats, out = b.main(1024, DType.F32, 2, 8, 8), b.main(0, DType.U8, 2, 8, 8)
    assert conv.main_output is not None
    steps = (
        Dequantize(input=conv.main_output, output=floats, scale=0.5, bias=0.0),
        Quantize(input=floats, output=out, scale=scale, bias=0.0),
    )
    return v3.write(b.program(conv, *steps))


def test_bytes_rounded_from_floats_may_be_neighbours() -> None:
    test = with_test(rounding_model(0.5))
    assert run(test, {"m0.kmodel": lambda data: rounding_model(0.502)})[-1].startswith("PASS")
    lines = run(test, {"m0.kmodel": lambda data: rounding_model(0.6)})
    assert lines[-1].startswith("FAIL: layer 2 (QUANTIZE 2x8x8): ")


def test_exactness_follows_the_data() -> None:
    """Only what comes from floats gets their tolerance, not what merely runs after them."""
    first = b.conv(0, 8192, 3, 2, 8, 8, to_main=4096, bn_mul=8)
    floats, back = b.main(1024, DType.F32, 2, 8, 8), b.main(0, DType.U8, 2, 8, 8)
    assert first.main_output is not None
    later = b.conv(0, 12288, 3, 2, 8, 8, to_main=8192)
    again = b.conv(16384, 20480, 2, 2, 8, 8, to_main=12288)
    program = b.program(
        first,
        Dequantize(input=first.main_output, output=floats, scale=0.5, bias=0.0),
        Quantize(input=floats, output=back, scale=2.0, bias=0.0),
        later,
        KpuUpload(input=back, output=b.ai(16384, 2, 8, 8)),
        again,
    )
    part = k.packed(v3.write(program)).placed[0].part
    array = picture.test_input(program, "noise", "m").array
    found, missing = checks.run(program, known_answer._examined(part), array)
    how = {c.layers - 1: c.how.name for c in found if c.layers}
    assert how == {0: "BYTES", 1: "FLOATS", 2: "ROUNDED", 3: "BYTES", 5: "ROUNDED"}
    assert [m.layer for m in missing] == [4]


def test_the_package_is_asked_for_first() -> None:
    test = with_test(image_model())
    data = next(p.name for p in test.layout.package.parts if p.name.endswith("_kat.bin"))
    broken = run(test, {data: lambda content: b"\xff" + content[1:]})
    assert broken == ["FAIL: the data of the test is not in flash at 0x310000: flash the package of this script"]
    assert run(test, {"m0.kmodel": lambda content: bytes(len(content))})[-1].startswith(
        "FAIL: the model does not load: "
    )


def test_only_the_header_of_the_model_changes() -> None:
    model = v3.write(b.program(b.conv(0, 8192, 3, 8, 16, 16), b.conv(8192, 0, 8, 1, 16, 16, to_main=0)))
    test = with_test(model)
    part = next(p for p in test.layout.package.parts if p.name == "m0.kmodel")
    assert part.data[:20] + part.data[24:] == model[:20] + model[24:]
    largest = max(int(np.prod(s.layer.output_shape)) for s in load(model).steps if isinstance(s, KpuConv))
    assert load(part.data).program.main_bytes == test.main_bytes[1] >= largest
    assert any("copy of m0.kmodel" in n for n in test.notes)
    whole = with_test(image_model())
    assert next(p for p in whole.layout.package.parts if p.name == "m0.kmodel").data == image_model()
    assert whole.notes == []


def test_without_room_in_flash_checksums_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_answer, "BUDGETS", (0,))
    program = chain(3, 3)
    test = with_test(v3.write(program))
    assert test.by_checksum == 4
    assert run(test)[-1].startswith("PASS")
    last = program.steps[1]
    assert isinstance(last, KpuConv)
    bn = replace(last.layer.batch_norm, mul=last.layer.batch_norm.mul * 0)
    other = replace(
        program, steps=(program.steps[0], replace(last, layer=replace(last.layer, batch_norm=bn)), program.steps[2])
    )
    lines = run(test, {"m0.kmodel": lambda data: v3.write(replace(other, main_bytes=test.main_bytes[1]))})
    assert lines[-1].startswith("FAIL: layer 1 (K210_CONV 1x1 ")
    assert ": expected checksum " in lines[-1]
    floats = with_test(float_model(6))
    assert [str(m) for m in floats.missing][-1].startswith("layer 1 (DEQUANTIZE 6x8x8): there is no room in flash")
    assert run(floats)[-1].startswith("PASS")


def test_layers_that_do_not_fit_the_main_ram_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_answer, "MARGIN", 0)
    monkeypatch.setattr(known_answer, "_room", lambda name, file: ("full", 1000))
    program = b.program(b.conv(0, 8192, 3, 8, 16, 16), b.conv(8192, 0, 8, 1, 16, 16, to_main=0))
    test = with_test(v3.write(program))
    assert [str(m) for m in test.missing] == [
        "layer 0 (K210_CONV 1x1 8x16x16): its 2,048 bytes do not fit into main RAM"
    ]
    assert run(test)[-2:] == [
        f"not compared: {test.missing[0]}",
        "PASS: the board computes what the simulator computes (comparisons: 2)",
    ]


def test_layers_that_the_chip_would_not_write_whole_are_left_out() -> None:
    first = b.conv(0, 8192, 3, 8, 16, 16)
    silent = replace(first, layer=replace(first.layer, registers=replace(first.layer.registers, dma_total_byte=1)))
    test = with_test(v3.write(b.program(silent, b.conv(8192, 0, 8, 1, 16, 16, to_main=0))))
    (missing,) = test.missing
    assert (missing.layer, missing.why[:19]) == (0, "its registers do no")


def test_a_run_that_fails_is_a_failure() -> None:
    """The model in flash is another one, which takes another picture."""
    test = with_test(image_model())
    lines = run(test, {"m0.kmodel": lambda data: image_model(h=8, w=8)})
    assert lines[-1].startswith("FAIL: output 0: the model does not run: [MAIXPY]kpu: check img format err!")


def test_a_picture_is_rounded_to_what_an_image_holds(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (30, 50, 3), np.uint8)).save(tmp_path / "p.png")
    test = with_test(image_model(), str(tmp_path / "p.png"))
    assert test.input == "p.png, 16x16, 5/6/5 bits"
    assert run(test)[-1].startswith("PASS")


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_rounding_is_the_boards(seed: int) -> None:
    from openkpu.maixpy.image.pixels import planes_table, word_of

    planes = np.random.default_rng(seed).integers(0, 256, (3, 2, 5), np.uint8)
    wide, stored = picture.rounded(planes)
    words = np.frombuffer(stored, "<u2")
    assert words.tolist() == [word_of(*map(int, p)) for p in planes.reshape(3, -1).T]
    assert np.array_equal(planes_table()[:, words], wide.reshape(3, -1))


def test_the_script_is_plain_micropython() -> None:
    text = with_test(float_model(6)).script
    tree = ast.parse(text, feature_version=(3, 4))
    assert not any(isinstance(n, ast.JoinedStr | ast.AnnAssign | ast.Starred | ast.NamedExpr) for n in ast.walk(tree))
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert imported == {"gc", "ustruct", "ubinascii", "KPU", "image"}
    assert len(text) < 8000
    assert text.isascii()
    assert "{" not in text.replace("{}", "")


def test_the_same_model_gives_the_same_package() -> None:
    assert with_test(float_model(6)).layout.to_kfpkg() == with_test(float_model(6)).layout.to_kfpkg()
    assert with_test(float_model(6)).layout.package.extras["m_kat.py"].decode() == with_test(float_model(6)).script


def code(function: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(OpenKPUError) as caught:
        function(*args, **options)
    assert caught.value.fix
    return caught.value.code


def test_what_cannot_be_tested_is_refused(tmp_path: Path) -> None:
    image = image_model()
    assert code(add, k.packed(image, image), "m") == "E470"
    assert code(add, k.packed(image, big_endian=True), "m") == "E471"
    assert code(add, k.packed(b"LDMK\x05\0\0\0" + bytes(100)), "m") == "E471"
    assert code(with_test, kmodel(b.conv(0, 8192, 2, 4, 8, 8, to_main=0))) == "E472"
    Image.new("L", (8, 8)).save(tmp_path / "p.png")
    assert code(with_test, vector_model(), str(tmp_path / "p.png")) == "E474"
    assert code(with_test, image, str(tmp_path / "absent.png")) == "E510"
    (tmp_path / "text.png").write_text("no picture")
    assert code(with_test, image, str(tmp_path / "text.png")) == "E453"
    assert code(with_test, vector_model(inputs=20_000)) == "E331"
    heavy = replace(load(image).program, main_bytes=6 * 1024 * 1024)
    assert code(with_test, v3.write(heavy)) == "E330"
