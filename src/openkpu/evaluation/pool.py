"""Shards on the cores of this computer. A worker that dies costs nothing but its own shard, which runs again."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Final

from openkpu.errors import SetupError
from openkpu.evaluation.job import Answer, Job, Shard, run_shard

ATTEMPTS: Final = 4
"""How often a shard may be under way when a worker dies before the shard is taken for the cause."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(job: Job, shards: Sequence[Shard], jobs: int) -> Iterator[list[Answer]]:
    """Yield the answers of every shard, in no particular order. ``jobs`` processes; 1 runs in this one.

    ``SetupError`` E551 when workers die again and again; what a picture raises in a worker is raised here.
    """
    if jobs == 1 or len(shards) == 1:
        for shard in shards:
            yield run_shard(job, shard)
        return
    pending = list(reversed(shards))
    deaths: dict[Shard, int] = {}
    while pending:
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start, (job,)) as pool:
            flying: dict[Future[list[Answer]], Shard] = {}
            try:
                while pending or flying:
                    # few at a time: those under way are suspects when a worker dies
                    while pending and len(flying) < 2 * jobs:
                        shard = pending.pop()
                        flying[pool.submit(_run, shard)] = shard
                    done, _ = wait(flying, return_when=FIRST_COMPLETED)
                    for future in done:
                        answers = future.result()
                        del flying[future]
                        yield answers
            except BrokenProcessPool:
                for future, shard in flying.items():
                    finished = future.done() and future.exception() is None
                    if finished:
                        yield future.result()
                        continue
                    deaths[shard] = deaths.get(shard, 0) + 1
                    pending.append(shard)
                    if deaths[shard] >= ATTEMPTS:
                        raise _dying(shard) from None
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _dying(shard: Shard) -> SetupError:
    return SetupError(
        "E551",
        "worker processes die again and again",
        where=f"pictures {shard.names[0]} .. {shard.names[-1]}",
        why=f"{ATTEMPTS} workers died while these were under way: too little memory, or killed from outside",
        fix="use fewer processes (--jobs), or look at these pictures; what is done is kept with --resume",
    )


_job: Job | None = None


def _start(job: Job) -> None:
    """Keep the job in a new worker process, and leave Ctrl-C to the parent."""
    import signal

    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(shard: Shard) -> list[Answer]:
    assert _job is not None
    return run_shard(_job, shard)
