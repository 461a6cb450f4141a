"""``Board``: runs a MaixPy script on the virtual board, in a process of its own, and gives what came of it."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO

import numpy as np

from openkpu.board.config import BoardConfig
from openkpu.board.events import Event, Sender, receive
from openkpu.board.firmware import find
from openkpu.board.recorder import Recorder, recorder_for
from openkpu.board.result import KEPT_FRAMES, Result
from openkpu.errors import BoardError, SetupError
from openkpu.kmodel.firmware import GC_HEAP_BYTES

RUNNER: Final = "openkpu.maixpy.runner"
RESET: Final = 75
MAX_RESETS: Final = 10
QUEUED_EVENTS: Final = 64
PathLike = str | os.PathLike[str]


class Board:
    """A virtual MaixPy board. Make one, then ``run`` scripts on it; each run starts from power-on.

    ``firmware``: "full", "minimum", "minimum-v4", or NAME:BYTES with your build's footprint. ``flash``: a flash image,
    kfpkg or kmodel (FILE or FILE@ADDRESS), a list of those, or {address: file}. ``sd``: the folder of the SD card,
    where the script also writes; None: the script's own folder, and what it writes is dropped. ``camera``: a picture,
    a folder, a list of pictures, an animated GIF, a video, ``device:N``, or "pattern" (test bars, the default);
    ``camera_fixed`` makes set_hmirror and set_vflip flip the pictures. ``display``: FILE.gif (all frames), FILE.png
    (the last one), "window", or "none". ``frames`` ends the script after so many snapshots. ``time``: "chip", "real".
    ``gc_heap`` in bytes. ``pins``: levels of input pins. ``presses``: keys, (pin, second).

    ``BoardError`` E6xx when something of this cannot be.
    """

    def __init__(
        self,
        *,
        firmware: str = "full",
        flash: PathLike | Sequence[PathLike] | Mapping[int, PathLike] = (),
        sd: PathLike | None = None,
        camera: PathLike | Sequence[PathLike] | None = None,
        display: str = "none",
        frames: int | None = None,
        seed: int = 0,
        time: str = "chip",
        gc_heap: int = GC_HEAP_BYTES,
        camera_fixed: bool = False,
        pins: Mapping[int, int] | None = None,
        presses: Iterable[tuple[int, float]] = (),
    ) -> None:
        find(firmware)
        if time not in ("chip", "real"):
            raise BoardError("E602", f"there is no time {time!r}", where="option time", fix="Use 'chip' or 'real'.")
        if sd is not None and not Path(sd).is_dir():
            raise SetupError("E510", f"there is no folder {sd}", where="option sd", fix="Check the path.")
        self._display = display
        self._process: subprocess.Popen[bytes] | None = None
        self._commands: Sender | None = None
        self._config = BoardConfig(
            script="",
            firmware=firmware,
            sd=None if sd is None else str(Path(sd).resolve()),
            flash=_flash_items(flash),
            camera=_camera(camera),
            camera_fixed=camera_fixed,
            frames=frames,
            seed=seed,
            real_time=time == "real",
            gc_heap=gc_heap,
            pins={str(k): v for k, v in (pins or {}).items()},
            presses=tuple((int(p), float(s)) for p, s in presses),
        )

    def run(
        self,
        script: PathLike,
        *,
        on_event: Callable[[Event], None] | None = None,
        keep_frames: bool = False,
        camera_events: bool = False,
        stdin: TextIO | None = None,
        watch: bool = False,
        paced: bool = True,
    ) -> Result:
        """Run a script to its end and return what came of it.

        ``on_event`` gets every event as it happens (see ``board.events``), in this thread; with ``camera_events`` also
        the camera's pictures. ``keep_frames`` keeps what the display showed in the result. A script that reads a line
        gets it from ``stdin``, or an empty one. ``watch``: people look on; there are also the camera's pictures and the
        memory bill, commands can pause the script, and with ``paced`` it runs no faster than on the chip.
        ``SetupError`` E510 when there is no such script, ``BoardError`` when the board cannot be set up.
        """
        path = Path(script)
        if not path.is_file():
            raise SetupError("E510", f"there is no file {path}", where=str(path), fix="Check the path.")
        recorder = recorder_for(self._display)
        wants_frames = keep_frames or recorder is not None or on_event is not None
        with tempfile.TemporaryDirectory(prefix="openkpu-board-") as temporary:
            work = Path(temporary)
            config = replace(
                self._config,
                script=str(path.resolve()),
                flash_folder=str(_folder(work / "flash")),
                sd=self._config.sd or str(path.resolve().parent),
                sd_overlay=None if self._config.sd else str(_folder(work / "sd")),
                send_frames=wants_frames,
                send_camera=camera_events or watch,
                send_bill=watch,
                paced=(paced and not self._config.real_time) if watch else None,
            )
            run = _Run(work, on_event, keep_frames, recorder, stdin)
            try:
                result = self._run_with_resets(run, config)
            finally:  # after Ctrl-C, too, the recording is kept
                if recorder is not None:
                    recorder.close()
            if self._config.sd is None and (lost := [w for w in result.written if w.startswith("/sd/")]):
                run.note(f"dropped what the script wrote ({', '.join(lost)}): give the board an SD folder to keep it")
            return result

    def _run_with_resets(self, run: _Run, config: BoardConfig) -> Result:
        """Start again after every machine.reset()."""
        while True:
            result = run.start(self, config)
            if result.how != "reset":
                return result
            if config.resets + 1 >= MAX_RESETS:
                raise BoardError(
                    "E604",
                    f"the script resets the board again and again ({MAX_RESETS} times)",
                    where=config.script,
                    why="every start ends in machine.reset()",
                    fix="Reset only when something must change, as when gc_heap_size is not what you want.",
                )
            config = replace(config, resets=config.resets + 1, gc_heap=run.gc_heap)

    def send(self, kind: str, data: bytes = b"", /, **fields: Any) -> None:
        """Send a command to the running script (see ``board.events``); from another thread or from ``on_event``."""
        sender = self._commands
        if sender is not None:
            with suppress(OSError, ValueError):  # it has just ended
                sender.send(kind, data, **fields)

    def interrupt(self) -> None:
        """Press Ctrl-C at the board's console."""
        self.send("interrupt")

    def kill(self) -> None:
        """Cut the power."""
        if self._process is not None:
            self._process.kill()


class _Run:
    """The parent's side of one run, over resets."""

    def __init__(
        self,
        work: Path,
        on_event: Callable[[Event], None] | None,
        keep: bool,
        recorder: Recorder | None,
        stdin: TextIO | None,
    ) -> None:
        self._work = work
        self._on_event = on_event
        self._keep = keep
        self._recorder = recorder
        self._stdin = stdin
        self.result = Result()
        self.gc_heap = 0
        self._last_frame = -1

    def note(self, text: str) -> None:
        self._handle(Event("note", {"text": text}))

    def start(self, board: Board, config: BoardConfig) -> Result:
        """Run once from power-on."""
        file = self._work / "config.json"
        config.save(file)
        errors = self._work / "stderr.txt"
        self._last_frame = -1
        self.result.how = ""
        with errors.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-X", "utf8", "-P", "-m", RUNNER, str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                **_own_group(),
            )
            commands, events = _pipe(process.stdin), _pipe(process.stdout)
            board._process, board._commands = process, Sender(commands)
            try:
                self._follow(board, events)
                process.wait()
            finally:
                board._commands = None
                process.kill()
                process.wait()
                for stream in (commands, events):
                    with suppress(OSError):
                        stream.close()
        if not self.result.how:
            self._died(process.returncode, errors)
        return self.result

    def _died(self, code: int, errors: Path) -> None:
        tail = errors.read_text("utf-8", "replace").strip().splitlines()[-3:]
        self.result.code, self.result.how = 1, "died"
        self.result.error = BoardError(
            "E603",
            "the process of the script ended unexpectedly",
            where=f"exit code {code}",
            why=" / ".join(tail) or "it left no message",
            fix="If you did not end it yourself, please report it with the script.",
        )

    def _follow(self, board: Board, stream: BinaryIO) -> None:
        """Handle events until the script ends. The first Ctrl-C goes to the script, the second one ends it."""
        waiting: queue.Queue[Event | None] = queue.Queue(maxsize=QUEUED_EVENTS)
        closed = threading.Event()

        def read() -> None:  # in a thread of its own: a Ctrl-C must not cut an event in two
            for event in receive(stream):
                while not closed.is_set():
                    with suppress(queue.Full):
                        waiting.put(event, timeout=0.2)
                        break
                if closed.is_set():
                    return
            with suppress(queue.Full):
                waiting.put(None, timeout=5)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        interrupted = False
        try:
            while True:
                try:
                    event = waiting.get(timeout=0.2)
                    if event is None:
                        return
                    self._handle(event)
                    if event.kind == "ask":
                        board.send("line", text=self._line())
                except queue.Empty:
                    if not thread.is_alive() and waiting.empty():
                        return
                except KeyboardInterrupt:
                    if interrupted:
                        raise
                    interrupted = True
                    board.interrupt()
        finally:
            closed.set()

    def _line(self) -> str:
        return "" if self._stdin is None else self._stdin.readline().rstrip("\r\n")

    def _handle(self, event: Event) -> None:
        r, f = self.result, event.fields
        if event.kind == "text":
            r.text += f["text"]
        elif event.kind == "note":
            r.notes.append(f["text"])
        elif event.kind == "frame":
            self._frame(event)
        elif event.kind == "memory":
            r.memory = f
        elif event.kind == "run":
            r.runs += 1
            r.run_us += f["us"]
        elif event.kind == "halt":
            r.error = BoardError(**f["error"])
        elif event.kind == "end":
            r.code, r.how, r.written = f["code"], f["how"], f["written"]
            r.chip_us += f["us"]
            r.snapshots += f["snapshots"]
            r.displays += f["displays"]
            r.traceback = f.get("traceback", "")
            self.gc_heap = f.get("gc_heap", self.gc_heap)
        if self._on_event is not None:
            self._on_event(event)

    def _frame(self, event: Event) -> None:
        f = event.fields
        if not event.data:
            return
        pixels = np.frombuffer(event.data, np.uint8).reshape(f["h"], f["w"], 3)
        if self._keep:
            if f["n"] == self._last_frame and self.result.frames:
                self.result.frames[-1] = pixels
            elif len(self.result.frames) < KEPT_FRAMES:
                self.result.frames.append(pixels)
        self._last_frame = f["n"]
        if self._recorder is not None:
            self._recorder.frame(pixels, f["n"], f["us"])


def _own_group() -> dict[str, Any]:
    """Keep the terminal's Ctrl-C away from the script's process: it gets it as a command."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _pipe(stream: Any) -> BinaryIO:
    """A pipe of a process that was started with pipes."""
    pipe: BinaryIO = stream
    return pipe


def _folder(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


def _flash_items(flash: PathLike | Sequence[PathLike] | Mapping[int, PathLike]) -> tuple[str, ...]:
    if isinstance(flash, Mapping):
        return tuple(f"{_absolute(os.fspath(f))}@{address:#x}" for address, f in flash.items())
    if isinstance(flash, str | os.PathLike):
        return (_absolute(os.fspath(flash)),)
    return tuple(_absolute(os.fspath(f)) for f in flash)


def _absolute(item: str) -> str:
    """The absolute path of FILE or FILE@ADDRESS."""
    name, at, address = item.rpartition("@")
    if at and not Path(item).exists():
        return f"{Path(name).resolve()}@{address}"
    return str(Path(item).resolve())


def _camera(camera: PathLike | Sequence[PathLike] | None) -> str | tuple[str, ...] | None:
    if camera is None:
        return None
    if isinstance(camera, str | os.PathLike):
        text = os.fspath(camera)
        return text if text in ("pattern", "live") or text.startswith("device:") else str(Path(text).resolve())
    return tuple(str(Path(c).resolve()) for c in camera)
