"""A page's server around a script, and a client that speaks to it as the page does."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import openkpu
from openkpu.board.events import Event, receive
from openkpu.board.ui.server import PageServer
from openkpu.board.ui.session import Session

DEADLINE_S = 30


class Client:
    """Speaks to a server with its token."""

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self.port = int(parts.port or 0)
        self.path = parts.path

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, whole: bool = False, **headers: str
    ) -> tuple[int, bytes, http.client.HTTPResponse]:
        """``path`` is below the token, or ``whole``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path if whole else self.path + path, body, sent)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, data, answer

    def command(self, **fields: Any) -> int:
        return self.ask("POST", "command", json.dumps(fields).encode())[0]

    def picture(self, w: int, h: int, rgb: tuple[int, int, int]) -> int:
        return self.ask("POST", f"picture?w={w}&h={h}", bytes(rgb) * (w * h))[0]

    def stream(self) -> Iterator[Event]:
        """The events, from a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        connection.request("GET", self.path + "stream")
        try:
            yield from receive(cast(BinaryIO, connection.getresponse()))
        finally:
            connection.close()


class Page:
    """What a page knows: the newest of everything and all of the console."""

    def __init__(self, client: Client) -> None:
        self.now: dict[str, Event] = {}
        self.text = ""
        self.count: dict[str, int] = {}
        self._changed = threading.Condition()
        self.thread = threading.Thread(target=self._follow, args=(client,), daemon=True)
        self.thread.start()

    def _follow(self, client: Client) -> None:
        for event in client.stream():
            with self._changed:
                self.now[event.kind] = event
                self.count[event.kind] = self.count.get(event.kind, 0) + 1
                if event.kind == "log":
                    self.text += "".join(text for _, text in event.fields["pieces"])
                self._changed.notify_all()

    def until(self, condition: Callable[[Page], Any], what: str) -> Any:
        """Wait for something."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), DEADLINE_S):
                raise AssertionError(f"did not happen: {what}; the page has {sorted(self.now)}, {self.text[-500:]!r}")
            return condition(self)

    def until_text(self, text: str) -> None:
        self.until(lambda p: text in p.text, text)

    def until_state(self, how: str, run: int = 1) -> dict[str, Any]:
        def is_there(page: Page) -> Any:
            state = page.now.get("state")
            return state and state.fields["how"] == how and state.fields["run"] == run and state.fields

        found: dict[str, Any] = self.until(is_there, f"{how} in run {run}")
        return found


@contextmanager
def served(script: Path, *, start: bool = True, paced: bool = True, **options: Any) -> Iterator[tuple[Session, Client]]:
    """A session and its server, as ``kpu board --ui`` makes them."""
    session = Session(openkpu.Board(**options), script, info={"firmware": "full", "time": "chip"}, paced=paced)
    server = PageServer(session)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        if start:
            session.start()
        yield session, Client(server.url)
    finally:
        session.close()
        server.shutdown()
        server.server_close()
