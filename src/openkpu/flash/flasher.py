"""The whole way of files onto a board: bootloader, flash program, speed, erase, write, restart, and reading back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from openkpu.errors import FileFormatError, MemoryLimitError, OpenKPUError, SetupError
from openkpu.flash import readback
from openkpu.flash.boards import BOARDS
from openkpu.flash.isp import BAUD, Clock, Isp, Transport
from openkpu.flash.layout import Part, check_fits
from openkpu.k210 import MAIN_RAM_BYTES

FAST_BAUD: Final = 1_500_000
MAX_BAUD: Final = 4_000_000
_SLOW_PAUSE: Final = 0.5
Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``; bytes, or nothing that can be counted where the total is 0."""


@dataclass(slots=True)
class Result:
    """What was done. Filled while it happens, so that it also tells how far an interrupted run came."""

    port: str
    board: str = ""
    baud: int = BAUD
    stub: str = ""
    touched: bool = False
    """Something in flash may have changed."""
    erased: bool = False
    """The whole chip was erased, or this had begun."""
    written: list[dict[str, Any]] = field(default_factory=list)
    """One entry for each part that is completely written: name, address, bytes."""
    bytes_written: int = 0
    bytes_total: int = 0
    restarted: bool = False
    verified: bool | None = None
    """``None`` where nobody asked for reading back."""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for ``--json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Options:
    """How to flash. ``board`` is a key of ``BOARDS`` or ``None`` to try them all; ``chip`` as in ``Isp.init_flash``."""

    board: str | None = None
    baud: int = FAST_BAUD
    slow: bool = False
    """115200 baud all the way and long pauses, for adapters and cables that cannot do better."""
    erase: bool = False
    verify: bool = False
    chip: int = 1


def check_options(options: Options) -> None:
    """E532 for a board that is not known, E528 for an impossible speed."""
    if options.board is not None and options.board not in BOARDS:
        raise SetupError(
            "E532",
            f"there is no board {options.board}",
            where="--board",
            why="the board decides how the serial adapter resets the chip",
            fix=f"One of {', '.join(BOARDS)}, or leave it out: then all ways are tried.",
        )
    if not 9600 <= options.baud <= MAX_BAUD:
        raise SetupError(
            "E528",
            f"the chip cannot do {options.baud} baud",
            where="--baud",
            why=f"9600 to {MAX_BAUD} make sense",
            fix="115200 always works, 1500000 with most boards.",
        )


def flash(
    port: Transport,
    name: str,
    parts: Sequence[Part],
    stub: bytes,
    options: Options = Options(),
    *,
    result: Result | None = None,
    progress: Progress = lambda stage, done, total: None,
    clock: Clock = time,
) -> Result:
    """Write ``parts`` into the flash of the board on ``port`` and restart it; E52x and E53x say what went wrong.

    ``result`` may be given to see how far it came when it is interrupted.
    """
    check_options(options)
    for part in parts:
        check_fits(part.name, part.address, part.size)
    result = Result(name) if result is None else result
    begin = clock.monotonic()
    result.bytes_total = sum(p.size for p in parts)
    isp = Isp(port, clock, pause=_SLOW_PAUSE if options.slow else 0.1)
    baud = BAUD if options.slow else options.baud
    try:
        _start_stub(isp, stub, options.board, result, progress)
        if baud != BAUD:
            if isp.set_baud(baud):
                result.baud = baud
            else:
                result.notes.append(f"{baud} baud did not work with this adapter: went on at {BAUD}")
                port.baudrate = BAUD
                _start_stub(isp, stub, options.board, result, progress)
        isp.init_flash(options.chip)
        if options.erase:
            result.touched = result.erased = True
            isp.erase_chip(lambda seconds: progress("erase", int(seconds), 0))
        for part in parts:
            _write(isp, part, result, progress)
        result.restarted = isp.reboot()
    finally:
        with suppress(OpenKPUError):  # what went wrong before is what counts
            port.baudrate = BAUD
            if result.board:
                isp.run(result.board)
    if not result.restarted:
        result.notes.append("the board did not say that it restarts: press RESET")
    if options.verify:
        _verify(port, parts, result, progress, clock)
    result.seconds = clock.monotonic() - begin
    return result


def _start_stub(isp: Isp, stub: bytes, board: str | None, result: Result, progress: Progress) -> None:
    """Get the flash program to run and answer; E523, E525, E526, E527."""
    progress("connect", 0, 0)
    result.board = isp.enter(board)
    isp.load(stub, lambda done: progress("start", done, len(stub)))
    isp.boot()
    isp.clock.sleep(0.1)
    if not isp.greet_stub():
        raise SetupError(
            "E527",
            "the flash program does not answer",
            where=f"board {result.board}, {len(stub)} bytes loaded and started",
            why="the boot ROM took the program, but nothing answered after the start",
            fix="Switch the board off and on and try again with --slow. With --bootloader: is the file such a program?",
        )


def _write(isp: Isp, part: Part, result: Result, progress: Progress) -> None:
    before = result.bytes_written
    result.touched = True

    def move(done: int) -> None:
        result.bytes_written = before + done
        progress("write", result.bytes_written, result.bytes_total)

    isp.write(part.address, part.stored, move)
    result.written.append({"name": part.name, "address": part.address, "bytes": part.size})


def _verify(port: Transport, parts: Sequence[Part], result: Result, progress: Progress, clock: Clock) -> None:
    """Read back through MaixPy; E530 when something differs, E531 when MaixPy does not answer."""
    result.verified = False
    board = readback.MaixPy(port, clock)
    board.connect()
    done = 0
    try:
        for part in parts:
            progress("verify", done, result.bytes_total)
            board.compare(part)
            done += part.size
            progress("verify", done, result.bytes_total)
    finally:
        with suppress(OpenKPUError):
            board.leave()
    result.verified = True


def run_in_sram(
    port: Transport,
    name: str,
    program: bytes,
    options: Options = Options(),
    *,
    result: Result | None = None,
    progress: Progress = lambda stage, done, total: None,
    clock: Clock = time,
) -> Result:
    """Load a program into SRAM and start it; flash stays as it is. The boot ROM does this alone, at 115200 baud."""
    check_options(options)
    if program[:4] == b"\x7fELF" or not program:
        raise FileFormatError(
            "E125",
            "this is nothing that can be started in SRAM",
            why="it is empty" if not program else "it is a program in ELF format",
            fix="Give the plain binary, linked for 0x80000000 (objcopy -O binary).",
        )
    if len(program) > MAIN_RAM_BYTES:
        raise MemoryLimitError(
            "E323",
            "the program does not fit into SRAM",
            why=f"{len(program)} bytes; the chip has {MAIN_RAM_BYTES} bytes of main RAM",
            fix="Write it to flash instead: leave out --sram.",
        )
    result = Result(name) if result is None else result
    begin = clock.monotonic()
    result.bytes_total = len(program)
    isp = Isp(port, clock, pause=_SLOW_PAUSE if options.slow else 0.1)
    progress("connect", 0, 0)
    result.board = isp.enter(options.board)

    def move(done: int) -> None:
        result.bytes_written = done
        progress("load", done, len(program))

    isp.load(program, move)
    isp.boot()
    result.restarted = True
    result.seconds = clock.monotonic() - begin
    return result
