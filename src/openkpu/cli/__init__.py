"""The command ``kpu``: one verb a file. A verb parses, calls the API and prints; nothing else lives here."""

from __future__ import annotations

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells use it."""


def main() -> None:
    """Run the command line (the entry point of ``kpu``)."""
    import sys

    try:
        from openkpu.cli.app import app

        app(prog_name="kpu")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
