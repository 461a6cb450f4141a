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
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    amount = DownloadColumn(binary_units=True) if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description:<10}"), BarColumn(), amount, TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as shown:
        tasks = {"import": shown.add_task("reading", total=None)}

        def move(stage: str, done: int, total: int) -> None:
            if "import" in tasks:
                shown.remove_task(tasks.pop("import"))
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=total or None)
            shown.update(tasks[stage], completed=done, total=total or None)

        yield move
