"""A K210 board on a serial line: boot ROM, the flash program, 16 MiB of flash, and MaixPy's raw prompt.

It is strict: what the real thing would refuse or misunderstand, it refuses or misunderstands, and notes in
``violations``. The flash program behaves as the machine code of kflash 1.1.6's stub does: every C0 toggles "inside a
packet", there are two packet buffers that are never cleared, and an empty packet is handled with what the buffer held.
Time is simulated unless another clock is given.
"""

from __future__ import annotations

import binascii
import io
import struct
import types
import zlib
from collections.abc import Callable
from contextlib import redirect_stdout

from openkpu.flash.boards import Wiring
from openkpu.flash.firmware import unframe
from openkpu.flash.layout import BLOCK_BYTES, FLASH_BYTES

SRAM = 0x80000000
STUB = bytes(range(7, 207)) * 30  # stands for the flash program: 6000 bytes
MAX_PACKET = 0x10010


class FakeClock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.settled: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.settled()


def settled_lines(steps: tuple[str, ...]) -> list[tuple[bool, bool]]:
    """(dtr, rts) after each step."""
    lines = {"dtr": False, "rts": False}
    found = []
    for step in steps:
        for change in step.split():
            lines[change[:3]] = change[3] == "+"
        found.append((lines["dtr"], lines["rts"]))
    return found


class Device:
    """The board, seen from the host's end of the cable: a ``Transport``.

    ``sent(n, data)`` and ``answered(n, packet)`` may change or drop what travels: the n-th write of the host, the n-th
    answer of the board (before framing; ``None`` drops it).
    """

    def __init__(self, wiring: Wiring | None = None, *, clock: FakeClock | None = None, fast: bool = True) -> None:
        self.clock = clock or FakeClock()
        self.clock.settled = self._settle
        self.wiring = wiring
        self.fast = fast
        """Whether the line can do more than 115200 baud."""
        self.baudrate = 115200
        self.own_baud = 115200
        self.ignore_baud = False
        self.mode = "isp" if wiring is None else "run"
        self.flash = bytearray(b"\xff") * FLASH_BYTES
        self.sram = bytearray(8 * 1024 * 1024)
        self.flash_ready = False
        self.broken_flash = False
        self.log: list[str] = []
        self.violations: list[str] = []
        self.sent: Callable[[int, bytes], bytes] = lambda n, data: data
        self.answered: Callable[[int, bytes], bytes | None] = lambda n, packet: packet
        self.writes = 0
        self.answers = 0
        self.chip_erase_seconds = 40.0
        self.busy_until = 0.0
        self.booted = 0
        self._lines = [False, False]
        self._history: list[tuple[bool, bool]] = []
        self._out = b""
        self._clear_receiver()
        self._repl = b""
        self._raw = False

    # -- the host's end -------------------------------------------------------------------------------------------
    def set_dtr(self, active: bool) -> None:
        self._lines[0] = active

    def set_rts(self, active: bool) -> None:
        self._lines[1] = active

    def _settle(self) -> None:
        state = (self._lines[0], self._lines[1])
        self._history = [*self._history[-2:], state]
        if self.wiring is not None and self._history == settled_lines(self.wiring.isp):
            self._reset("isp")
        elif self.wiring is not None and self._history == settled_lines(self.wiring.run):
            self._reset("run")

    def _reset(self, mode: str) -> None:
        self.mode = mode
        self.own_baud = 115200
        self.flash_ready = self._raw = False
        self._out = self._repl = b""
        self.busy_until = 0.0
        self._clear_receiver()
        if mode == "run":
            self.booted += 1
            self._out = b"[MAIXPY]Pll0:freq:806000000\r\n" if self.maixpy else b""

    def _clear_receiver(self) -> None:
        self._inside = False
        self._buffers = [bytearray(MAX_PACKET + 64), bytearray(MAX_PACKET + 64)]
        self._length = 0
        self._escape = False

    def discard_input(self) -> None:
        self._out = b""

    def read(self, size: int) -> bytes:
        if not self._out:
            self.clock.sleep(0.05)
        found, self._out = self._out[:size], self._out[size:]
        return found

    def write(self, data: bytes) -> None:
        self.writes += 1
        data = self.sent(self.writes, data)
        if isinstance(self.clock, FakeClock):
            self.clock.now += len(data) * 10 / self.baudrate
        if not self.ignore_baud and (self.baudrate != self.own_baud or (self.baudrate > 115200 and not self.fast)):
            return  # noise: nothing of it is understood
        if self.mode == "run":
            self._type(data)
        else:
            self._receive(data)

    def _answer(self, op: int, status: int, text: bytes = b"") -> None:
        self.answers += 1
        packet = self.answered(self.answers, bytes([op, status]) + text)
        if packet is not None:
            body = packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
            self._out += b"\xc0" + body + b"\xc0"

    # -- receiving ------------------------------------------------------------------------------------------------
    def _receive(self, data: bytes) -> None:
        pieces = data.split(b"\xc0")
        for i, piece in enumerate(pieces):
            if i:
                self._inside, ended = not self._inside, self._inside
                self._escape = False
                if ended:
                    self._complete()
            if self._inside and piece:
                self._store(piece)

    def _store(self, piece: bytes) -> None:
        if self._escape:
            piece = b"\xdb" + piece
        self._escape = piece.endswith(b"\xdb")
        parts = (piece[:-1] if self._escape else piece).split(b"\xdb")
        found = parts[0]
        for part in parts[1:]:
            if part[:1] == b"\xdc":
                found += b"\xc0" + part[1:]
            elif part[:1] == b"\xdd":
                found += b"\xdb" + part[1:]
            else:
                self.violations.append("wrong escape")
                found += part[1:]
        room = MAX_PACKET - self._length
        if len(found) > room:
            self.violations.append("packet too long")
            self._answer(0xD2, 0xE1)
            found = found[:room]
        self._buffers[0][self._length : self._length + len(found)] = found
        self._length += len(found)

    def _complete(self) -> None:
        buffer, length = self._buffers[0], self._length
        self._buffers.reverse()
        self._length = 0
        op, _, crc, address, size = struct.unpack_from("<HHIII", buffer)
        if self.mode == "isp":
            self._rom(op, crc, address, bytes(buffer[16 : 16 + min(size, 65536)]), size, length)
        elif self.mode == "stub":
            self._stub(op & 0xFFFF, crc, address, size, buffer)

    def _right(self, crc: int, address: int, size: int, buffer: bytes) -> bool:
        right = zlib.crc32(struct.pack("<II", address, size) + buffer) == crc
        if not right:
            self.violations.append("bad checksum")
        return right

    # -- boot ROM -------------------------------------------------------------------------------------------------
    def _rom(self, op: int, crc: int, address: int, data: bytes, size: int, length: int) -> None:
        if op == 0xC2:
            self._answer(0xC2, 0xE0)
        elif op == 0xC3:
            inside = address >= SRAM and address + size <= SRAM + len(self.sram)
            if size > 1024 or length != 16 + size or not inside:
                self.violations.append(f"ROM write of {size} bytes to {address:#x} in a packet of {length}")
                self._answer(op, 0xE1)
            elif not self._right(crc, address, size, data):
                self._answer(op, 0xE2)
            else:
                self.sram[address - SRAM : address - SRAM + size] = data
                self._answer(op, 0xE0)
        elif op == 0xC5:
            if not self._right(crc, address, size, b""):
                self._answer(op, 0xE2)
                return
            self.log.append(f"boot {address:#x}")
            self.mode = "stub" if self.sram[: len(STUB)] == STUB and address == SRAM else "other program"
            self._clear_receiver()
        else:
            self.violations.append(f"ROM operation {op:#x}")
            self._answer(op & 0xFF, 0xE3)

    # -- flash program --------------------------------------------------------------------------------------------
    def _stub(self, op: int, crc: int, address: int, size: int, buffer: bytearray) -> None:
        name = op & 0xFF
        if op == 0xD2:
            self._answer(name, 0xE0)
        elif op == 0xD6:
            if size != 4:
                self._answer(name, 0xE1)
                return
            (self.own_baud,) = struct.unpack_from("<I", buffer, 16)
            self.log.append(f"baud {self.own_baud}")
        elif op == 0xD7:
            if address > 1:
                self._answer(name, 0xE3)
            elif not self.broken_flash:
                self.flash_ready = True
                self._answer(name, 0xE0)
        elif op == 0xD5:
            self.log.append("reboot")
            self._answer(name, 0xE0)
            out = self._out
            self._reset("run")
            self._out = out + self._out
        elif op not in (0xD4, 0xD8, 0xD9):
            self.violations.append(f"operation {op:#x}")
            self._answer(name, 0)
        elif not self.flash_ready:
            self.violations.append(f"operation {op:#x} before the flash was set up")
            self._answer(name, 0xE3)
        elif op == 0xD9:
            self._answer(name, 0xE7 if self._busy else 0xE0)
        elif op == 0xD8:
            self._erase(crc, address, size)
        else:
            self._program(crc, address, size, buffer)

    @property
    def _busy(self) -> bool:
        return self.clock.monotonic() < self.busy_until

    def _erase(self, crc: int, address: int, size: int) -> None:
        if self._busy:
            self._answer(0xD8, 0xE7)
        elif not self._right(crc, address, size, b""):
            self._answer(0xD8, 0xE2)
        elif address % 4096 or size % 4096 or (address and not size):
            self._answer(0xD8, 0xE1)
        else:
            end = address + size if size else FLASH_BYTES
            self.flash[address:end] = b"\xff" * (end - address)
            self.busy_until = self.clock.monotonic() + self.chip_erase_seconds
            self.log.append(f"erase {address:#x} {size:#x}")
            self._answer(0xD8, 0xE0)

    def _program(self, crc: int, address: int, size: int, buffer: bytearray) -> None:
        data = bytes(buffer[16 : 16 + min(size, BLOCK_BYTES)])
        if size > BLOCK_BYTES or not self._right(crc, address, size, data):
            self._answer(0xD4, 0xE2)
            return
        if self._busy:
            self._answer(0xD4, 0xE7)
            return
        if address + size > FLASH_BYTES:
            self.violations.append(f"write behind the flash: {address:#x}")
        self.flash[address : address + size] = data
        if isinstance(self.clock, FakeClock):
            self.clock.now += 0.4
        self.log.append(f"write {address:#x} {size:#x}")
        self._answer(0xD4, 0xE0)

    # -- MaixPy ---------------------------------------------------------------------------------------------------
    @property
    def maixpy(self) -> bool:
        found = unframe(self.flash)
        return found is not None and found.intact and b"MAIXPY" in found.data

    def _type(self, data: bytes) -> None:
        if not self.maixpy:
            return
        for byte in data:
            if byte == 0x03 and not self._raw:
                self._out += b"\r\n>>> "
            elif byte == 0x01:
                self._raw, self._repl = True, b""
                self._out += b"\r\nraw REPL; CTRL-B to exit\r\n>"
            elif byte == 0x02:
                self._raw = False
                self._out += b"\r\n>>> "
            elif byte == 0x04 and self._raw:
                self._out += b"OK" + self._execute(self._repl.decode()) + b"\x04>"
                self._repl = b""
            else:
                self._repl += bytes([byte])

    def _execute(self, script: str) -> bytes:
        """Run the script with the two modules that MaixPy has; output, 04, error text."""
        utils = types.SimpleNamespace(flash_read=lambda address, size: bytes(self.flash[address : address + size]))
        modules = {"ubinascii": binascii, "Maix": types.SimpleNamespace(utils=utils)}

        def load(name: str, *rest: object) -> object:
            return modules[name]

        scope = {"__builtins__": {"__import__": load, "print": print, "min": min}}
        out = io.StringIO()
        try:
            with redirect_stdout(out):
                exec(script, scope)
        except Exception as error:
            return out.getvalue().encode() + b"\x04" + f"Traceback:\r\n{type(error).__name__}: {error}\r\n".encode()
        return out.getvalue().encode() + b"\x04"
