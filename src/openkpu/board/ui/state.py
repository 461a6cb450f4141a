"""Turns the board's events into what the page shows."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Final

from openkpu.board.events import Event
from openkpu.board.ui.hub import Hub
from openkpu.k210 import AI_RAM_BYTES

WINDOW_S: Final = 2.0
"""Frame rates are means over this time."""
LEAST_FRAMES: Final = 3
RATES_S: Final = 0.25
"""How often the page gets new rates."""
SHOWN_BYTES: Final = 32
"""How much of what a script sends to a serial port is shown."""


class Rate:
    """Frames a second, on the chip's clock and on this computer."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()
        self._number = -1

    def count(self, number: int, us: float, now: float) -> None:
        """Count frame ``number``, once."""
        if number == self._number:
            return
        self._number = number
        seen = self._seen
        seen.append((now, us))
        while len(seen) > LEAST_FRAMES and now - seen[0][0] > WINDOW_S:
            seen.popleft()

    def restart(self) -> None:
        """Forget what was before a pause."""
        self._seen = deque()  # another thread may be reading the old one

    @property
    def chip(self) -> float | None:
        """On the chip's clock."""
        return self._per_second(1, 1e6)

    @property
    def here(self) -> float | None:
        """On this computer."""
        return self._per_second(0, 1.0)

    def _per_second(self, index: int, unit: float) -> float | None:
        seen = self._seen
        if len(seen) < LEAST_FRAMES:
            return None
        span = seen[-1][index] - seen[0][index]
        return (len(seen) - 1) * unit / span if span > 0 else None


class State:
    """What one run shows. ``take`` gets every event, in the order in which they happen."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._rate = Rate()
        self._camera_rate = False
        self._rates_at = 0.0
        self._bill: list[Any] = []
        self._models: dict[int, dict[str, Any]] = {}
        self._runs: dict[int, dict[str, Any]] = {}
        self._inputs: dict[int, dict[str, Any]] = {}
        self._outputs: dict[int, dict[str, Any]] = {}
        self._counts = {"snapshots": 0, "displays": 0, "us": 0.0, "runs": 0}

    def take(self, event: Event) -> None:
        """Show an event, if it is one to show."""
        handler = getattr(self, f"_on_{event.kind}", None)
        if handler is not None:
            handler(event.fields, event.data)

    def resumed(self) -> None:
        """A pause is over."""
        self._rate.restart()

    def flush(self) -> None:
        """Show the last rates and counts."""
        self._show_rates(time.monotonic(), always=True)

    def _on_start(self, f: dict[str, Any], _: bytes) -> None:
        if f["resets"]:  # the script called machine.reset(): nothing is loaded or connected any more
            self._hub.say("info", f"reset {f['resets']}\n")
            for known in (self._models, self._runs, self._inputs, self._outputs):
                known.clear()
            self._show_models()
            self._show_pins()
            self._hub.put("runs", runs=[])

    # -- words ----------------------------------------------------------------------------------------------------

    def _on_text(self, f: dict[str, Any], _: bytes) -> None:
        self._hub.say("text", f["text"])

    def _on_ask(self, _: dict[str, Any], __: bytes) -> None:
        self.flush()

    def _on_note(self, f: dict[str, Any], _: bytes) -> None:
        self._hub.say("note", f["text"].rstrip("\n") + "\n")

    def _on_uart(self, f: dict[str, Any], data: bytes) -> None:
        more = f" and {len(data) - SHOWN_BYTES} bytes more" if len(data) > SHOWN_BYTES else ""
        self._hub.say("info", f"UART {f['number']} sends {data[:SHOWN_BYTES]!r}{more}\n")

    def _on_halt(self, f: dict[str, Any], _: bytes) -> None:
        error = f["error"]
        rows = [f"error {error['code']}: {error['what']}"]
        rows += [f"  {name}: {error[name]}" for name in ("where", "why", "fix") if error.get(name)]
        self._hub.say("error", "\n".join(rows) + "\n")

    # -- pictures -------------------------------------------------------------------------------------------------

    def _on_frame(self, f: dict[str, Any], data: bytes) -> None:
        self._counts["displays"], self._counts["us"] = f["n"], f["us"]
        self._hub.put("frame", data, **f)
        if not self._camera_rate:
            self._count(f)

    def _on_camera(self, f: dict[str, Any], data: bytes) -> None:
        self._camera_rate = True
        self._counts["snapshots"], self._counts["us"] = f["n"], f["us"]
        self._hub.put("camera", data, **f)
        self._count(f)

    def _count(self, f: dict[str, Any]) -> None:
        now = time.monotonic()
        self._rate.count(f["n"], f["us"], now)
        self._show_rates(now)

    def _show_rates(self, now: float, *, always: bool = False) -> None:
        if always or now - self._rates_at >= RATES_S:
            self._rates_at = now
            self._hub.put("rates", chip=self._rate.chip, here=self._rate.here, **self._counts)

    # -- memory and models ----------------------------------------------------------------------------------------

    def _on_memory(self, f: dict[str, Any], _: bytes) -> None:
        self._bill = f.get("bill", self._bill)
        self._hub.put("memory", **{**f, "bill": self._bill})

    def _on_model(self, f: dict[str, Any], _: bytes) -> None:
        self._models[f["id"]] = f
        self._show_models()

    def _on_unload(self, f: dict[str, Any], _: bytes) -> None:
        self._models.pop(f["id"], None)
        self._runs.pop(f["id"], None)
        self._show_models()

    def _show_models(self) -> None:
        self._hub.put("models", models=list(self._models.values()), ai_size=AI_RAM_BYTES)

    def _on_run(self, f: dict[str, Any], _: bytes) -> None:
        before = self._runs.get(f["id"], {"count": 0})
        self._counts["runs"] += 1
        self._counts["us"] = f["start"] + f["us"]
        self._runs[f["id"]] = {**f, "count": before["count"] + 1}
        self._hub.put("runs", runs=list(self._runs.values()))
        self._show_rates(time.monotonic())

    # -- pins -----------------------------------------------------------------------------------------------------

    def _on_input(self, f: dict[str, Any], _: bytes) -> None:
        self._inputs[f["pin"]] = f
        self._show_pins()

    def _on_pin(self, f: dict[str, Any], _: bytes) -> None:
        if f["pin"] is not None:
            self._outputs[f["pin"]] = f
            self._inputs.pop(f["pin"], None)
            self._show_pins()

    def _show_pins(self) -> None:
        by_pin = sorted(self._inputs), sorted(self._outputs)
        self._hub.put(
            "pins", inputs=[self._inputs[p] for p in by_pin[0]], outputs=[self._outputs[p] for p in by_pin[1]]
        )
