"""The camera: sizes, windows, shared frames, flips, buffers, time, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from board_bench import Bench
from PIL import Image

START = "sensor.reset(); sensor.set_pixformat(sensor.RGB565); sensor.set_framesize(sensor.QVGA)"


@pytest.fixture
def pictures(tmp_path: Path) -> list[np.ndarray]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(5)
    made = [rng.integers(0, 256, (240, 320, 3), np.uint8) for _ in range(3)]
    for i, p in enumerate(made):
        Image.fromarray(p).save(folder / f"{i}.png")
    return made


@pytest.fixture
def bench(tmp_path: Path, pictures: list[np.ndarray]) -> Bench:
    return Bench(tmp_path, camera=str(tmp_path / "pictures"))


def test_both_memories_of_a_frame(bench: Bench, pictures: list[np.ndarray]) -> None:
    assert bench.run(START) == "[MAIXPY]: find ov7740\n"
    for i in (0, 1, 2, 0):
        img = bench.eval("sensor.snapshot()")
        assert (img._ai == pictures[i].transpose(2, 0, 1)).all()
        error = np.abs(img.to_rgb888().astype(int) - pictures[i].astype(int))
        assert error.max() <= 5, "5, 6 and 5 bits"
    assert bench.eval("(img := sensor.snapshot()).width(), img.height(), img.ai_is_stale()") == (320, 240, "")


def test_snapshots_share_memory(bench: Bench) -> None:
    bench.run(START + "; a = sensor.snapshot(); keep = a.copy(); p = a[100]; b = sensor.snapshot()")
    assert bench.eval("a[100] == b[100]")
    assert bench.eval("keep[100]") == bench.eval("p")
    bench.run(START.replace("()", "(dual_buff=True)", 1) + "; a = sensor.snapshot(); p = a[100]; b = sensor.snapshot()")
    assert bench.eval("a[100]") == bench.eval("p")
    bench.run("c = sensor.snapshot()")
    assert bench.eval("a[100] == c[100]")


def test_windows(bench: Bench, pictures: list[np.ndarray]) -> None:
    bench.run(START)
    assert bench.eval("sensor.set_windowing((224, 200))") is True
    assert (bench.eval("sensor.snapshot()")._ai == pictures[0].transpose(2, 0, 1)[:, 20:220, 48:272]).all()
    assert bench.eval("sensor.set_windowing((16, 8, 64, 32))") is True
    assert (bench.eval("sensor.snapshot()")._ai == pictures[1].transpose(2, 0, 1)[:, 8:40, 16:80]).all()
    for window, text in (
        ("(1, 2, 3)", "The tuple/list must either be (x, y, w, h) or (w, h)"),
        ("(4, 40)", "The selected window is too small"),
        ("(328, 240)", "The selected window is outside the bounds of the frame"),
        ("(300, 0, 24, 24)", "The selected window is outside the bounds of the frame"),
        ("(60, 60)", "value must be multiple of 8"),
    ):
        with pytest.raises(ValueError) as caught:
            bench.run(f"sensor.set_windowing({window})")
        assert str(caught.value) == text


def test_grayscale_is_one_memory(bench: Bench) -> None:
    bench.run(START.replace("RGB565", "GRAYSCALE"))
    first = bench.eval("sensor.snapshot()")
    assert first._ai is first._pixels
    before = first._pixels.copy()
    bench.run("sensor.snapshot()")
    assert (first._pixels != before).any()


def test_what_it_refuses(bench: Bench) -> None:
    for source, kind, text in (
        ("sensor.snapshot()", TypeError, "not found sensor"),
        ("sensor.reset(); sensor.snapshot()", RuntimeError, "Not init!"),
        ("sensor.set_pixformat(sensor.JPEG)", OSError, "Pixel format is not supported!"),
        ("sensor.set_framesize(99)", OSError, "[Errno 5] EIO"),
        ("sensor.set_framerate(7)", ValueError, "Invalid framerate"),
        (START + "; sensor.run(0); sensor.snapshot()", RuntimeError, "Sensor timeout!"),
        ("sensor.binocular_reset()", OSError, "Reset Failed"),
    ):
        with pytest.raises(kind) as caught:
            bench.run(source)
        assert str(caught.value) == text, source


def test_buffers(bench: Bench) -> None:
    heap = bench.device.system
    free = heap.free
    bench.run(START)
    assert free - heap.free == 153600 + 230400 + 2 * 16
    bench.run("sensor.set_framesize(sensor.VGA)")
    assert free - heap.free == 1536000 + 2 * 16
    bench.run("sensor.set_windowing((224, 224))")
    assert free - heap.free == 1536000 + 2 * 16, "a window does not shrink the buffers"
    with pytest.raises(OSError) as caught:
        bench.run("sensor.set_framesize(sensor.UXGA)")
    assert caught.value.args == (12,)
    assert heap.free == free
    bench.run(START.replace("()", "(dual_buff=True)", 1))
    assert free - heap.free == 2 * (153600 + 230400) + 4 * 16
    bench.run("sensor.deinit()")
    assert heap.free == free


def test_flips_suit_the_mount(bench: Bench, pictures: list[np.ndarray]) -> None:
    bench.run(START + "; sensor.set_hmirror(1); sensor.set_vflip(1)")
    assert (bench.eval("sensor.snapshot()")._ai == pictures[0].transpose(2, 0, 1)).all()
    assert "mounted that way" in bench.notes
    bench.run("sensor.set_hmirror(0)")
    assert (bench.eval("sensor.snapshot()")._ai == pictures[1].transpose(2, 0, 1)[:, :, ::-1]).all()


def test_flips_of_a_fixed_camera(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    bench = Bench(tmp_path, camera=str(tmp_path / "pictures"), camera_fixed=True)
    bench.run(START + "; sensor.set_vflip(1)")
    assert (bench.eval("sensor.snapshot()")._ai == pictures[0].transpose(2, 0, 1)[:, ::-1]).all()


def test_the_frame_rate(bench: Bench) -> None:
    rate = (
        "a = time.ticks_us()\nfor i in range(30):\n    sensor.snapshot(); time.sleep_ms({})\nprint(time.ticks_us() - a)"
    )
    bench.run(START)
    assert abs(int(bench.run(rate.format(0))) - 1_000_000) < 60_000
    assert abs(int(bench.run(rate.format(10))) - 2_000_000) < 80_000, "one buffer: every second frame"
    bench.run(START.replace("()", "(dual_buff=True)", 1))
    assert abs(int(bench.run(rate.format(10))) - 1_000_000) < 60_000
    assert abs(int(bench.run(rate.format(50))) - 1_500_000) < 60_000
    bench.run("a = time.ticks_ms(); sensor.skip_frames(time=500)")
    assert 500 <= bench.eval("time.ticks_ms() - a") < 570
    bench.run("a = time.ticks_ms(); sensor.skip_frames(10)")
    assert 250 < bench.eval("time.ticks_ms() - a") < 400


def test_settings(bench: Bench) -> None:
    bench.run(START)
    assert bench.eval("sensor.width(), sensor.height(), sensor.get_id()") == (320, 240, 0x7742)
    assert bench.eval("sensor.set_brightness(1), sensor.set_auto_gain(False, gain_db=3), sensor.run(1)") == (
        True,
        None,
        True,
    )
    assert bench.eval("sensor.get_fb()") is None
    bench.run("img = sensor.snapshot()")
    assert bench.eval("sensor.get_fb()[7] == img[7]")
    assert bench.eval("[sensor.QQVGA, sensor.QVGA, sensor.VGA, sensor.UXGA]") == [9, 10, 11, 26]


def test_frames_end_the_script(bench: Bench, tmp_path: Path) -> None:
    from openkpu.board.device import ScriptEnd

    short = Bench(tmp_path, camera="pattern", frames=2)
    short.run(START)
    with pytest.raises(ScriptEnd):
        short.run("n = 0\nwhile True:\n    sensor.snapshot()\n    n += 1")
    assert short.eval("n") == 2
