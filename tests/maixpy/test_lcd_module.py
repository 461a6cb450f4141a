"""The display: what a script shows, where, and how long the transfer takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from board_bench import Bench

from openkpu.board.panel import color_of, rgb_of


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.run(
        "lcd.init(); img = image.Image(size=(40, 20)); img.draw_rectangle(0, 0, 40, 20, color=(255, 0, 0), fill=True)"
    )
    return made


def pixels(bench: Bench) -> np.ndarray:
    assert bench.device.panel is not None
    return bench.device.panel.pixels


def test_an_image_goes_to_the_middle(bench: Bench) -> None:
    bench.run("lcd.clear(lcd.WHITE); lcd.display(img)")
    p = pixels(bench)
    assert p.shape == (240, 320, 3)
    assert (p[110:130, 140:180] == (255, 0, 0)).all()
    assert p.sum() == 40 * 20 * 255, "the rest is black"


def test_offsets_parts_and_large_images(bench: Bench) -> None:
    bench.run("lcd.clear((0, 0, 255)); lcd.display(img, oft=(5, 6)); lcd.display(img, (0, 0, 4, 2), (300, 239))")
    p = pixels(bench)
    assert (p[6:26, 5:45] == (255, 0, 0)).all()
    assert (p[239, 300:304] == (255, 0, 0)).all()
    assert (p[30, 60] == (0, 0, 255)).all(), "with an offset nothing else is touched"
    bench.run("big = image.Image(size=(400, 300)); big.draw_rectangle(40, 30, 320, 240, color=(0, 255, 0), fill=True)")
    bench.run("lcd.display(big)")
    assert (pixels(bench) == (0, 255, 0)).all(), "its middle"


def test_text(bench: Bench) -> None:
    bench.run("lcd.draw_string(10, 20, 'Hi', lcd.WHITE, lcd.BLUE)")
    p = pixels(bench)[20:32, 10:26]
    assert set(map(tuple, p.reshape(-1, 3).tolist())) == {(255, 255, 255), (0, 0, 255)}
    assert (pixels(bench)[20:32, 26:] == 0).all()
    bench.run("lcd.draw_string(310, 60, 'wide')")
    assert pixels(bench)[60:72, 310:318].any()
    assert not pixels(bench)[60:72, 318:].any(), "cut off at a whole character"


def test_colours_are_swapped_words() -> None:
    for name, rgb in (("RED", (255, 0, 0)), ("GREEN", (0, 255, 0)), ("BLUE", (0, 0, 255)), ("WHITE", (255, 255, 255))):
        value = {"RED": 248, "GREEN": 57351, "BLUE": 7936, "WHITE": 65535}[name]
        assert (rgb_of(value), color_of(rgb)) == (rgb, value)
    assert all(color_of(rgb_of(c)) == c for c in range(0, 65536, 7))


def test_rotation_and_sizes(bench: Bench) -> None:
    assert bench.eval("lcd.width(), lcd.height(), lcd.rotation()") == (320, 240, 0)
    assert bench.eval("lcd.rotation(1), lcd.width(), lcd.height()") == (1, 240, 320)
    assert bench.eval("lcd.mirror(True), lcd.mirror(), lcd.direction(lcd.YX_RLDU)") == (1, 1, None)
    with pytest.raises(ValueError, match=r"value:\[0,3\]"):
        bench.run("lcd.rotation(4)")
    bench.run("lcd.init(type=5)")
    assert bench.eval("lcd.width(), lcd.height(), lcd.type()") == (240, 240, 5)
    bench.run("lcd.deinit()")
    assert bench.eval("lcd.width(), lcd.type()") == (None, None)


def test_what_it_refuses(bench: Bench) -> None:
    for source, kind, text in (
        ("lcd.display(3)", TypeError, "Can't convert int to Image"),
        ("lcd.display(img, (50, 0, 4, 4))", OSError, "ROI does not overlap on the image!"),
        ("lcd.display(img, oft=(1,))", ValueError, "requested length 2 but object has length 1"),
        ("lcd.init(type=9)", ValueError, "type error"),
        ("lcd.init(); lcd.fill_rectangle(300, 0, 30, 5, lcd.RED)", ValueError, "arg error"),
        ("lcd.init(); lcd.init(nothing=1)", TypeError, "extra keyword arguments given"),
        ("lcd.deinit(); lcd.draw_string(0, 0, 'x')", ValueError, "not init"),
        ("lcd.fill_rectangle(0, 0, 5, 5, 3)", ValueError, "not init"),
    ):
        with pytest.raises(kind) as caught:
            bench.run(source)
        assert str(caught.value) == text, source
    bench.run("lcd.display(img)")
    assert "before lcd.init" in bench.notes


def test_memory_and_time(bench: Bench) -> None:
    free = bench.device.system.free
    bench.run("lcd.deinit()")
    assert bench.device.system.free - free == 153600 + 16
    bench.run("lcd.init(freq=20000000); a = time.ticks_us(); lcd.display(img); b = time.ticks_us()")
    assert abs(bench.eval("b - a") - 320 * 240 * 2 / 20 - 10) <= 2
    assert bench.eval("lcd.freq(15000000)") == 15000000
    while bench.device.malloc(4096, "filler") is not None:
        pass
    with pytest.raises(OSError) as caught:
        bench.run("lcd.init(width=800, height=480)")
    assert caught.value.args == (12,)


def test_text_comes_with_the_image_before_it(bench: Bench) -> None:
    bench.run("lcd.display(img); lcd.draw_string(0, 0, 'label'); lcd.display(img)")
    bench.device.flush_display()
    frames = [(f, d) for k, f, d in bench.events if k == "frame"]
    numbers = [f["n"] for f, _ in frames]
    assert numbers[-2:] == [1, 2]
    first = np.frombuffer(frames[-2][1], np.uint8).reshape(240, 320, 3)
    assert first[:12, :40].any()
    assert not np.frombuffer(frames[-1][1], np.uint8).reshape(240, 320, 3)[:12, :40].any()
