"""Loading and freeing models: what the firmware checks, allocates and says."""

from __future__ import annotations

import errno
import itertools
from typing import Any, Final, NoReturn

from openkpu.board import cost, model_file
from openkpu.board.budget import ModelCost, Stream
from openkpu.board.device import Device
from openkpu.board.model_file import LoadFault, ModelFile
from openkpu.errors import BoardError
from openkpu.kmodel.streaming import BODY_LIMIT, TABLES_BYTES, most_layers
from openkpu.maixpy.kpu import codes
from openkpu.maixpy.kpu.net import Handle, Yolo, kpu_net, times_of
from openkpu.maixpy.kpu.outline import outline
from openkpu.runtime.session import Session

MODELS: Final = 5


class Loader:
    """The models of one board."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.count = 0
        self._ids = itertools.count(1)

    def from_argument(self, source: Any) -> kpu_net:
        """``KPU.load``."""
        d = self.device
        if type(source) is int:
            self._address(source)
            try:
                file = model_file.from_flash(d.flash.read, source, v4=d.firmware.v4)
                handle = self._place(file, f"flash {source:#x}", "")
            except LoadFault as fault:
                raise self._fault("load", fault, f"kpu.load({source:#x})") from None
            return self._net(handle, source, None)
        if type(source) is not str:
            raise TypeError("[MAIXPY]kpu: only accept int or string")
        if not any(end in source for end in (".kmodel", ".smodel", ".emodel")):
            raise ValueError("[MAIXPY]kpu: model format don't match, only supply .kmodel ")
        try:
            file = model_file.from_file(self._read(source), v4=d.firmware.v4)
            handle = self._place(file, source, "")
        except LoadFault as fault:
            raise self._fault("load", fault, f'kpu.load("{source}")') from None
        return self._net(handle, None, source)

    def from_stream(self, address: int, dual: int, batch: int, speed: int) -> kpu_net:
        """``KPU.load_flash``."""
        d = self.device
        self._address(address)
        where = f"kpu.load_flash({address:#x}, {dual}, {batch}, {speed})"
        try:
            file = model_file.from_swapped(d.flash.read, address, v4=d.firmware.v4)
            most = most_layers(file.output_count)
            if len(file.layers) > most:
                d.halt(
                    BoardError(
                        "E295",
                        "the model has too many layers to be streamed from flash",
                        where=where,
                        why=f"load_flash reads {TABLES_BYTES:,} bytes to find the layers, which has room for {most} of "
                        f"them; this model has {len(file.layers)}, and the loader takes the rest from whatever lies "
                        "behind its buffer",
                        fix="Use kpu.load, or a model with fewer layers.",
                    )
                )
            d.print(f"SPI freq {speed} Hz\r\n")
            handle = self._place(file, f"flash {address:#x}, streamed", "dual" if dual else "single")
        except LoadFault as fault:
            raise self._fault("load_flash", fault, where) from None
        if file.largest_body > BODY_LIMIT:
            d.halt(
                BoardError(
                    "E621",
                    "a layer is too large to be streamed from flash",
                    where=where,
                    why=f"its body has {file.largest_body:,} bytes; load_flash is documented for bodies up to "
                    f"{BODY_LIMIT:,}",
                    fix="Split the layer, or use kpu.load.",
                )
            )
        handle.stream_us = cost.stream_us(file.size, handle.times, dual=bool(dual), spi_hz=speed)
        return self._net(handle, address, None)

    def _address(self, address: int) -> None:
        if address <= 0:
            raise ValueError("[MAIXPY]kpu: model_addr must > 0 ")

    def _read(self, path: str) -> bytes:
        try:
            return self.device.open(path)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "?")
            raise LoadFault(codes.READ_FILE, f"{self.device.storage.absolute(path)} cannot be read ({name})") from None

    def _fault(self, what: str, fault: LoadFault, where: str) -> ValueError:
        d = self.device
        if fault.printed:
            d.print(fault.printed)
        d.note(f"{where}: {fault.why}")
        text = codes.text(fault.code, v4=d.firmware.v4)
        return ValueError(f"[MAIXPY]kpu: {what} error:{fault.code}, {text}")

    def _place(self, file: ModelFile, name: str, stream: Stream) -> Handle:
        d = self.device
        if self.count >= MODELS:
            raise LoadFault(codes.MODELS_FULL, f"{MODELS} models are loaded already; free one with kpu.deinit")
        if file.program is None and not file.run_fault and not (file.version == 4 and _hangs(file)):
            self._refuse(file, name)
        wanted = ModelCost(file.version, file.size, file.main_bytes, file.largest_body, stream)
        blocks: list[int] = []
        main = 0
        bill = d.bill(wanted)  # before anything of it is allocated, so that nothing is counted twice
        for line in wanted.lines():
            address = d.malloc(line.bytes, f"{name} {line.what}")
            if address is None:
                for block in blocks:
                    d.release(block)
                self._no_memory(wanted, name, line.what, bill.text(), bill.advice)
            blocks.append(address)
            if "main_mem" in line.what:
                main = address
        self.count += 1
        session = None if file.program is None else Session(file.program)
        layers = file.node_count
        handle = Handle(d, file, wanted, blocks, main, next(self._ids), name, session, layers, times_of(file.program))
        handle.program = file.program
        names = [f"{i} {type(s).__name__}" for i, s in enumerate(file.program.steps)] if file.program else []
        known = {"id": handle.id, "name": name, "bytes": file.size, "main": file.main_bytes}
        d.send("model", **known, steps=names, us=handle.times, **outline(file.program))
        return handle

    def _refuse(self, file: ModelFile, name: str) -> None:
        refusal = file.refusal
        assert refusal is not None
        if file.version == 4 and refusal.code == model_file.WRONG_VERSION:
            self.device.halt(
                BoardError(
                    "E621",
                    f"{name} crashes the board while it is loaded",
                    where=name,
                    why=f"{refusal.what}: the firmware takes it for a V4 file and then follows a null pointer (core "
                    "dump: fault load)",
                    fix="Compile the model to V3 or V4: no MaixPy firmware runs V5.",
                )
            )
        self.device.halt(
            BoardError(
                "E620",
                f"{name} is damaged, and the firmware does not notice",
                where=f"{name}: {refusal.where}",
                why=f"{refusal.what} ({refusal.code}): {refusal.why}. On the chip it gives wrong results or a crash.",
                fix=refusal.fix,
            )
        )

    def _no_memory(self, wanted: ModelCost, name: str, what: str, bill: list[str], advice: tuple[str, ...]) -> NoReturn:
        d = self.device
        d.note(f"{name} does not fit into main RAM:\n  " + "\n  ".join(bill))
        if advice:
            d.note("what would make it fit:\n  " + "\n  ".join(f"- {a}" for a in advice))
        else:
            d.note(
                f"all together would fit, but the free memory is in pieces: the largest has {d.system.largest:,} B. "
                "Load the largest model first, before camera and display."
            )
        if wanted.version == 4 and "main_mem" in what:
            d.halt(
                BoardError(
                    "E621",
                    f"{name} crashes the board while it is loaded",
                    where=name,
                    why="there is no memory for the scratch buffer of this V4 model, and the firmware then follows a "
                    "null pointer (core dump: fault load) instead of raising an error",
                    fix="Make room as listed above.",
                )
            )
        raise LoadFault(codes.NO_MEM, f"no memory for {what}")

    def _net(self, handle: Handle, address: int | None, path: str | None) -> kpu_net:
        return kpu_net(handle, address, path, self._dropped)

    def free(self, net: kpu_net) -> None:
        """``KPU.deinit``; a second call does nothing."""
        self._free(net._handle, net._yolo)
        net._handle = None
        net._yolo = None

    def _free(self, handle: Handle | None, yolo: Yolo | None) -> None:
        if handle is not None and handle.blocks:
            for block in handle.blocks:
                self.device.release(block)
            handle.blocks = []
            handle.session = None
            self.count -= 1
            self.device.send("unload", id=handle.id)
        if yolo is not None:
            for block in yolo.blocks:
                self.device.release(block)
            yolo.blocks = []

    def _dropped(self, handle: Handle | None, yolo: Yolo | None) -> None:
        """Nobody holds the object any more: the next collection prints and frees."""

        def finalise() -> None:
            self.device.print("kpu_net __del__\r\n")
            self._free(handle, yolo)

        self.device.discard(finalise)


def _hangs(file: ModelFile) -> bool:
    """Whether a V4 file was refused for an operator: the board loads it, and hangs when it runs."""
    return file.refusal is not None and file.refusal.code.startswith("E2")


def handle_of(device: Device, net: kpu_net, call: str) -> Handle:
    """The model behind an object; the board stops when it was freed."""
    if net._handle is None:
        device.halt(
            BoardError(
                "E629",
                f"{call} with a model that was freed",
                where=call,
                why="kpu.deinit freed it; on the chip this reads memory that belongs to somebody else by now",
                fix="Do not use a model after kpu.deinit; load it again.",
            )
        )
    return net._handle


def is_net(value: Any) -> bool:
    """Whether it is a model."""
    return type(value) is kpu_net
