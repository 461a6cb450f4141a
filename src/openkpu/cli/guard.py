"""What every verb shares: exit codes and how errors look.

0 done; 1 an error that OpenKPU explains (a block on stderr, or one JSON object with ``--json``), or an internal one;
2 wrong usage; 130 Ctrl-C. There is never a traceback, except with KPU_DEBUG=1.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from openkpu.cli import INTERRUPTED
from openkpu.errors import OpenKPUError


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """Wrap a verb so that whatever goes wrong ends in a clear message and the right exit code."""

    @functools.wraps(function)
    def wrapper(*args: Any, **options: Any) -> None:
        try:
            function(*args, **options)
            sys.stdout.flush()
        except (typer.BadParameter, typer.Exit):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            _quiet_pipe()
        except OpenKPUError as error:
            _explain(error, as_json=bool(options.get("as_json")))
        except MemoryError:
            _internal("not enough memory on this computer")
        except Exception as error:
            if os.environ.get("KPU_DEBUG") == "1":
                raise
            _internal(f"{type(error).__name__}: {error}")

    return wrapper


def _explain(error: OpenKPUError, *, as_json: bool) -> NoReturn:
    from openkpu.report.console import Printer, print_json

    if as_json:
        print_json({"error": error.as_dict()}, sys.stderr)
    else:
        from openkpu.report import errors

        errors.show(error, Printer(sys.stderr))
    raise typer.Exit(1)


def _internal(what: str) -> NoReturn:
    one_line = " ".join(what.split())[:400]
    print(f"internal error: {one_line}; please report it (KPU_DEBUG=1 shows where)", file=sys.stderr)
    raise typer.Exit(1)


def _quiet_pipe() -> NoReturn:
    """The reader of the pipe has gone: that is its right. Nothing more may be written, at exit neither."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(1)
