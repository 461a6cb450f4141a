"""The real serial path: pyserial on a pseudo terminal, and ports that cannot be opened."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from isp_device import STUB
from pty_board import Board

from openkpu.errors import SetupError
from openkpu.flash import kfpkg
from openkpu.flash.flasher import Options, flash
from openkpu.flash.kfpkg import Package
from openkpu.flash.layout import Part
from openkpu.flash.port import SerialPort, names

serial = pytest.importorskip("serial", reason="pyserial is not installed: pip install 'openkpu[flash]'")
pty = pytest.importorskip("pty", reason="pseudo terminals are a thing of Unix")


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board()
    made.start()
    yield made
    made.close()


def test_flash_over_a_pseudo_terminal(board: Board) -> None:
    part = Part("m.kmodel", 0x300000, b"\xc0\xdb" + bytes(range(256)) * 400)
    port = SerialPort(board.name_of_port, 115200)
    try:
        result = flash(port, board.name_of_port, [part], STUB, Options(baud=460800))
        assert port.baudrate == 115200
    finally:
        port.close()
    assert result.bytes_written == part.size
    assert result.baud == 460800
    assert board.device.flash[part.address : part.end] == part.data
    assert board.device.violations == []


def test_the_verb_over_a_pseudo_terminal(board: Board, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from openkpu.cli.app import app

    program = bytes(range(256)) * 40 + b"MAIXPY only support kmodel V3\0"
    package = Package((Part("maixpy.bin", 0, program, True), Part("data.bin", 0xA00000, b"hello" * 100)))
    (tmp_path / "p.kfpkg").write_bytes(kfpkg.write(package))
    (tmp_path / "isp.bin").write_bytes(STUB)
    args = ["flash", board.name_of_port, str(tmp_path / "p.kfpkg"), "--bootloader", str(tmp_path / "isp.bin")]
    result = CliRunner().invoke(app, [*args, "--verify", "--json"], prog_name="kpu")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert (data["verified"], data["restarted"], data["bytes_written"]) == (True, True, data["bytes_total"])
    assert [w["name"] for w in data["written"]] == ["maixpy.bin", "data.bin"]
    assert board.device.flash[0xA00000:0xA00005] == b"hello"
    assert board.device.maixpy


def test_a_port_that_goes_away() -> None:
    master, slave = os.openpty()
    port = SerialPort(os.ttyname(slave), 115200)
    os.close(master)
    os.close(slave)
    for call in (lambda: port.read(1), lambda: port.write(b"x" * 100), port.discard_input):
        with pytest.raises(SetupError, match="E529"):
            call()
    port.close()


def test_a_port_in_use(board: Board) -> None:
    port = SerialPort(board.name_of_port, 115200)
    with pytest.raises(SetupError, match="E522"):
        SerialPort(board.name_of_port, 115200)
    port.close()


@pytest.mark.parametrize("name", ["/dev/ttyNothing7", "COM99", ""])
def test_no_such_port(name: str) -> None:
    with pytest.raises(SetupError, match="E520") as error:
        SerialPort(name, 115200)
    assert "Ports on this computer" in error.value.fix


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.EACCES, "Permission denied"), "E521"),
        (OSError(errno.EBUSY, "Device or resource busy"), "E522"),
        ("could not open port 'COM3': PermissionError(13, 'Access is denied.', None, 5)", "E521"),
        ("could not open port 'COM9': FileNotFoundError(2, 'The system cannot find the file', None, 2)", "E520"),
    ],
)
def test_why_a_port_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, error: object, code: str) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error if isinstance(error, OSError) else serial.SerialException(error)

    monkeypatch.setattr(serial, "serial_for_url", fail)
    with pytest.raises(SetupError, match=code) as found:
        SerialPort("COM3", 115200)
    assert found.value.fix


def test_an_impossible_speed(board: Board) -> None:
    port = SerialPort(board.name_of_port, 115200)
    with pytest.raises(SetupError, match="E528"):
        port.baudrate = -5
    port.close()


def test_ports_are_listed() -> None:
    assert all(isinstance(n, str) for n in names())
