"""init_yolo2 and run_yolo2: texts, results, and the region layer against a slow copy of its definition."""

from __future__ import annotations

import math
from pathlib import Path

import board_bench as bb
import numpy as np
import pytest
from board_bench import Bench
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import openkpu
from openkpu.analyze import yolo
from openkpu.errors import BoardError
from openkpu.maixpy.kpu import region

ANCHORS = "(1.0, 1.5, 2.0, 2.5, 0.5, 0.75, 3.0, 1.0, 1.25, 4.0)"
VALUES = [1.0, 1.5, 2.0, 2.5, 0.5, 0.75, 3.0, 1.0, 1.25, 4.0]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path, sd={"y.kmodel": bb.float_model(35, seed=3), "b.kmodel": bb.image_model()})
    made.run("m = kpu.load('y.kmodel'); img = image.Image(size=(8, 8))")
    made.run("for i in range(8): img.draw_line(i, 0, i, 7, color=(i * 30, 255 - i * 20, i * i * 5))\nimg.pix_to_ai()")
    return made


def init(threshold: str = "0.5", nms: str = "0.3", number: str = "5", anchors: str = ANCHORS, net: str = "m") -> str:
    return f"kpu.init_yolo2({net}, {threshold}, {nms}, {number}, {anchors})"


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (init(net="3"), TypeError, "[MAIXPY]kpu: kpu_net type error"),
        (init(threshold="1.5"), ValueError, "[MAIXPY]kpu: threshold only support 0 to 1"),
        (init(threshold="-0.1"), ValueError, "[MAIXPY]kpu: threshold only support 0 to 1"),
        (init(nms="2"), ValueError, "[MAIXPY]kpu: nms_value only support 0 to 1"),
        (init(number="0"), ValueError, "[MAIXPY]kpu: anchor_number should > 0"),
        (init(number="4"), ValueError, "requested length 8 but object has length 10"),
        (init(anchors="3"), TypeError, "object 'int' isn't a tuple or list"),
        (init(threshold="None"), TypeError, "can't convert NoneType to float"),
        ("kpu.init_yolo2(m, 0.5, 0.3, 5)", TypeError, "function missing 1 required positional arguments"),
        (init()[:-1] + ", anchors=3)", TypeError, "extra keyword arguments given"),
        ("kpu.run_yolo2(m)", TypeError, "function missing 1 required positional arguments"),
    ],
)
def test_what_init_refuses(bench: Bench, call: str, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        bench.run(call)
    assert str(caught.value) == text


def test_the_arguments_can_be_read_back(bench: Bench) -> None:
    assert bench.eval("m.net_arg()") is None
    assert bench.eval(init(threshold="0.1")[:-1] + ", dma=2)") is True
    assert bench.eval("m.net_arg().threshold()") == float(np.float32(0.1))
    assert bench.eval("m.net_arg().nms_value()") == float(np.float32(0.3))
    assert bench.eval("m.net_arg().anchor_number(), m.net_arg().anchor()") == (5, tuple(VALUES))
    text = (
        '{"threshold":0.100000, "nms_value":0.300000, "anchor_number":5, "anchor":"(1.000000, 1.500000, 2.000000, '
        '2.500000, 0.500000, 0.750000, 3.000000, 1.000000, 1.250000, 4.000000)"}'
    )
    assert bench.run("print(m.net_arg())") == text + "\n"
    assert bench.run("print(m)").endswith(f'"net_args": {text}}}\n')
    bench.run("kpu.deinit(m)")
    assert bench.eval("m.net_arg()") is None


def test_the_objects(bench: Bench) -> None:
    bench.run(init(threshold="0.2"))
    bench.run("found = kpu.run_yolo2(m, img)")
    found = bench.scope["found"]
    assert isinstance(found, list)
    first = found[0]
    x, y, w, h = first.rect()
    assert (first.x(), first.y(), first.w(), first.h()) == (x, y, w, h)
    assert (first.index(), first.objnum(), found[-1].index()) == (0, len(found), len(found) - 1)
    assert 0.2 < first.value() <= 1
    assert bench.run("print(found[0])") == (
        f'{{"x":{x}, "y":{y}, "w":{w}, "h":{h}, "value":{first.value():f}, "classid":{first.classid()}, "index":0, '
        f'"objnum":{len(found)}}}\n'
    )
    assert (len(found) > 10) == ("room for 10" in bench.notes)
    bench.run(init(threshold="1"))
    assert bench.eval("kpu.run_yolo2(m, img)") is None


def test_the_output_is_activated_in_place(bench: Bench) -> None:
    bench.run(init())
    bench.run("kpu.run_yolo2(m, img); f = kpu.get_output(m, 0)[:]; g = kpu.forward(m, img)[:]")
    after, before = (np.array(bench.scope[n], np.float32).reshape(5, 7, 64) for n in "fg")
    np.testing.assert_allclose(after[:, 4], 1 / (1 + np.exp(-before[:, 4])), rtol=1e-6)
    np.testing.assert_allclose(after[:, 5:].sum(axis=1), 1, rtol=1e-6)
    assert (after[:, 2:4] == before[:, 2:4]).all()


def test_run_before_init_crashes(bench: Bench) -> None:
    with pytest.raises(BoardError) as caught:
        bench.run("kpu.run_yolo2(m, img)")
    assert caught.value.code == "E624"


@pytest.mark.parametrize("channels", [18, 25])
def test_models_that_are_no_yolo_with_five_anchors(tmp_path: Path, channels: int) -> None:
    bench = Bench(tmp_path, sd={"y.kmodel": bb.float_model(channels)})
    bench.run(f"m = kpu.load('y.kmodel'); img = image.Image(size=(8, 8)); img.pix_to_ai(); {init()}")
    with pytest.raises(BoardError) as caught:
        bench.run("kpu.run_yolo2(m, img)")
    assert caught.value.code == "E625"
    assert "5 anchors" in caught.value.fix


def test_other_numbers_of_anchors_are_misread(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sd={"y.kmodel": bb.float_model(60)})
    three = ANCHORS.replace(")", ", 1.0, 1.0, 2.0, 2.0, 1.0, 2.0, 2.0, 1.0, 0.5, 0.5)")
    bench.run("m = kpu.load('y.kmodel'); img = image.Image(size=(8, 8)); img.pix_to_ai()")
    bench.run(f"kpu.init_yolo2(m, 0.5, 0.3, 10, {three})")
    with pytest.raises(BoardError) as caught:  # 10 anchors read as 7 classes: twice the output
        bench.run("kpu.run_yolo2(m, img)")
    assert caught.value.code == "E625"
    bench.run("kpu.init_yolo2(m, 0.5, 0.3, 3, (1.0, 1.0, 2.0, 2.0, 1.0, 2.0)); kpu.run_yolo2(m, img)")
    assert "misreads this model" in bench.notes


def test_bytes_are_read_as_floats_and_stop_the_board(bench: Bench) -> None:
    bench.run("b = kpu.load('b.kmodel'); i = image.Image(size=(16, 16)); i.pix_to_ai(); " + init(net="b"))
    with pytest.raises(BoardError) as caught:
        bench.run("kpu.run_yolo2(b, i)")
    assert caught.value.code == "E625"


def test_region_layer_without_memory(bench: Bench) -> None:
    bench.run(init())
    device = bench.device
    while device.malloc(1 << 14, "filler") is not None:
        pass
    while device.malloc(1 << 10, "filler") is not None:
        pass
    free = device.system.free
    with pytest.raises(ValueError) as caught:
        bench.run("kpu.run_yolo2(m, img)")
    assert str(caught.value) == "[MAIXPY]kpu: region_layer_init err!\r\n"
    assert device.system.free == free


def test_v4_without_shape(bench: Bench) -> None:
    bench.run(init())
    object.__setattr__(bench.scope["m"]._handle.file, "version", 4)
    with pytest.raises(ValueError) as caught:
        bench.run("kpu.run_yolo2(m, img)")
    assert str(caught.value) == "[MAIXPY]kpu: region_layer_init err!\r\n"


# -- the arithmetic ------------------------------------------------------------------------------------------------


def slow(output: np.ndarray, grid: tuple[int, int, int], image: tuple[int, int], threshold: float, nms: float) -> list:
    """The region layer, loop by loop, in double precision."""
    wo, ho, cho = grid
    classes, cells = cho // 5 - 5, wo * ho
    boxes, probs = [], []
    for n in range(5):
        for c in range(cells):
            v = [float(output[n * cells * (classes + 5) + e * cells + c]) for e in range(classes + 5)]
            sx, sy, so = (1 / (1 + math.exp(-v[i])) for i in (0, 1, 4))
            top = max(v[5:])
            e = [math.exp(t - top) for t in v[5:]]
            bx, by = (c % wo + sx) / wo, (c // wo + sy) / ho
            bw, bh = math.exp(v[2]) * VALUES[2 * n] / wo, math.exp(v[3]) * VALUES[2 * n + 1] / ho
            boxes.append((bx, by, bw, bh))
            p = [so * t / sum(e) for t in e]
            probs.append([t if t > threshold else 0 for t in p])
    for k in range(classes):
        order = sorted(range(len(boxes)), key=lambda i: -probs[i][k])
        for a, i in enumerate(order):
            if probs[i][k]:
                for j in order[a + 1 :]:
                    if iou(boxes[i], boxes[j]) > nms:
                        probs[j][k] = 0
    found = []
    for (bx, by, bw, bh), p in zip(boxes, probs, strict=True):
        if max(p) > threshold:
            low = [max(0, int(t)) for t in (bx * image[0] - bw * image[0] / 2, by * image[1] - bh * image[1] / 2)]
            high = [max(0, int(t)) for t in (bx * image[0] + bw * image[0] / 2, by * image[1] + bh * image[1] / 2)]
            found.append((*low, high[0] - low[0], high[1] - low[1], p.index(max(p)), max(p)))
    return found


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    inner = 1.0
    for i in (0, 1):
        inner *= max(0.0, min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2))
    return inner / (a[2] * a[3] + b[2] * b[3] - inner)


@given(arrays(np.int8, 5 * 7 * 6, elements=st.integers(-64, 64), fill=st.just(-30)), st.integers(1, 8))
def test_the_region_layer_is_what_the_firmware_does(raw: np.ndarray, limit: int) -> None:
    """Values on a grid of 1/17 keep both precisions away from the limits."""
    output = raw.astype(np.float32) / 17
    threshold, nms = limit / 10 + 0.0137, 0.3071
    wanted = slow(output.copy(), (3, 2, 35), (96, 64), threshold, nms)
    found = region.run(output, (3, 2, 35), (96, 64), VALUES, threshold, nms)
    assert [(f.label, round(f.score, 4)) for f in found] == [(w[4], round(w[5], 4)) for w in wanted]
    for f, w in zip(found, wanted, strict=True):
        assert max(abs(a - b) for a, b in zip((f.x, f.y, f.w, f.h), w, strict=False)) <= 1  # cut off, not rounded


def test_it_agrees_with_kpu_run(bench: Bench) -> None:
    bench.run(init(threshold="0.2"))
    bench.run("found = kpu.run_yolo2(m, img)")
    model = openkpu.load(bb.float_model(35, seed=3))
    output = model.run(bench.scope["img"]._ai)[0]
    boxes = yolo.decode(output, VALUES, threshold=0.2, nms=0.3)
    ours = [(o.classid(), round(o.value(), 4)) for o in bench.scope["found"]]
    assert ours == [(box.label, round(box.score, 4)) for box in boxes]


def test_far_away_boxes_saturate_and_wrap() -> None:
    output = np.full(5 * 6, -20, np.float32)
    output[[0, 1, 2, 3, 4, 5]] = (0, 0, 9, -60, 20, 0)
    (found,) = region.run(output, (1, 1, 30), (200, 100), VALUES, 0.5, 0.3)
    assert (found.x, found.y, found.h) == (0, 50, 0)
    assert -32768 <= found.w <= 32767, "the rectangle's fields have 16 bits"
