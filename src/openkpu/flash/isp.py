"""The K210's serial bootloader: the one in the chip's ROM, and the flash program that it loads into SRAM.

The ROM can only write memory and jump. Writing flash is the work of a second program (the "stub", see ``stub``), which
speaks the same kind of packets: SLIP frames of u16 operation, u16 zero, u32 CRC-32 of all that follows, u32 address,
u32 length, data. Answers are operation and status, perhaps with a text. Facts: kflash (operations, order), and the
behaviour of the stub of kflash 1.1.6:

* a write (D4) is at most 64 KiB and may start anywhere: the stub checks the CRC, then reads, erases and programs whole
  blocks of 64 KiB, keeping what lies around. It answers when the last byte is programmed. It never reads back, and no
  operation reads flash: what the answers prove is that the right bytes reached the stub and that it programmed them.
* every C0 toggles the stub between "inside" and "outside" of a packet. When one is lost, the stub takes the gaps
  between packets for packets, and answers for an *older* packet again. So after every write two small requests fill
  its two buffers: then an answer to a write can only be one to the next write. After any trouble ``resynchronize``
  finds out where the stub stands.

The ROM's own change of baud rate (C6) is not used: it works with one kind of adapter only and would save a second.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from openkpu.errors import SetupError
from openkpu.flash import slip
from openkpu.flash.boards import AUTOMATIC, BOARDS
from openkpu.flash.layout import BLOCK_BYTES

BAUD: Final = 115200
SRAM: Final = 0x80000000
_SRAM_FRAME: Final = 1024

ROM_NOP: Final = 0xC2
ROM_WRITE: Final = 0xC3
ROM_BOOT: Final = 0xC5
NOP: Final = 0xD2
WRITE: Final = 0xD4
REBOOT: Final = 0xD5
SET_BAUD: Final = 0xD6
INIT: Final = 0xD7
ERASE: Final = 0xD8
STATUS: Final = 0xD9

_ANSWERING: Final = (ROM_NOP, ROM_WRITE, ROM_BOOT, *range(NOP, STATUS + 1))

OK: Final = 0xE0
BAD_CHECKSUM: Final = 0xE2
BUSY: Final = 0xE7
_STATUS: Final = {
    0x00: "the operation is unknown to it",
    0xE1: "bad length",
    BAD_CHECKSUM: "bad checksum",
    0xE3: "invalid command",
    0xE4: "the flash cannot be initialised",
    0xE5: "erasing failed",
    0xE6: "writing failed",
    BUSY: "the flash is busy",
}
_TRIES: Final = 5
_ERASE_SECONDS: Final = 300.0  # a chip of 16 MiB takes 40 to 200 s by its data sheets


class Transport(Protocol):
    """A serial port, as little of it as is needed."""

    baudrate: int

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; wait a moment for the first, then return what is there, perhaps nothing."""

    def write(self, data: bytes) -> None:
        """Send everything."""

    def set_dtr(self, active: bool) -> None:
        """Set the DTR line."""

    def set_rts(self, active: bool) -> None:
        """Set the RTS line."""

    def discard_input(self) -> None:
        """Drop what was received and not read."""


class Clock(Protocol):
    """Time; tests bring one of their own."""

    def monotonic(self) -> float:
        """Seconds."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    op: int
    status: int
    text: str = ""

    def __str__(self) -> str:
        return self.text or _STATUS.get(self.status, f"status 0x{self.status:02x}")


def packet(op: int, address: int = 0, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Return a request. ``length`` is that of ``data`` unless an operation uses the field for something else."""
    body = struct.pack("<II", address, len(data) if length is None else length) + data
    return struct.pack("<HHI", op, 0, zlib.crc32(body)) + body


def plain(op: int) -> bytes:
    """Return a request without arguments: twelve zeros and no right checksum, as the vendor's tools send it."""
    return bytes([op]) + bytes(12)


class Isp:
    """The protocol over one port. Methods raise ``SetupError`` E52x, each with what to try."""

    def __init__(self, port: Transport, clock: Clock = time, *, pause: float = 0.1) -> None:
        """``pause``: seconds between the steps of a reset."""
        self.port = port
        self.clock = clock
        self.pause = pause
        self._decoder = slip.Decoder()
        self._waiting: list[bytes] = []

    # -- packets ----------------------------------------------------------------------------------------------------
    def send(self, request: bytes) -> None:
        """Forget old answers and send one request."""
        self.forget()
        self.port.write(slip.encode(request))

    def forget(self) -> None:
        """Drop everything received so far."""
        self.port.discard_input()
        self._decoder.reset()
        self._waiting.clear()

    def receive(self, seconds: float) -> Answer | None:
        """Return the next answer; ``None`` when none comes in time."""
        end = self.clock.monotonic() + seconds
        while True:
            while self._waiting:
                raw = self._waiting.pop(0)
                if len(raw) >= 2 and raw[0] in _ANSWERING:  # else a debug message (D1), or noise
                    return Answer(raw[0], raw[1], raw[2:].decode("utf-8", "replace").strip())
            if self.clock.monotonic() >= end:
                return None
            self._waiting += self._decoder.feed(self.port.read(256))

    def ask(self, request: bytes, seconds: float) -> Answer | None:
        """Send a request and return the first answer to this operation."""
        self.send(request)
        end = self.clock.monotonic() + seconds
        while (left := end - self.clock.monotonic()) > 0:
            answer = self.receive(left)
            if answer is not None and answer.op == request[0]:
                return answer
        return None

    # -- the boot ROM -----------------------------------------------------------------------------------------------
    def enter(self, board: str | None = None) -> str:
        """Reset the board into its ROM bootloader and return the name of the wiring that worked; E523."""
        names = AUTOMATIC * 3 if board is None else (board,) * 10
        for name in names:
            self._lines(BOARDS[name][1].isp)
            if self.ask(plain(ROM_NOP), 0.5) is not None:
                return name
        tried = "the resets of all boards" if board is None else f"the reset of {board}"
        raise SetupError(
            "E523",
            "no K210 answers on this port",
            where=f"tried {tried}, {len(names)} times in all",
            why="the chip's bootloader did not answer the greeting",
            fix="Check the cable (some only charge) and the port (a Maix Go has two: take the other). Give the board "
            "with --board. Without automatic reset: hold BOOT, press RESET, run this again, and let go of BOOT when "
            "writing starts.",
        )

    def _lines(self, steps: tuple[str, ...]) -> None:
        for step in steps:
            for change in step.split():
                (self.port.set_dtr if change.startswith("dtr") else self.port.set_rts)(change.endswith("+"))
            self.clock.sleep(self.pause)

    def load(self, data: bytes, progress: Callable[[int], None], address: int = SRAM) -> None:
        """Write ``data`` into SRAM through the ROM; E525, E526."""
        for start in range(0, len(data), _SRAM_FRAME):
            request = packet(ROM_WRITE, address + start, data[start : start + _SRAM_FRAME])
            for _ in range(_TRIES):
                answer = self.ask(request, 3)
                if answer is not None and answer.status in (0, OK):  # the ROM may answer with either
                    break
                if answer is not None and answer.status != BAD_CHECKSUM:
                    raise _refused("the boot ROM refuses data for SRAM", answer, address + start)
            else:
                raise _lost("the boot ROM stopped answering", address + start)
            progress(min(start + _SRAM_FRAME, len(data)))

    def boot(self, address: int = SRAM) -> None:
        """Start what was loaded. There is no answer to this."""
        self.send(packet(ROM_BOOT, address))

    def run(self, board: str) -> None:
        """Reset the board so that it starts the program in flash."""
        self._lines(BOARDS[board][1].run)

    # -- the flash program ------------------------------------------------------------------------------------------
    def greet_stub(self, tries: int = 10) -> bool:
        """Whether the flash program answers."""
        for _ in range(tries):
            answer = self.ask(plain(NOP), 0.5)
            if answer is not None and answer.status == OK:
                return True
            self.clock.sleep(0.1)
        return False

    def set_baud(self, baud: int) -> bool:
        """Change the speed on both ends; whether the flash program answers at the new one."""
        self.send(packet(SET_BAUD, 0, struct.pack("<I", baud)))
        self.clock.sleep(0.05)  # the answer to this comes at either speed and is not waited for
        self.port.baudrate = baud
        return self.greet_stub(5)

    def init_flash(self, chip: int = 1) -> None:
        """Set up the flash chip: 1 the one on the board (SPI0), 0 one inside the package (SPI3); E525, E526."""
        for _ in range(3):
            answer = self.ask(packet(INIT, chip), 3)
            if answer is not None and answer.status == OK:
                return
            if answer is not None:
                raise _refused("the flash chip cannot be set up", answer, None)
        raise SetupError(
            "E526",
            "the flash chip does not answer",
            why="the flash program waits for the chip for ever",
            fix="Switch the board off and on and try again; a chip that never answers is broken or not connected.",
        )

    def erase_chip(self, waiting: Callable[[float], None]) -> None:
        """Erase the whole flash; ``waiting(seconds)`` is called now and then. E525, E526."""
        begin = self.clock.monotonic()
        answer = self._retried(packet(ERASE), 5, "erasing", None)
        while (elapsed := self.clock.monotonic() - begin) < _ERASE_SECONDS:
            answer = self._retried(plain(STATUS), 3, "erasing", None, busy_is_ok=True)
            if answer.status == OK:
                return
            waiting(elapsed)
            self.clock.sleep(0.5)
        raise _lost(f"erasing the chip took more than {_ERASE_SECONDS:.0f} s", None)

    def write(self, address: int, data: bytes, progress: Callable[[int], None]) -> None:
        """Write flash from ``address`` on; ``progress(bytes)`` after every frame. E525, E526."""
        done = 0
        while done < len(data):
            size = BLOCK_BYTES - (address + done) % BLOCK_BYTES  # a frame never crosses a block
            chunk = data[done : done + size]
            seconds = 15 + 30 * len(chunk) / self.port.baudrate  # the transfer, and time to erase and program a block
            request = packet(WRITE, address + done, chunk)
            for _ in range(_TRIES):
                self._retried(request, seconds, "writing", address + done)
                if self._in_step(NOP, STATUS):
                    break
                if not self.resynchronize():
                    raise _lost("the flash program stopped answering while writing flash", address + done)
            else:
                raise _lost("the flash program keeps receiving damaged data while writing flash", address + done)
            done += len(chunk)
            progress(done)

    def reboot(self) -> bool:
        """Ask the flash program to restart the chip; whether it said that it does."""
        for _ in range(3):
            answer = self.ask(plain(REBOOT), 2)
            if answer is not None and answer.status == OK:
                return True
            self.clock.sleep(0.5)
        return False

    def resynchronize(self) -> bool:
        """Find out whether the flash program stands outside of a packet, and bring it there; whether that worked.

        Three requests whose first and last differ cannot all be answered rightly by one that repeats the two packets in
        its buffers.
        """
        for _ in range(6):
            self.clock.sleep(0.1)
            if self._in_step(NOP, NOP, STATUS):
                return True
            self.forget()
            self.port.write(bytes([slip.END]))  # toggle it
            self.clock.sleep(0.3)
        return False

    def _in_step(self, *probes: int) -> bool:
        """Whether each of these small requests is answered at once, and by itself."""
        return all(self._first_answer(plain(op)) == op for op in probes)

    def _first_answer(self, request: bytes) -> int | None:
        self.send(request)
        answer = self.receive(1)
        return None if answer is None else answer.op

    def _retried(
        self, request: bytes, seconds: float, doing: str, address: int | None, *, busy_is_ok: bool = False
    ) -> Answer:
        """Ask until it is OK; wait while busy, send again after silence or a bad checksum, else E525 or E526."""
        tries = 0
        busy_until = self.clock.monotonic() + _ERASE_SECONDS
        while True:
            answer = self.ask(request, seconds)
            if answer is not None and (answer.status == OK or (busy_is_ok and answer.status == BUSY)):
                return answer
            if answer is not None and answer.status == BUSY and self.clock.monotonic() < busy_until:
                self.clock.sleep(0.5)
                continue
            if answer is not None and answer.status not in (BAD_CHECKSUM, 0):
                raise _refused(f"the board reports an error while {doing} flash", answer, address)
            tries += 1
            if tries >= _TRIES:
                raise _lost(f"the flash program keeps receiving damaged data while {doing} flash", address)
            if not self.resynchronize():
                raise _lost(f"the flash program stopped answering while {doing} flash", address)


def _at(address: int | None) -> str:
    return "" if address is None else f"address 0x{address:06x}"


def _refused(what: str, answer: Answer, address: int | None) -> SetupError:
    return SetupError(
        "E525",
        what,
        where=_at(address),
        why=f"its answer: {answer} (0x{answer.status:02x})",
        fix="Switch the board off and on and try again with --slow; if it stays, the flash chip may be worn out.",
    )


def _lost(what: str, address: int | None) -> SetupError:
    return SetupError(
        "E526",
        what,
        where=_at(address),
        why="repeated tries brought no good answer",
        fix="Try again with --slow, a shorter cable or another USB port. The flash may be half written until then.",
    )
