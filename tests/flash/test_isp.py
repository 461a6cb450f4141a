"""The serial protocol against a simulated board: the good way, and everything that can go wrong on a cable."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isp_device import STUB, Device, FakeClock, settled_lines

from openkpu.errors import OpenKPUError, SetupError
from openkpu.flash import isp as protocol
from openkpu.flash import slip
from openkpu.flash.boards import BOARDS, DTR_RESETS, OLD_DAPLINK, RTS_RESETS
from openkpu.flash.firmware import frame
from openkpu.flash.flasher import Options, Result, flash, run_in_sram
from openkpu.flash.layout import Part

MAIXPY = bytes(range(256)) * 400 + b"MAIXPY only support kmodel V3/V4 now"
MODEL = Part("face.kmodel", 0x300000, b"\xc0\xdb\xdc\xdd" + bytes(range(256)) * 600)
FIRMWARE = Part("maixpy.bin", 0, MAIXPY, sha256_prefix=True)
ALL_WIRINGS = pytest.mark.parametrize("wiring", [RTS_RESETS, DTR_RESETS, OLD_DAPLINK], ids=["rts", "dtr", "daplink"])


def run(device: Device, *parts: Part, **options: object) -> Result:
    return flash(device, "port", parts, STUB, Options(**options), clock=device.clock)  # type: ignore[arg-type]


def lies(device: Device, part: Part) -> bool:
    return device.flash[part.address : part.end] == part.stored


# -- packets ----------------------------------------------------------------------------------------------------------
def test_packets_of_the_vendor() -> None:
    """Bytes as kflash sends them."""
    assert slip.encode(protocol.plain(protocol.ROM_NOP)) == b"\xc0\xc2" + bytes(12) + b"\xc0"
    assert slip.encode(protocol.plain(protocol.NOP)) == b"\xc0\xd2" + bytes(12) + b"\xc0"
    boot = protocol.packet(protocol.ROM_BOOT, protocol.SRAM)
    assert boot == bytes.fromhex("c5000000fb6fc4d40000008000000000")


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(1, 7))
def test_slip_round_trip(packets: list[bytes], piece: int) -> None:
    line = b"".join(slip.encode(p) for p in packets)
    decoder = slip.Decoder()
    found = [p for i in range(0, len(line), piece) for p in decoder.feed(line[i : i + piece])]
    assert found == packets


def test_a_lost_mark_costs_one_packet_and_a_wrong_escape_is_dropped() -> None:
    decoder = slip.Decoder()
    line = slip.encode(b"one")[:-1] + slip.encode(b"two") + slip.encode(b"three")
    assert decoder.feed(line) == [b"one", b"two", b"three"]
    assert decoder.feed(b"\xc0a\xdbb\xc0" + slip.encode(b"good")) == [b"good"]
    assert decoder.feed(b"\xc0half\xdb\xc0" + slip.encode(b"good")) == [b"good"]


def test_wirings_differ_and_end_in_a_running_board() -> None:
    assert settled_lines(RTS_RESETS.isp) == [(False, False), (False, True), (True, False)]
    assert settled_lines(DTR_RESETS.isp) == [(False, False), (True, False), (False, True)]
    assert all(w.isp != w.run for _, w in BOARDS.values())


# -- the good way -----------------------------------------------------------------------------------------------------
@ALL_WIRINGS
def test_flash_and_read_back(wiring: object) -> None:
    device = Device(wiring)  # type: ignore[arg-type]
    stages: dict[str, list[tuple[int, int]]] = {}
    result = flash(
        device,
        "port",
        [FIRMWARE, MODEL],
        STUB,
        Options(verify=True),
        progress=lambda stage, done, total: stages.setdefault(stage, []).append((done, total)),
        clock=device.clock,
    )
    assert lies(device, FIRMWARE)
    assert lies(device, MODEL)
    assert device.violations == []
    assert device.booted >= 1
    assert (result.restarted, result.verified, result.baud, result.erased) == (True, True, 1_500_000, False)
    assert result.notes == []
    assert [w["name"] for w in result.written] == ["maixpy.bin", "face.kmodel"]
    assert result.bytes_written == result.bytes_total == FIRMWARE.size + MODEL.size
    assert stages["write"][-1] == (result.bytes_total, result.bytes_total)
    assert all(a <= b for a, b in itertools.pairwise(stages["write"]))
    assert stages["verify"][-1] == (result.bytes_total, result.bytes_total)
    assert device.baudrate == 115200  # so that a terminal works afterwards


@pytest.mark.parametrize("board", BOARDS)
def test_every_board_by_name(board: str) -> None:
    device = Device(BOARDS[board][1])
    assert run(device, MODEL, board=board).board == board
    assert lies(device, MODEL)


def test_the_firmware_is_framed_for_the_boot_rom() -> None:
    device = Device(RTS_RESETS)
    run(device, FIRMWARE)
    assert device.flash[: FIRMWARE.size] == frame(MAIXPY)
    assert device.maixpy


def test_slow_stays_at_115200_and_waits_longer() -> None:
    device = Device(RTS_RESETS, fast=False)
    result = run(device, MODEL, slow=True)
    assert result.baud == 115200
    assert not any("baud" in line for line in device.log)
    assert lies(device, MODEL)
    assert device.violations == []


def test_an_adapter_that_is_too_slow_falls_back() -> None:
    device = Device(RTS_RESETS, fast=False)
    result = run(device, MODEL)
    assert result.baud == 115200
    assert "1500000 baud did not work" in result.notes[0]
    assert lies(device, MODEL)


def test_erase_comes_first_and_takes_its_time() -> None:
    device = Device(RTS_RESETS)
    device.flash[0xD00000:0xD00010] = bytes(16)
    seconds: list[int] = []
    flash(
        device,
        "port",
        [MODEL],
        STUB,
        Options(erase=True),
        progress=lambda stage, done, total: seconds.append(done) if stage == "erase" else None,
        clock=device.clock,
    )
    assert device.flash[0xD00000:0xD00010] == b"\xff" * 16
    assert lies(device, MODEL)
    assert max(seconds) >= 38
    assert [line.split()[0] for line in device.log][:3] == ["boot", "baud", "erase"]


@settings(max_examples=50)
@given(st.integers(0, 0x200000), st.integers(1, 200_000), st.sampled_from([0, 1, 4095]))
def test_frames_never_cross_a_block(address: int, size: int, more: int) -> None:
    frames: list[tuple[int, int]] = []

    class Recorder(protocol.Isp):
        def _retried(self, request, seconds, doing, at, **kw):  # type: ignore[no-untyped-def]
            frames.append((at, len(request) - 16))

        def _in_step(self, *probes):  # type: ignore[no-untyped-def]
            return True

    Recorder(SimpleNamespace(baudrate=115200), FakeClock()).write(address + more, bytes(size), lambda done: None)
    assert sum(n for _, n in frames) == size
    assert frames[0][0] == address + more
    assert all(a // 65536 == (a + n - 1) // 65536 for a, n in frames)
    assert all(a + n == b for (a, n), (b, _) in itertools.pairwise(frames))


def test_neighbours_of_an_unaligned_write_stay() -> None:
    device = Device(RTS_RESETS)
    device.flash[:] = b"\x55" * len(device.flash)
    part = Part("data", 0x12345, bytes(100_000))
    run(device, part)
    assert lies(device, part)
    assert device.flash[: part.address] == b"\x55" * part.address
    assert device.flash[part.end : part.end + 70000] == b"\x55" * 70000


def test_sram() -> None:
    device = Device(RTS_RESETS)
    program = bytes(range(256)) * 20
    result = run_in_sram(device, "port", program, clock=device.clock)
    assert device.sram[: len(program)] == program
    assert device.mode == "other program"
    assert device.violations == []
    assert result.bytes_written == len(program)
    for bad, code in ((b"", "E125"), (b"\x7fELF" + bytes(60), "E125"), (bytes(6 * 1024 * 1024 + 1), "E323")):
        with pytest.raises(OpenKPUError) as error:
            run_in_sram(device, "port", bad, clock=device.clock)
        assert error.value.code == code


# -- trouble ----------------------------------------------------------------------------------------------------------
def fails(device: Device, code: str, *parts: Part, **options: object) -> SetupError:
    with pytest.raises(SetupError) as error:
        run(device, *(parts or (MODEL,)), **options)
    assert error.value.code == code
    assert error.value.fix
    return error.value


def test_nothing_answers() -> None:
    device = Device(RTS_RESETS)
    device.sent = lambda n, data: b""
    assert "all boards" in fails(device, "E523").where
    assert device.clock.now < 30


def test_the_wrong_board_is_said() -> None:
    assert "reset of kd233" in fails(Device(RTS_RESETS), "E523", board="kd233").where
    assert "dan" in fails(Device(RTS_RESETS), "E532", board="arduino").fix


@pytest.mark.parametrize("baud", [0, 300, 9_000_000])
def test_impossible_speeds(baud: int) -> None:
    fails(Device(RTS_RESETS), "E528", baud=baud)


def test_a_program_that_is_no_flash_program() -> None:
    device = Device(RTS_RESETS)
    with pytest.raises(SetupError) as error:
        flash(device, "port", [MODEL], b"something else" * 100, clock=device.clock)
    assert error.value.code == "E527"


def test_the_rom_refuses() -> None:
    device = Device(RTS_RESETS)
    device.answered = lambda n, packet: bytes([packet[0], 0xE1]) if packet[0] == 0xC3 else packet
    assert "bad length" in fails(device, "E525").why
    device = Device(RTS_RESETS)
    device.answered = lambda n, packet: None if packet[0] == 0xC3 else packet
    assert "0x80000000" in fails(device, "E526").where


def test_the_flash_chip_is_dead() -> None:
    device = Device(RTS_RESETS)
    device.broken_flash = True
    fails(device, "E526")
    device = Device(RTS_RESETS)
    device.answered = lambda n, packet: b"\xd7\xe4" if packet[0] == 0xD7 else packet
    assert "cannot be initialised" in fails(device, "E525").why


@pytest.mark.parametrize(("status", "words"), [(0xE6, "writing failed"), (0xE3, "invalid command"), (0x77, "0x77")])
def test_the_board_reports_an_error_while_writing(status: int, words: str) -> None:
    device = Device(RTS_RESETS)
    seen = 0

    def answered(n: int, packet: bytes) -> bytes:
        nonlocal seen
        seen += packet[0] == 0xD4
        return bytes([0xD4, status]) if packet[0] == 0xD4 and seen == 2 else packet

    device.answered = answered
    error = fails(device, "E525")
    assert words in error.why
    assert "0x310000" in error.where
    assert device.booted == 1  # it was not left in the flash program


def test_the_board_falls_silent_while_writing() -> None:
    device = Device(RTS_RESETS)
    writes = 0

    def sent(n: int, data: bytes) -> bytes:
        nonlocal writes
        writes += data[:2] == b"\xc0\xd4"
        return b"" if writes > 1 else data

    device.sent = sent
    assert "0x310000" in fails(device, "E526").where


def test_a_line_that_damages_everything() -> None:
    device = Device(RTS_RESETS)
    device.sent = lambda n, data: data[:-9] + b"\0" * 9 + data[-1:] if len(data) > 5000 else data
    fails(device, "E526")
    assert "bad checksum" in device.violations


def test_busy_is_waited_for() -> None:
    device = Device(RTS_RESETS)
    left = 20

    def answered(n: int, packet: bytes) -> bytes:
        nonlocal left
        if packet[0] == 0xD4 and left:
            left -= 1
            return b"\xd4\xe7"
        return packet

    device.answered = answered
    run(device, MODEL)
    assert lies(device, MODEL)


def test_a_chip_that_never_ends_erasing() -> None:
    device = Device(RTS_RESETS)
    device.chip_erase_seconds = 1e9
    assert "300 s" in fails(device, "E526", erase=True).what


def test_debug_messages_are_skipped() -> None:
    device = Device(RTS_RESETS)
    plain = device._answer

    def chatty(op: int, status: int, text: bytes = b"") -> None:
        device._out += b"noise\xc0\xd1\xe0hello\xc0\xc0"
        plain(op, status, text)

    device._answer = chatty  # type: ignore[method-assign]
    run(device, MODEL)
    assert lies(device, MODEL)


@given(st.data())
def test_lost_and_changed_bytes_never_damage_flash_unnoticed(data: st.DataObject) -> None:
    """Up to three writes of the host lose or change a byte, C0 too: flash is right in the end, or there is an error."""
    device = Device(RTS_RESETS)
    hit = set(data.draw(st.lists(st.integers(1, 28), min_size=1, max_size=3)))
    where = data.draw(st.sampled_from(["first", "last", "middle", "any"]))
    change = data.draw(st.sampled_from(["lose", "flip", "double"]))
    mute = set(data.draw(st.lists(st.integers(1, 28), max_size=2)))

    def sent(n: int, line: bytes) -> bytes:
        if n not in hit or not line:
            return line
        i = {"first": 0, "last": len(line) - 1, "middle": len(line) // 2}.get(where, 7 * n % len(line))
        return (
            line[:i]
            + {"lose": b"", "flip": bytes([line[i] ^ 1]), "double": line[i : i + 1] * 2}[change]
            + line[i + 1 :]
        )

    device.sent = sent
    device.answered = lambda n, packet: None if n in mute else packet
    part = Part("small.kmodel", 0x3F0000, bytes(range(256)) * 600)
    code = ""
    try:
        run(device, part)
    except SetupError as error:
        code = error.code
    assert code in ("E523", "E525", "E526", "E527") or lies(device, part)


@pytest.mark.parametrize("end", [0, -1])
def test_a_lost_frame_mark_is_found_out(end: int) -> None:
    """Without finding out where the flash program stands, its answer for an older packet would be believed."""
    device = Device(RTS_RESETS)
    frames = 0

    def sent(n: int, data: bytes) -> bytes:
        nonlocal frames
        frames += data[:2] == b"\xc0\xd4"
        if data[:2] == b"\xc0\xd4" and frames == 3:
            return data[1:] if end == 0 else data[:-1]
        return data

    device.sent = sent
    part = Part("four frames", 0x300000, b"".join(bytes([i]) * 65536 for i in range(4)))
    run(device, part)
    assert lies(device, part)


def test_reading_back_finds_a_wrong_byte() -> None:
    device = Device(RTS_RESETS)
    original = device._program

    def bad_chip(crc: int, address: int, size: int, buffer: bytearray) -> None:
        original(crc, address, size, buffer)
        device.flash[0x300400] = 0

    device._program = bad_chip  # type: ignore[method-assign]
    assert "CRC-32" in fails(device, "E530", FIRMWARE, MODEL, verify=True).why


def test_reading_back_needs_maixpy() -> None:
    other = Part("other.bin", 0, b"no micropython" * 50, sha256_prefix=True)
    assert "prompt" in fails(Device(RTS_RESETS), "E531", other, verify=True).why
    device = Device(RTS_RESETS)
    device._execute = lambda script: b"\x04ImportError: no module named 'ubinascii'\r\n"  # type: ignore[method-assign]
    assert "ImportError" in fails(device, "E531", FIRMWARE, verify=True).why


def test_an_interrupted_run_says_how_far_it_came_and_lets_go_of_the_board() -> None:
    device = Device(RTS_RESETS)
    result = Result("port")

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "write" and done > 70000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flash(device, "port", [FIRMWARE, MODEL], STUB, result=result, progress=stop, clock=device.clock)
    assert 70000 < result.bytes_written < result.bytes_total
    assert [w["name"] for w in result.written] == []
    assert device.booted == 1
    assert device.baudrate == 115200
