"""Progress of long work: a bar on stderr while it is a terminal, nothing otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``."""


@contextmanager
def bars(*, quiet: bool = False, in_bytes: bool = False) -> Iterator[Progress]:
    """Yield a function that moves the bar of a stage; the bars vanish at the end. ``total`` 0: nobody knows it."""
    if quiet or not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    from openkpu.report.words import size

    def amount(done: int, total: int) -> str:
        if in_bytes:
            return f"{size(done)} of {size(total)}" if total else ""
        return f"{done}/{total or '?'}"

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}", style="progress.download"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as shown:
        tasks = {"import": shown.add_task("reading", total=None, amount="")}

        def move(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                for name in [n for n, t in tasks.items() if shown.tasks[shown.task_ids.index(t)].total is None]:
                    shown.remove_task(tasks.pop(name))  # "reading", and whatever had no end to show
                tasks[stage] = shown.add_task(stage, total=total or None, amount="")
            shown.update(tasks[stage], completed=done, total=total or None, amount=amount(done, total))

        yield move
