"""The whole way with the machine code of kflash's flash program, where kflash 1.1.6 and unicorn are installed."""

from __future__ import annotations

from importlib.metadata import version

import pytest
import real_flash_program
from real_flash_program import RealProgram

from openkpu.flash import stub
from openkpu.flash.boards import RTS_RESETS
from openkpu.flash.flasher import Options, flash
from openkpu.flash.layout import Part

pytest.importorskip("unicorn", reason="unicorn is not installed: pip install unicorn")
pytest.importorskip("kflash", reason="kflash is not installed: pip install 'openkpu[flash]'")
if version("kflash") != "1.1.6":
    pytest.skip("the addresses are those of kflash 1.1.6", allow_module_level=True)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> RealProgram:
    program = stub.find().data
    real_flash_program.use(monkeypatch, program)
    return RealProgram(program, RTS_RESETS)


def test_writes_and_keeps_what_lies_around(board: RealProgram) -> None:
    board.flash[:] = b"\x55" * len(board.flash)
    parts = [
        Part("whole blocks", 0x300000, b"\xc0\xdb" + bytes(65534)),
        Part("across blocks", 0x50FF00, bytes(range(256)) * 3),
    ]
    result = flash(board, "port", parts, board.program, clock=board.clock)
    assert (result.baud, result.restarted, result.notes) == (1_500_000, True, [])
    assert board.did == {"erase", "program", "read"}
    for part in parts:
        assert board.flash[part.address : part.end] == part.data
        assert set(board.flash[part.end : part.end + 70000]) == {0x55}
        assert set(board.flash[part.address - 70000 : part.address]) == {0x55}


def test_erases_the_chip(board: RealProgram) -> None:
    board.flash[:] = b"\x55" * len(board.flash)
    part = Part("m", 0x300000, b"model" * 200)
    flash(board, "port", [part], board.program, Options(erase=True), clock=board.clock)
    assert "erase chip" in board.did
    assert board.flash[part.address : part.end] == part.data
    assert set(board.flash[:0x300000]) == {0xFF}


@pytest.mark.parametrize("change", ["first lost", "last lost", "last doubled", "byte lost"])
def test_a_damaged_frame_is_sent_again(board: RealProgram, change: str) -> None:
    frames = 0

    def sent(n: int, data: bytes) -> bytes:
        nonlocal frames
        frames += data[:2] == b"\xc0\xd4"
        if data[:2] != b"\xc0\xd4" or frames != 2:
            return data
        frames += 1
        where = {"first lost": data[1:], "last lost": data[:-1], "last doubled": data + b"\xc0"}
        return where.get(change, data[:90] + data[91:])

    board.sent = sent
    parts = [Part(f"part {i}", 0x300000 + 65536 * i, bytes([i + 1]) * 500) for i in range(4)]
    flash(board, "port", parts, board.program, clock=board.clock)
    for part in parts:
        assert board.flash[part.address : part.end] == part.data
