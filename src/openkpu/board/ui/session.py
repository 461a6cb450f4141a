"""A script that runs for a page: start, pause, stop, restart, keys, the webcam, and what that does to the page."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from openkpu.board.board import Board
from openkpu.board.events import Event
from openkpu.board.result import Result
from openkpu.board.ui.hub import Hub
from openkpu.board.ui.lines import Lines
from openkpu.board.ui.state import State
from openkpu.errors import OpenKPUError

INTERRUPTED: Final = 130
PATIENCE_S: Final = 3.0
"""How long a script may take to end after Ctrl-C when it is to start again or the page closes."""
ENDED: Final = "ended"


class Session:
    """Runs one script again and again. Safe to use from several threads.

    States: ``starting``, ``running``, ``paused``, ``stopping`` (Ctrl-C was sent), ``ended``. ``on_event`` also gets
    every event, ``on_result`` what came of each run (a ``Result``, or the error that prevented it).
    """

    def __init__(
        self,
        board: Board,
        script: Path,
        *,
        info: dict[str, Any] | None = None,
        paced: bool = True,
        on_event: Callable[[Event], None] | None = None,
        on_result: Callable[[Result | OpenKPUError], None] | None = None,
    ) -> None:
        self.hub = Hub()
        self.code = 0
        """Exit code of the last run."""
        self.failure: Exception | None = None
        """What went wrong here, not in the script."""
        self._board = board
        self._script = script
        self._on_event = on_event
        self._on_result = on_result
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._ended.set()
        self._runs = 0
        self._how = ""
        self._asking = False
        self._killed = False
        self._closed = False
        self._paced = paced
        self._live = False
        self._picture: tuple[bytes, int, int] | None = None
        self._lines = Lines(self._asks)
        self._state = State(self.hub)
        self.hub.put("hello", script=script.name, folder=str(script.absolute().parent), **(info or {}))
        self._show(ENDED)
        self._show_switches()

    # -- runs -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run the script from power-on, unless it runs already."""
        with self._lock:
            if self._closed or not self._ended.is_set():
                return
            self._ended.clear()
            self._killed = False
            self._runs += 1
            self._lines = Lines(self._asks)
            self._state = State(self.hub)
            self.hub.forget("hello")
            if self._runs > 1:
                self.hub.say("info", f"run {self._runs}\n")
            self._show("starting")
            self._show_switches()
            threading.Thread(target=self._run, name="board", daemon=True).start()

    def _run(self) -> None:
        try:
            self._run_once()
        except Exception as error:  # whoever waits raises it again
            self.failure = error
            self._show(ENDED)
        finally:
            self._ended.set()

    def _run_once(self) -> None:
        outcome: Result | OpenKPUError
        try:
            outcome = self._board.run(
                self._script, on_event=self._event, stdin=self._lines, watch=True, paced=self._paced
            )
        except OpenKPUError as error:
            outcome = error
            self._state.take(Event("halt", {"error": error.as_dict()}))
        with self._lock:
            self._state.flush()
            words = self._words(outcome)
            self.code = words["code"]
            self._show(ENDED, result=words)
        if self._on_result is not None:
            self._on_result(outcome)

    def _words(self, outcome: Result | OpenKPUError) -> dict[str, Any]:
        if isinstance(outcome, OpenKPUError):
            return {"code": 1, "how": "setup", "error": outcome.as_dict()}
        how = "killed" if self._killed and outcome.how == "died" else outcome.how
        error = None if outcome.error is None or how == "killed" else outcome.error.as_dict()
        if how == "died" and error is not None:
            self._state.take(Event("halt", {"error": error}))
        return {
            "code": INTERRUPTED if how == "killed" else outcome.code,
            "how": how,
            "error": error,
            "fps": outcome.fps,
            "snapshots": outcome.snapshots,
            "displays": outcome.displays,
            "chip_us": outcome.chip_us,
            "model_runs": outcome.runs,
            "model_us": outcome.run_us / outcome.runs if outcome.runs else 0.0,
            "written": outcome.written,
        }

    def _event(self, event: Event) -> None:
        if event.kind == "start":
            self._started()
        self._state.take(event)
        if self._on_event is not None:
            self._on_event(event)

    def _started(self) -> None:
        """The board is on: tell it what was chosen before."""
        with self._lock:
            if self._live and self._picture is not None:
                self._board.send("camera", live=True)
                self._send_picture(*self._picture)
            if not self._paced:
                self._board.send("pace", on=False)
            if self._how == "stopping":
                self._board.interrupt()
            elif self._how == "starting":
                self._show("running")

    def _show(self, how: str, **more: Any) -> None:
        self._how = how
        self.hub.put("state", how=how, run=self._runs, asking=self._asking, **more)

    def _show_switches(self) -> None:
        self.hub.put("switches", paced=self._paced, live=self._live)

    def _asks(self, asking: bool) -> None:
        with self._lock:
            self._asking = asking
            if self._how != ENDED:
                self._show(self._how)

    # -- what the page asks for -----------------------------------------------------------------------------------

    def pause(self, on: bool) -> None:
        """Pause or go on."""
        with self._lock:
            if self._how == ("running" if on else "paused"):
                self._board.send("pause", on=on)
                self._state.flush()
                self._state.resumed()
                self._show("paused" if on else "running")

    def stop(self) -> None:
        """Ctrl-C; a second time: cut the power."""
        with self._lock:
            if self._how == ENDED:
                return
            if self._how == "stopping":
                self._killed = True
                self._board.kill()
            elif self._how != "starting":  # that one gets it when the board is on
                self._board.send("pause", on=False)
                self._board.interrupt()
            self._show("stopping")
            self._lines.put("")

    def restart(self) -> None:
        """Start again; what still runs gets Ctrl-C, and no power after ``PATIENCE_S``."""
        self.end()
        self.start()

    def end(self) -> None:
        """Stop whatever runs and wait for it."""
        if self._how != "stopping":
            self.stop()
        while not self._ended.wait(PATIENCE_S):
            self.stop()

    def close(self) -> None:
        """End for good."""
        with self._lock:
            self._closed = True
        self.end()
        self.hub.close()

    def set_paced(self, on: bool) -> None:
        """Run no faster than on the chip, or as fast as this computer can."""
        with self._lock:
            self._paced = on
            self._board.send("pace", on=on)
            self._state.resumed()
            self._show_switches()

    def key(self, pin: int, level: int) -> None:
        """Set the level of an input: 0 while a key is down."""
        self._board.send("pin", pin=pin, level=level)

    def line(self, text: str) -> None:
        """Give a line to a script that asked for one."""
        self.hub.say("text", text + "\n")
        self._lines.put(text)

    def picture(self, data: bytes, width: int, height: int) -> None:
        """Take a webcam picture, RGB888."""
        with self._lock:
            self._picture = data, width, height
            live = self._live
        if live:
            self._send_picture(data, width, height)

    def live(self, on: bool) -> bool:
        """Use the webcam or what --camera gave; False when no webcam picture has come yet."""
        with self._lock:
            if on and self._picture is None:
                return False
            self._live = on
            self._board.send("camera", live=on)
            if on and self._picture is not None:
                self._send_picture(*self._picture)
            self._show_switches()
            return True

    def _send_picture(self, data: bytes, width: int, height: int) -> None:
        self._board.send("picture", data, w=width, h=height)
