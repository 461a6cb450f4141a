"""The process of one script: ``python -m openkpu.maixpy.runner CONFIG.json``.

Events go to standard output, commands come from standard input (see ``board.events``).
"""

from __future__ import annotations

import _thread
import gc
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

import numpy as np

from openkpu.board.camera import Live
from openkpu.board.config import BoardConfig
from openkpu.board.device import BoardReset, Device, ScriptEnd
from openkpu.board.events import Event, Sender, receive
from openkpu.board.pace import Pace
from openkpu.errors import BoardError, OpenKPUError

CRASHED: Final = 1
STOPPED: Final = 1
INTERRUPTED: Final = 130
RESET: Final = 75
"""Exit code that asks for another start."""


class Runner:
    """Runs a script on a device and reports how it ended."""

    def __init__(self, config: BoardConfig, sender: Sender) -> None:
        self._config = config
        self._sender = sender
        self._lines: queue.Queue[str] = queue.Queue()
        self._sending = False
        self._interrupted = False
        self._pace: Pace | None = None
        self.device = Device(config, self._send)
        self._pace = self.device.pace
        self.device.on_halt = self._halt
        self.device.on_stubborn = self._stubborn
        self.device.input_line = self._input_line

    def listen(self, commands: BinaryIO) -> None:
        """Take commands. When the watcher goes, however it went, the board has no power any more."""
        for event in receive(commands):
            self._command(event)
        os._exit(CRASHED)

    def _command(self, event: Event) -> None:
        if event.kind == "interrupt":
            if os.name == "posix":
                os.kill(os.getpid(), signal.SIGINT)  # also wakes the script from a sleep
            else:
                _thread.interrupt_main()
        elif event.kind == "line":
            self._lines.put(str(event.fields.get("text", "")))
        elif event.kind == "pin":
            self.device.pins.set(int(event.fields["pin"]), int(event.fields["level"]))
        elif event.kind == "picture" and isinstance(self.device.camera.source, Live):
            shape = int(event.fields["h"]), int(event.fields["w"]), 3
            if len(event.data) == shape[0] * shape[1] * 3:
                self.device.camera.source.put(np.frombuffer(event.data, np.uint8).reshape(shape))

        elif event.kind == "camera":
            self.device.camera.use_live(bool(event.fields["live"]))
        elif event.kind == "pause" and self._pace is not None:
            self._pace.pause(bool(event.fields["on"]))
        elif event.kind == "pace" and self._pace is not None:
            self._pace.set_paced(bool(event.fields["on"]))

    def _send(self, kind: str, data: bytes = b"", /, **fields: Any) -> None:
        """Send an event, whole: a Ctrl-C that comes meanwhile is raised after it. Waits while the script is paused."""
        if self._pace is not None:
            self._pace.hold()
        if threading.current_thread() is not threading.main_thread():
            self._sender.send(kind, data, **fields)
            return
        self._sending = True
        try:
            self._sender.send(kind, data, **fields)
        finally:
            self._sending = False
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt

    def interrupted(self, *_: object) -> None:
        """Handle SIGINT, in the main thread."""
        if not self._sending:
            raise KeyboardInterrupt
        self._interrupted = True

    def _input_line(self) -> str:
        self.device.flush_display()
        self._send("ask")
        return self._lines.get()

    def _finish(self, code: int, how: str, **more: Any) -> int:
        d = self.device
        d.closing = True
        d.flush_display()
        self._sending = True  # for good: nothing may interrupt the last words
        written = sorted(f"/{name}/{f}" for name, m in d.storage.mounts.items() for f in m.written)
        self._sender.send(
            "end",
            code=code,
            how=how,
            us=d.clock.us,
            snapshots=d.snapshots,
            displays=d.displays,
            written=written,
            **more,
        )
        return code

    def _halt(self, error: BoardError) -> NoReturn:
        self._sender.send("halt", error=error.as_dict())
        os._exit(self._finish(STOPPED, "halt"))

    def _stubborn(self) -> NoReturn:
        os._exit(self._finish(0, "frames"))

    def run(self) -> int:
        """Run the script; return the exit code."""
        from openkpu.maixpy.script import Script
        from openkpu.maixpy.system import board_traceback

        script = Script(self.device)
        source = Path(self._config.script).read_bytes()
        scope = script.main()
        gc.collect()
        gc.freeze()  # the script's gc.collect() need not look at all of this
        name = Path(self._config.script).name
        try:
            self._send("start", script=name, firmware=self.device.firmware.name, resets=self._config.resets)
            self.device.memory_changed(main_ram=True)
            script.run_source(source, name, scope)
        except ScriptEnd:
            return self._finish(0, "frames")
        except BoardReset:
            return self._finish(RESET, "reset", gc_heap=self.device.gc_heap_next)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
            return self._finish(code & 0xFF, "exit")
        except KeyboardInterrupt as error:
            self.device.print(board_traceback(error, script.files))
            return self._finish(INTERRUPTED, "interrupt")
        except BaseException as error:
            text = board_traceback(error, script.files)
            self.device.print(text)
            if isinstance(error, BoardError):
                self._sender.send("halt", error=error.as_dict())
            return self._finish(CRASHED, "exception", traceback=text)
        return self._finish(0, "end")


def main(arguments: list[str]) -> int:
    """Run as a process; anything that goes wrong before the script starts is a ``halt`` event."""
    events = os.fdopen(os.dup(1), "wb")
    commands = os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)  # whatever prints by mistake must not disturb the events
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    sender = Sender(events)
    try:
        config = BoardConfig.load(Path(arguments[0]))
        runner = Runner(config, sender)
    except OpenKPUError as error:
        sender.send("halt", error=error.as_dict())
        sender.send("end", code=STOPPED, how="halt", us=0, snapshots=0, displays=0, written=[])
        return STOPPED
    signal.signal(signal.SIGINT, runner.interrupted)
    threading.Thread(target=runner.listen, args=(commands,), daemon=True).start()
    return runner.run()


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except BrokenPipeError:  # the watcher has gone
        status = CRASHED
    sys.stderr.flush()
    os._exit(status)  # no finalisers: they would run in an arbitrary order, and the board is off
