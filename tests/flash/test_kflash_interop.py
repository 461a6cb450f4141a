"""kflash itself flashes a package of ours onto the simulated board: package and board are as it expects them."""

from __future__ import annotations

from pathlib import Path

import pytest
from isp_device import SRAM
from pty_board import Board

from openkpu.flash import kfpkg, stub
from openkpu.flash.kfpkg import Package
from openkpu.flash.layout import Part

pytest.importorskip("pty", reason="pseudo terminals are a thing of Unix")
kflash = pytest.importorskip("kflash", reason="kflash is not installed: pip install 'openkpu[flash]'")


def test_kflash_writes_our_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serial import serialposix

    for line in ("_update_dtr_state", "_update_rts_state"):  # a pseudo terminal has no such lines
        monkeypatch.setattr(serialposix.Serial, line, lambda self: None)
    program = stub.find().data
    monkeypatch.setattr("isp_device.STUB", program)
    noise = bytes(i * i % 251 for i in range(70_000))
    parts = (
        Part("maixpy.bin", 0, noise, sha256_prefix=True),
        Part("m.kmodel", 0x300000, noise[::-1] * 2),
        Part("unaligned.bin", 0x500123, noise),
    )
    package = tmp_path / "ours.kfpkg"
    package.write_bytes(kfpkg.write(Package(parts, {"kat.py": b"print(1)"})))
    board = Board()
    board.start()
    try:
        kflash.KFlash(lambda *args, **options: None).process(
            terminal=False, dev=board.name_of_port, baudrate=460800, board="dan", file=str(package), noansi=True
        )
    finally:
        board.close()
    device = board.device
    assert device.violations == []
    assert device.log[:2] == [f"boot {SRAM:#x}", "baud 460800"]
    assert device.sram[: len(program)] == program
    for part in parts:
        assert device.flash[part.address : part.end] == part.stored
