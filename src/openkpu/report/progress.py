"""Progress of long work: a bar on stderr while it is a terminal, nothing otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``."""


@contextmanager
def bars(*, quiet: bool = False) -> Iterator[Progress]:
    """Yield a function that moves the bar of a stage; the bars vanish at the end."""
    if quiet or not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as shown:
        tasks = {"import": shown.add_task("reading", total=None)}

        def move(stage: str, done: int, total: int) -> None:
            if "import" in tasks:
                shown.remove_task(tasks.pop("import"))
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=total)
            shown.update(tasks[stage], completed=done, total=total)

        yield move
