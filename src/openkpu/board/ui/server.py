"""The page's HTTP server: its files, one endless stream of events, and small requests for what the page asks.

The stream has the framing of ``board.events``. Every page's stream is written by a thread of its own, so a slow page
waits for itself only.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, BinaryIO, Final, cast
from urllib.parse import parse_qs, urlsplit

from openkpu.board.events import Sender
from openkpu.board.pins import PIN_COUNT
from openkpu.board.ui import guard
from openkpu.board.ui.hub import Cursor
from openkpu.board.ui.session import Session
from openkpu.errors import SetupError

TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
MAX_PAGES: Final = 16
"""Streams at the same time."""
MAX_COMMAND: Final = 64 * 1024
MAX_SIDE: Final = 2048
"""Largest width and height of a webcam picture."""
BUFFER_BYTES: Final = 256 * 1024
"""What the system may hold back for a slow page: one picture or so, not a second of them."""
BEAT_S: Final = 2.0
"""A page that hears nothing for longer knows that the connection is lost."""
STUCK_S: Final = 30.0
"""A page that takes nothing for so long is gone."""
LEAST_S: Final = 0.012
"""Between two messages to a page: more often than a screen shows them is of no use."""


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """The answer to a request that cannot be done."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class PageServer(ThreadingHTTPServer):
    """Serves one session on this computer. E660 when the port is taken."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = sys.platform != "win32"  # there it would let two servers have one port

    def __init__(self, session: Session, port: int = 0) -> None:
        self.session = session
        self.token = guard.new_token()
        self.streams = threading.BoundedSemaphore(MAX_PAGES)
        self.files = {f.name: f.read_bytes() for f in resources.files(__package__).joinpath("page").iterdir()}
        try:
            super().__init__((guard.HOST, port), Handler)
        except (OSError, OverflowError) as error:
            raise SetupError(
                "E660",
                f"the page cannot be served on port {port}",
                where="option --port",
                why=str(error),
                fix="Choose another port, or leave --port out: then a free one is taken.",
            ) from error

    @property
    def port(self) -> int:
        """The port."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address of the page, with its secret."""
        return f"http://{guard.HOST}:{self.port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that goes away in the middle of an answer is no error."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version = "OpenKPU"
    sys_version = ""
    timeout = STUCK_S

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal is the script's."""

    def do_GET(self) -> None:
        """A file of the page, or the stream."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """A command or a webcam picture."""
        self._answer(self._post)

    def _answer(self, do: Any) -> None:
        url = urlsplit(self.path)
        why = guard.refusal(self.headers, url.path, self.server.token, self.server.port)
        try:
            if why is not None:
                raise Refused(HTTPStatus.FORBIDDEN, why)
            do(url.path.split("/", 2)[2] if url.path.count("/") > 1 else None, parse_qs(url.query))
        except Refused as refused:
            self.close_connection = True  # a body may be left unread
            self._send(refused.status, refused.why.encode() + b"\n", "text/plain; charset=utf-8")

    def _send(self, status: HTTPStatus, body: bytes = b"", kind: str = "", **headers: str) -> None:
        self.send_response(status)
        for name, value in guard.HEADERS.items():
            self.send_header(name, value)
        if kind:
            self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _get(self, name: str | None, _: dict[str, list[str]]) -> None:
        if name is None:
            self._send(HTTPStatus.PERMANENT_REDIRECT, Location=f"/{self.server.token}/")
            return
        if name == "stream":
            self._stream()
            return
        name = name or "index.html"
        body, kind = self.server.files.get(name), TYPES.get(name.rpartition(".")[2])
        if body is None or kind is None:
            raise Refused(HTTPStatus.NOT_FOUND, "There is no such file.")
        self._send(HTTPStatus.OK, body, kind)

    # -- the stream -----------------------------------------------------------------------------------------------

    def _stream(self) -> None:
        if not self.server.streams.acquire(blocking=False):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_PAGES} pages are open already; close one.")
        try:
            self.close_connection = True
            with suppress(OSError):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            self.send_response(HTTPStatus.OK)
            for name, value in {**guard.HEADERS, "Content-Type": "application/octet-stream"}.items():
                self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self._follow()
        except (OSError, ValueError):  # the page has gone
            self.close_connection = True
        finally:
            self.server.streams.release()

    def _follow(self) -> None:
        hub, cursor, sender = self.server.session.hub, Cursor(), Sender(cast(BinaryIO, self.wfile))
        rest, dropped = threading.Event(), 0
        while True:
            closed = hub.closed
            events = hub.wait(cursor, BEAT_S)
            for event in events:
                sender.send(event.kind, event.data, **event.fields)
            if closed:
                sender.send("bye")
                return
            if not events or cursor.dropped != dropped:
                dropped = cursor.dropped
                sender.send("beat", dropped=dropped)
            rest.wait(LEAST_S)

    # -- what the page asks ---------------------------------------------------------------------------------------

    def _post(self, name: str | None, query: dict[str, list[str]]) -> None:
        if name == "command":
            self._command(self._body(MAX_COMMAND))
        elif name == "picture":
            self._picture(query)
        else:
            raise Refused(HTTPStatus.NOT_FOUND, "There is nothing of that name.")
        self._send(HTTPStatus.NO_CONTENT)

    def _body(self, limit: int) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "Say how long it is.")
        if int(length) > limit:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"At most {limit} bytes.")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise Refused(HTTPStatus.BAD_REQUEST, "It ends early.")
        return body

    def _picture(self, query: dict[str, list[str]]) -> None:
        w, h = (_whole(query.get(name, [""])[0]) for name in ("w", "h"))
        if not (8 <= w <= MAX_SIDE and 8 <= h <= MAX_SIDE):
            raise Refused(HTTPStatus.BAD_REQUEST, f"w and h are 8 to {MAX_SIDE}.")
        body = self._body(w * h * 3)
        if len(body) != w * h * 3:
            raise Refused(HTTPStatus.BAD_REQUEST, f"{w}x{h} RGB pixels are {w * h * 3} bytes, not {len(body)}.")
        self.server.session.picture(body, w, h)

    def _command(self, body: bytes) -> None:
        try:
            fields = json.loads(body)
            known = COMMANDS[fields["do"]](self.server.session, fields)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"This is no command: {type(error).__name__}.") from error
        if known is False:
            raise Refused(HTTPStatus.CONFLICT, "No webcam picture has come yet.")


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _pin(value: Any) -> int:
    if type(value) is not int or not 0 <= value < PIN_COUNT:
        raise ValueError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else -1


def _in_background(do: Any) -> None:
    threading.Thread(target=do, daemon=True).start()


COMMANDS: Final[dict[str, Any]] = {
    "pause": lambda s, f: s.pause(_flag(f["on"])),
    "stop": lambda s, f: s.stop(),
    "restart": lambda s, f: _in_background(s.restart),
    "pace": lambda s, f: s.set_paced(_flag(f["on"])),
    "key": lambda s, f: s.key(_pin(f["pin"]), int(_flag(f["up"]))),
    "line": lambda s, f: s.line(_text(f["text"])),
    "camera": lambda s, f: s.live(_flag(f["live"])),
}
"""What a page can ask for."""
