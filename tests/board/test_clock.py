"""Chip time and real time."""

from __future__ import annotations

import time

from openkpu.board.clock import ASK_US, FRAME_US, Clock


def test_chip_time_passes_only_where_the_chip_works() -> None:
    clock = Clock()
    time.sleep(0.01)
    assert clock.us == 0
    clock.spend(5)
    clock.sleep(10)
    clock.sleep(-3)
    assert clock.us == 15
    assert clock.ask() == 15 + ASK_US


def test_real_time_is_the_computers() -> None:
    clock = Clock(real=True)
    clock.spend(1e9)
    clock.sleep(2000)
    assert 2000 <= clock.us < 1e9
    assert clock.ask() >= 2000


def test_frames_come_in_step() -> None:
    clock = Clock()
    ends = []
    for work in (0, 0, 1000, 20_000, 40_000):
        clock.wait_for_frame(dual=False)
        ends.append(clock.us / FRAME_US)
        clock.spend(work)
    assert [round(e, 1) for e in ends] == [0.9, 1.9, 2.9, 3.9, 5.9]
