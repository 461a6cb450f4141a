"""Holding a script back: pause, the chip's pace, and what that leaves alone."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import board_bench as bb
import numpy as np
import pytest

from openkpu.board.camera import Camera, Live
from openkpu.board.clock import Clock
from openkpu.board.pace import Pace


def test_no_faster_than_the_chip() -> None:
    pace = Pace(True)
    clock = Clock(pace=pace)
    clock.sleep(1000)
    began = time.monotonic()
    for _ in range(10):
        clock.spend(10_000)
    assert time.monotonic() - began > 0.09
    assert clock.us == pytest.approx(101_000)


def test_a_change_wakes_it_up() -> None:
    for change in (lambda p: p.set_paced(False), lambda p: p.pause(False)):
        pace = Pace(True)
        clock = Clock(pace=pace)
        clock.sleep(1)
        sleeper = threading.Thread(target=clock.sleep, args=(3600e6,), daemon=True)
        sleeper.start()
        sleeper.join(0.05)
        assert sleeper.is_alive()
        change(pace)
        sleeper.join(20)
        assert not sleeper.is_alive()
        assert clock.us == pytest.approx(3600e6 + 1), "the chip's time has passed"


@pytest.mark.parametrize("real", [False, True])
def test_pause(real: bool) -> None:
    pace = Pace(False)
    clock = Clock(real=real, pace=pace)
    pace.pause(True)
    asker = threading.Thread(target=clock.ask, daemon=True)
    asker.start()
    asker.join(0.05)
    assert asker.is_alive()
    pace.pause(False)
    asker.join(20)
    assert not asker.is_alive()


def test_who_is_late_does_not_hurry() -> None:
    pace = Pace(True)
    pace.keep(0)
    time.sleep(0.15)
    pace.keep(1000)
    began = time.monotonic()
    pace.keep(51_000)
    assert time.monotonic() - began > 0.04


def test_the_watcher_s_pictures_and_the_option_s() -> None:
    camera = Camera("pattern")
    bars = camera.frame(64, 64)
    camera.use_live(True)
    assert isinstance(camera.source, Live)
    camera.source.put(np.full((64, 64, 3), 7, np.uint8))
    for _ in range(2):
        camera.use_live(True)
        assert (camera.frame(64, 64) == 7).all()
    camera.use_live(False)
    camera.use_live(False)
    assert (camera.frame(64, 64) == bars).all()
    only = Camera("live")
    only.use_live(False)
    assert isinstance(only.source, Live)


def test_what_a_watched_board_tells(tmp_path: Path) -> None:
    bench = bb.Bench(tmp_path, flash={0x300000: bb.image_model()}, send_bill=True)
    bench.run("from Maix import GPIO, FPIOA\nFPIOA().set_function(9, FPIOA.GPIO3)\nkey = GPIO(GPIO.GPIO3, GPIO.IN)")
    bench.run("key.value(); out = GPIO(GPIO.GPIO4, GPIO.OUT); out.value(1)\ntask = kpu.load(0x300000)\nlcd.init()")
    assert [(e["pin"], e["level"]) for e in bench.of("input")] == [(9, 1)]
    (model,) = bench.of("model")
    assert (model["kinds"], model["shapes"]) == (["kpu"], [[4, 16, 16]])
    bills = [e["bill"] for e in bench.of("memory") if "bill" in e]
    names = [what for what, _ in bills[-1]]
    assert names[:2] == ["firmware minimum-v4", "GC heap (script and images)"]
    assert "display 320x240" in names
    assert any(n.endswith("model: the file") for n in names)
    quiet = tmp_path / "quiet"
    quiet.mkdir()
    plain = bb.Bench(quiet)
    plain.run("lcd.init()")
    assert not any("bill" in e for e in plain.of("memory"))
