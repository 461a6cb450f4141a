"""What pages get: the newest values, the end of the console, and nothing queued."""

from __future__ import annotations

import threading
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openkpu.board.events import Event
from openkpu.board.ui import hub as hubs
from openkpu.board.ui.hub import Cursor, Hub
from openkpu.board.ui.state import LEAST_FRAMES, Rate, State

PIECES = st.lists(st.tuples(st.sampled_from(["text", "note"]), st.text(max_size=9)), max_size=30)


def texts(events: list[Event]) -> str:
    return "".join(text for e in events if e.kind == "log" for _, text in e.fields["pieces"])


@given(PIECES, PIECES)
def test_the_console_arrives_whole(first: list[tuple[str, str]], second: list[tuple[str, str]]) -> None:
    hub, early, late = Hub(), Cursor(), Cursor()
    seen = ""
    for pieces in (first, second):
        for style, text in pieces:
            hub.say(style, text)
        seen += texts(hub.wait(early, 0))
    assert seen == texts(hub.wait(late, 0)) == "".join(t for _, t in first + second)
    assert hub.wait(early, 0) == hub.wait(late, 0) == []


def test_the_console_is_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr(hubs, "LOG_CHARS", 10_000)
    hub, cursor = Hub(), Cursor()
    hub.say("text", "start")
    assert texts(hub.wait(cursor, 0)) == "start"
    for i in range(3000):
        hub.say("text", f"{i:05}\n")
    hub.say("note", "x" * 50_000)
    hub.say("text", "end")
    events = hub.wait(cursor, 0)
    got = texts(events)
    assert events[0].fields["skipped"] + len(got) == 3000 * 6 + 50_000 + 3
    assert len(got) < 10_000 + 2 * hubs.PIECE_CHARS
    assert got.endswith("xxxend")


def test_a_slow_page_gets_the_newest_picture_only() -> None:
    hub, slow, quick = Hub(), Cursor(), Cursor()
    for n in range(50):
        hub.put("frame", bytes([n]), n=n)
        if n % 10 == 0:
            hub.wait(slow, 0)
        assert [e.fields["n"] for e in hub.wait(quick, 0)] == [n]
    (event,) = hub.wait(slow, 0)
    assert (event.data, event.fields) == (bytes([49]), {"n": 49})
    assert (slow.dropped, quick.dropped) == (49 - 5, 0)


def test_a_late_page_gets_what_is_current_in_order() -> None:
    hub = Hub()
    for name in ("frame", "pins", "state", "hello"):
        hub.put(name, b"", name=name)
    assert [e.kind for e in hub.wait(Cursor(), 0)] == ["hello", "state", "frame", "pins"]
    hub.forget("hello")
    assert [e.kind for e in hub.wait(Cursor(), 0)] == ["hello"]


def test_a_waiting_page_wakes_up() -> None:
    hub, got = Hub(), []
    waiter = threading.Thread(target=lambda: got.extend(hub.wait(Cursor(), 30)))
    waiter.start()
    hub.put("pins")
    waiter.join(10)
    assert [e.kind for e in got] == ["pins"]
    waiter = threading.Thread(target=lambda: hub.wait(Cursor(versions={"pins": 1}), 30))
    waiter.start()
    hub.close()
    waiter.join(10)
    assert not waiter.is_alive()


def test_rates() -> None:
    rate = Rate()
    assert (rate.chip, rate.here) == (None, None)
    for i in range(40):
        for _ in range(2):  # the same frame twice counts once
            rate.count(i, i * 100_000, i * 0.05)
    assert rate.chip is not None
    assert rate.here is not None
    assert (round(rate.chip, 6), round(rate.here, 6)) == (10, 20)
    rate.restart()
    for i in range(LEAST_FRAMES - 1):
        rate.count(100 + i, 0, 0)
    assert rate.here is None


def test_what_events_become() -> None:
    hub = Hub()
    state = State(hub)

    def now() -> dict[str, Event]:
        state.flush()
        return {e.kind: e for e in hub.wait(Cursor(), 0)}

    state.take(Event("memory", {"system_free": 5, "system_size": 9, "gc_free": 1, "gc_size": 2, "bill": [["a", 4]]}))
    state.take(Event("memory", {"system_free": 5, "system_size": 9, "gc_free": 0, "gc_size": 2}))
    assert now()["memory"].fields == {
        "system_free": 5,
        "system_size": 9,
        "gc_free": 0,
        "gc_size": 2,
        "bill": [["a", 4]],
    }, "the bill stays"
    state.take(Event("model", {"id": 1, "name": "m", "us": [3.0]}))
    for start in (10, 20):
        state.take(Event("run", {"id": 1, "start": start, "us": 3.0, "layers": 1}))
    assert now()["runs"].fields["runs"] == [{"id": 1, "start": 20, "us": 3.0, "layers": 1, "count": 2}]
    state.take(Event("unload", {"id": 1}))
    assert now()["models"].fields["models"] == []
    state.take(Event("input", {"pin": 16, "gpio": 0, "level": 1}))
    state.take(Event("pin", {"pin": 13, "gpio": 1, "level": 1}))
    state.take(Event("pin", {"pin": None, "gpio": 2, "level": 1}))
    pins = now()["pins"].fields
    assert ([p["pin"] for p in pins["inputs"]], [p["pin"] for p in pins["outputs"]]) == ([16], [13])
    state.take(Event("halt", {"error": {"code": "E600", "what": "no", "where": "", "why": "so", "fix": ""}}))
    state.take(Event("uart", {"number": 1}, b"x" * 40))
    state.take(Event("unknown", {}))
    state.take(Event("start", {"script": "main.py", "firmware": "full", "resets": 0}))
    assert now()["pins"].fields == pins
    state.take(Event("start", {"script": "main.py", "firmware": "full", "resets": 1}))
    assert now()["pins"].fields == {"inputs": [], "outputs": []}
    assert now()["log"].fields["pieces"] == [
        ("error", "error E600: no\n  why: so\n"),
        ("info", f"UART 1 sends {b'x' * 32!r} and 8 bytes more\nreset 1\n"),
    ]
