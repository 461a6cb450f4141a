"""The simulated board with the real flash program inside: kflash 1.1.6's machine code, run by the emulator unicorn.

Its receive interrupt and its packet handler run as they are, byte by byte; the serial port and the SPI flash under them
are replaced. This shows that what ``isp_device`` says of the flash program is so. Addresses are those of this binary.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import isp_device
from isp_device import Device

BASE = 0x80000000
STATE = 0x80004960  # the program's state; the fields of its receiver are 512 KiB further on
RECEIVER = STATE + 0x80000
BUFFER, COMPLETE, ERROR = RECEIVER + 8, RECEIVER + 0x10, RECEIVER + 0x20
ON_BYTE, ON_PACKET = 0x8000292C, 0x80002ABE
RECEIVE, SET_BAUD = 0x80001BF4, 0x800029F4
BUSY, ERASE_64K, ERASE_CHIP, PROGRAM, READ = 0x800023C6, 0x80002476, 0x800024B0, 0x8000268E, 0x8000289C
NOTHING = (0x80002208, 0x800020AE, 0x800021BE, 0x80002172)  # setting up SPI and its pins
ANSWER, STACK, STOP = 0x80710000, 0x80720000, 0x80700000


class RealProgram(Device):
    """A board that runs ``program``, the binary inside kflash 1.1.6."""

    def __init__(self, program: bytes, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.program = program
        self.did: set[str] = set()
        self._byte = 0
        self._cpu: Any = None

    def _start(self) -> None:
        import unicorn

        self._risc = unicorn.riscv_const
        self._cpu = cpu = unicorn.Uc(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV64)
        cpu.mem_map(BASE, 8 * 1024 * 1024)
        cpu.mem_write(BASE, self.program)
        cpu.mem_write(BUFFER, struct.pack("<Q", STATE + 4))
        cpu.reg_write(self._risc.UC_RISCV_REG_GP, BASE + 0x5000)
        replaced: dict[int, Callable[[], int]] = {
            RECEIVE: self._one_byte,
            BUSY: lambda: int(self._busy),
            ERASE_64K: self._erase_block,
            ERASE_CHIP: self._erase_chip,
            PROGRAM: self._program_pages,
            READ: self._read_flash,
            SET_BAUD: self._change_baud,
            **dict.fromkeys(NOTHING, lambda: 0),
        }
        for address, function in replaced.items():
            cpu.hook_add(unicorn.UC_HOOK_CODE, self._returning(function), begin=address, end=address)

    def _returning(self, function: Callable[[], int]) -> Callable[..., None]:
        def hook(*_: object) -> None:
            self._cpu.reg_write(self._risc.UC_RISCV_REG_A0, function())
            self._cpu.reg_write(self._risc.UC_RISCV_REG_PC, self._cpu.reg_read(self._risc.UC_RISCV_REG_RA))

        return hook

    def _argument(self, i: int) -> int:
        return int(self._cpu.reg_read(self._risc.UC_RISCV_REG_A0 + i)) & 0xFFFFFFFF

    def _call(self, address: int, *arguments: int) -> None:
        for i, value in enumerate(arguments):
            self._cpu.reg_write(self._risc.UC_RISCV_REG_A0 + i, value)
        self._cpu.reg_write(self._risc.UC_RISCV_REG_RA, STOP)
        self._cpu.reg_write(self._risc.UC_RISCV_REG_SP, STACK)
        self._cpu.emu_start(address, STOP)

    # -- what stands for the hardware -----------------------------------------------------------------------------
    def _one_byte(self) -> int:
        self._cpu.mem_write(self._argument(1), bytes([self._byte]))
        return 1

    def _erase_block(self) -> int:
        self.did.add("erase")
        at = self._argument(0)
        self.flash[at : at + 65536] = b"\xff" * 65536
        return 0

    def _erase_chip(self) -> int:
        self.did.add("erase chip")
        self.flash[:] = b"\xff" * len(self.flash)
        self.busy_until = self.clock.monotonic() + self.chip_erase_seconds
        return 0

    def _program_pages(self) -> int:
        """Flash can only clear bits."""
        self.did.add("program")
        at, source, size = (self._argument(i) for i in range(3))
        new = int.from_bytes(self._cpu.mem_read(source, size), "little")
        old = int.from_bytes(self.flash[at : at + size], "little")
        self.flash[at : at + size] = (new & old).to_bytes(size, "little")
        return 0

    def _read_flash(self) -> int:
        self.did.add("read")
        at, target, size = (self._argument(i) for i in range(3))
        self._cpu.mem_write(target, bytes(self.flash[at : at + size]))
        return 0

    def _change_baud(self) -> int:
        self.own_baud = self._argument(0)
        return 0

    # -- what stands for the program's main loop ------------------------------------------------------------------
    def _receive(self, data: bytes) -> None:
        if self.mode != "stub":
            super()._receive(data)
            if self.mode == "stub":
                self._start()
            return
        for self._byte in data:
            self._call(ON_BYTE, STATE)
            (packet,) = struct.unpack("<Q", self._cpu.mem_read(COMPLETE, 8))
            (error,) = struct.unpack("<I", self._cpu.mem_read(ERROR, 4))
            if packet:
                self._cpu.mem_write(ANSWER, bytes([self._cpu.mem_read(packet, 1)[0], 0]))
                self._call(ON_PACKET, STATE, packet, ANSWER)
                self._cpu.mem_write(COMPLETE, bytes(8))
                op, status = self._cpu.mem_read(ANSWER, 2)
                if op != 0xD6:  # its answer comes at another speed
                    self._answer(op, status)
                if (op, status) == (0xD5, 0xE0):
                    out = self._out
                    self._reset("run")
                    self._out = out
                    return
            elif error:
                self._cpu.mem_write(ERROR, bytes(4))
                self._answer(0xD2, error)


def use(monkeypatch: Any, program: bytes) -> None:
    """Let the simulated ROM know what a flash program looks like."""
    monkeypatch.setattr(isp_device, "STUB", program)
