"""The board inside the script's process: memories, files, camera, display, clock, and the wire to the watcher."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from openkpu.board import budget, firmware
from openkpu.board.budget import Bill, Line, ModelCost
from openkpu.board.camera import Camera
from openkpu.board.clock import Clock
from openkpu.board.config import BoardConfig
from openkpu.board.heap import Heap
from openkpu.board.pace import SLICE_US, Pace
from openkpu.board.panel import Panel
from openkpu.board.pins import Pins
from openkpu.board.storage import Mount, Storage, os_error
from openkpu.errors import BoardError, MemoryLimitError
from openkpu.flash.image import FlashImage, file_parts
from openkpu.k210 import MAIN_RAM_BYTES

RAM_START: Final = 0x80000000
STUBBORN: Final = 3
"""How often a script may catch its end before it is stopped from outside."""
GC_BLOCK: Final = 32
"""MicroPython's block of 4 words (64 bit)."""
GC_TABLES: Final = 3 / (8 * GC_BLOCK)
"""Of the GC heap, its own tables: 2 bits a block for allocation, 1 for finalisers."""
GC_AT_START: Final = 12 * 1024
"""What the boot script and the compiled script leave in use; boards report about 494 KB free of 512."""
SPARE_PLANES: Final = "planes of a converted image"
"""What ``maixpy.image`` calls the memory that to_grayscale(copy=1) takes and does not use."""
NO_GC_MEMORY: Final = (
    "Out of normal MicroPython Heap Memory! Please reduce the resolution of the image you are running this "
    "algorithm on to bypass this issue!"
)


class ScriptEnd(BaseException):
    """The wanted number of frames is reached; not an Exception, so that scripts do not catch it by mistake."""


class BoardReset(BaseException):
    """machine.reset()."""


class Due(Protocol):
    """Something that happens at a time."""

    @property
    def due(self) -> float:
        """When, in microseconds; 0 for never."""

    def poll(self, now: float) -> None:
        """Do it if its time has come."""


def flash_from(items: tuple[str, ...]) -> FlashImage:
    """Burn FILE or FILE@ADDRESS, in order, into an erased flash."""
    from openkpu.api import read_file

    image = FlashImage()
    for item in items:
        name, at, number = item.rpartition("@")
        address: int | None = None
        if at:
            try:
                address = int(number, 0)
            except ValueError:
                name = item
        path = Path(name if at else item)
        if address is None and path.is_dir():
            for part in FlashImage.load(path).parts:
                image.add(part)
            continue
        for part in file_parts(path.name, read_file(path), address):
            image.add(part)
    return image


class Device:
    """One board. ``send`` passes events on (see ``events``); without it they are dropped.

    It is also the host of ``maixpy.image``: allocate, free, open, write, print, warn, lcd_size, full_firmware.
    """

    def __init__(self, config: BoardConfig, send: Callable[..., None] | None = None) -> None:
        self.config = config
        self.send: Callable[..., None] = send or (lambda *a, **k: None)
        self.firmware = firmware.find(config.firmware)
        self.pace = None if config.paced is None else Pace(config.paced)
        self.clock = Clock(real=config.real_time, pace=self.pace)
        self.random = random.Random(config.seed)
        self.camera = Camera(list(config.camera) if isinstance(config.camera, tuple) else config.camera)
        self.flash = flash_from(config.flash)
        mounts = {"flash": Mount(Path(config.flash_folder or "."))}
        if config.sd is not None:
            mounts["sd"] = Mount(Path(config.sd), Path(config.sd_overlay) if config.sd_overlay else None)
        self.storage = Storage(mounts, "/sd" if config.sd is not None else "/flash")
        self.panel: Panel | None = None
        self.lcd_size = budget.LCD_SIZE
        self.full_firmware = self.firmware.full
        self.gc_heap_next = config.gc_heap
        self.snapshots = 0
        self.displays = 0
        self.closing = False
        self.input_line: Callable[[], str] = lambda: ""
        self.on_halt: Callable[[BoardError], NoReturn] | None = None
        self._noted: set[str] = set()
        self._garbage: list[Callable[[], None]] = []
        self._ended = 0
        self._dirty = False
        self._polling = False
        self.on_stubborn: Callable[[], NoReturn] | None = None
        self.pins = Pins(config.pins, config.presses)
        self.timers: list[Due] = []
        self.image_class: Any = None
        """The class Image of this board; whoever builds the modules sets it."""
        self._boot_heaps()

    def _boot_heaps(self) -> None:
        start = RAM_START + self.firmware.footprint
        self.system = Heap(
            start, MAIN_RAM_BYTES - self.firmware.footprint, align=budget.MALLOC_ALIGN, header=budget.MALLOC_HEADER
        )
        wanted = self.config.gc_heap
        address = self.system.allocate(wanted, "GC heap (script and images)")
        if address is None:
            self.print(f"GC heap size {wanted} is too large, reset GC heap size\n")
            wanted = budget.GC_HEAP_FALLBACK
            address = self.system.allocate(wanted, "GC heap (script and images)")
        if address is None:
            raise BoardError(
                "E601",
                "this firmware leaves no memory for the GC heap",
                where=f"firmware {self.firmware.name}",
                why=f"{self.system.free} bytes are left of main RAM",
                fix="Check the footprint.",
            )
        self.gc_heap_bytes = wanted
        pool = int(wanted / (1 + GC_TABLES)) // GC_BLOCK * GC_BLOCK
        self.gc = Heap(address, pool, align=GC_BLOCK, header=0)
        self.gc.allocate(min(GC_AT_START, pool // 2), "script")

    # -- words ----------------------------------------------------------------------------------------------------

    def print(self, text: str) -> None:
        """Write to the board's serial console."""
        self.send("text", text=text.replace("\r\n", "\n"))

    def note(self, text: str) -> None:
        """Explain something; it goes to the watcher, not to the script's output."""
        self.send("note", text=text)

    def warn(self, text: str) -> None:
        """Explain something once."""
        if text not in self._noted:
            self._noted.add(text)
            self.note(text)

    def halt(self, error: BoardError) -> NoReturn:
        """Stop the board: on the chip it would hang, crash or corrupt its memory from here on."""
        if self.on_halt is not None:
            self.on_halt(error)
        raise error

    # -- memory ---------------------------------------------------------------------------------------------------

    def malloc(self, size: int, what: str) -> int | None:
        """Take memory of the system heap; None when there is not enough."""
        address = self.system.allocate(size, what)
        self.memory_changed(main_ram=True)
        return address

    def release(self, address: int) -> None:
        """Give memory of the system heap back."""
        self.system.release(address)
        self.memory_changed(main_ram=True)

    def allocate(self, size: int, what: str) -> int:
        """Take memory of the GC heap; ``MemoryError`` with the firmware's text when there is not enough."""
        address = self.gc.allocate(max(size, 1), what)
        if address is None:
            self.collect()
            address = self.gc.allocate(max(size, 1), what)
        if address is None and what == SPARE_PLANES:
            self.warn(
                "an image that was converted with copy=1 has planes that nothing fills, and there is no memory for "
                "them: firmware from April 2020 on raises MemoryError here, older firmware does not make them; going on"
            )
            return 0
        if address is None:
            self.note(
                f"GC heap: {what} wants {size:,} B; of {self.gc.size:,} B {self.gc.free:,} are free, "
                f"at most {self.gc.largest:,} in one piece. Images in it: "
                + (", ".join(f"{b.what} {b.asked:,} B" for b in self.gc.blocks[1:]) or "none")
            )
            raise MemoryError(NO_GC_MEMORY)
        self.memory_changed()
        return address

    def free(self, handle: object) -> None:
        """Give memory of the GC heap back."""
        if isinstance(handle, int) and handle:
            self.gc.release(handle)

    def discard(self, finaliser: Callable[[], None]) -> None:
        """Keep the finaliser of an object that nobody holds any more until the next collection, as MicroPython does."""
        if not self.closing:
            self._garbage.append(finaliser)

    def collect(self) -> None:
        """Run the finalisers of what nobody holds any more."""
        garbage, self._garbage = self._garbage, []
        for finaliser in garbage:
            finaliser()

    def memory_changed(self, *, main_ram: bool = False) -> None:
        """Tell the watcher; ``main_ram``: the system heap is another now."""
        more = {}
        if main_ram and self.config.send_bill:
            blocks = [(b.what, b.size) for b in self.system.blocks]
            more["bill"] = [(f"firmware {self.firmware.name}", self.firmware.footprint), *blocks]
        self.send(
            "memory",
            system_free=self.system.free,
            system_size=MAIN_RAM_BYTES,
            gc_free=self.gc.free,
            gc_size=self.gc.size,
            **more,
        )

    def bill(self, cost: ModelCost) -> Bill:
        """What main RAM holds now, and what ``cost`` would take on top."""
        lines = [
            Line(
                f"firmware {self.firmware.name}",
                self.firmware.footprint,
                "approximate" if self.firmware.approximate else "",
            )
        ]
        lines += [Line(b.what, b.size) for b in self.system.blocks]
        lines += [Line(x.what, budget.block(x.bytes), "wanted") for x in cost.lines()]
        bill = Bill(self.firmware, tuple(lines))
        return bill if bill.fits else Bill(self.firmware, bill.lines, tuple(budget.advice(self.firmware, bill, cost)))

    # -- files ----------------------------------------------------------------------------------------------------

    def open_file(self, path: str, mode: str = "r") -> Any:
        """Open a file of the board."""
        try:
            if any(c in mode for c in "wa+x"):
                target = self.storage.for_writing(path, mode)
            else:
                target = self.storage.locate(path)
            if target.is_dir():
                raise os_error(errno.EISDIR if "r" not in mode else errno.ENOENT)
            if "b" in mode:
                return open(target, mode)
            return open(target, mode, encoding="utf-8", newline="\n")
        except OSError as error:
            raise os_error(error.errno or errno.EIO) from None

    def open(self, path: str) -> bytes:
        """Read a whole file of the board."""
        with self.open_file(path, "rb") as file:
            data: bytes = file.read()
            return data

    def write(self, path: str, data: bytes) -> None:
        """Write a whole file of the board."""
        with self.open_file(path, "wb") as file:
            file.write(data)

    def read_flash(self, address: int, count: int) -> bytes:
        """Read the flash chip; EIO outside it."""
        try:
            return self.flash.read(address, count)
        except MemoryLimitError as error:
            raise os_error(errno.EIO) from error

    # -- time -----------------------------------------------------------------------------------------------------

    def pause(self, us: float) -> None:
        """Sleep; what the script drew appears, timers and keys get their turn on the way."""
        self.flush_display()
        end = self.clock.us + max(0.0, us)
        while True:
            moment = min(
                (m for m in (self.pins.next_change(self.clock.us), *(t.due for t in self.timers)) if m), default=end
            )
            if self.pace is not None:
                moment = min(moment, self.clock.us + SLICE_US)
            if moment >= end:
                break
            self.clock.sleep(moment - self.clock.us)
            self.poll()
        self.clock.sleep(end - self.clock.us)
        self.poll()

    def poll(self) -> None:
        """Let timers and pin interrupts run that are due; the firmware calls this from many places."""
        if self._polling:
            return
        self._polling = True
        try:
            self.pins.poll(self.clock.us)
            for timer in list(self.timers):
                timer.poll(self.clock.us)
        finally:
            self._polling = False

    # -- frames ---------------------------------------------------------------------------------------------------

    def before_snapshot(self) -> None:
        """Count a snapshot; ends the script when it has had all frames."""
        self.flush_display()
        if self.config.frames is not None and self.snapshots >= self.config.frames:
            self._end()
        self.snapshots += 1

    def before_display(self) -> None:
        """Count a display."""
        self.flush_display()
        if self.config.frames is not None and not self.snapshots and self.displays >= self.config.frames:
            self._end()

    def _end(self) -> NoReturn:
        self._ended += 1
        if self._ended > STUBBORN and self.on_stubborn is not None:
            self.on_stubborn()
        raise ScriptEnd

    def lcd_changed(self, *, display: bool = False) -> None:
        """Remember that the display shows something new; ``display``: by lcd.display."""
        self.displays += display
        self._dirty = True

    def flush_display(self) -> None:
        """Send the display's content if it changed: what a script writes on top of an image comes with the image."""
        if self._dirty and self.panel is not None:
            self._dirty = False
            data = self.panel.pixels.tobytes() if self.config.send_frames else b""
            self.send("frame", data, w=self.panel.width, h=self.panel.height, n=self.displays, us=self.clock.us)
