"""Runs a script with its page, until Ctrl-C in the terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from openkpu.board.board import Board
from openkpu.board.events import Event
from openkpu.board.result import Result
from openkpu.board.ui.server import PageServer
from openkpu.board.ui.session import Session
from openkpu.errors import OpenKPUError, SetupError

POLL_S: Final = 0.5


def serve(
    board: Board,
    script: Path,
    *,
    port: int = 0,
    open_browser: bool = True,
    info: dict[str, Any] | None = None,
    paced: bool = True,
    on_url: Callable[[str], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
    on_result: Callable[[Result | OpenKPUError], None] | None = None,
) -> int:
    """Serve the page and run the script; return the exit code of its last run after Ctrl-C.

    ``port`` 0: a free one. ``info``: what the page says about the board. ``on_url`` gets the page's address, the other
    two see ``Session``. ``SetupError`` E510 when there is no such script, E660 when the port is taken.
    """
    if not script.is_file():
        raise SetupError("E510", f"there is no file {script}", where=str(script), fix="Check the path.")
    session = Session(board, script, info=info, paced=paced, on_event=on_event, on_result=on_result)
    server = PageServer(session, port)
    thread = threading.Thread(target=server.serve_forever, name="page", daemon=True)
    thread.start()
    try:
        if on_url is not None:
            on_url(server.url)
        session.start()
        if open_browser:
            _open(server.url)
        while session.failure is None:
            threading.Event().wait(POLL_S)
    except KeyboardInterrupt:
        session.close()
    finally:
        session.close()
        server.shutdown()
        server.server_close()
    if session.failure is not None:
        raise session.failure
    return session.code


def _open(url: str) -> None:
    """Open the browser, in a thread: some wait for it."""
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
