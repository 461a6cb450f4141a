"""Shards on a Dask cluster that is already there. The workers need OpenKPU, but no access to the pictures' folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from openkpu.errors import InputError, OpenKPUError, SetupError
from openkpu.evaluation.job import Answer, Job, Shard, run_shard
from openkpu.extras import require

CONNECT_SECONDS: Final = 10
RETRIES: Final = 3
"""Times that a shard runs again where it failed; one whose worker died is given to another by Dask itself."""


def run(job: Job, shards: Sequence[Shard], address: str) -> Iterator[list[Answer]]:
    """Yield the answers of every shard, in no particular order; ``address`` is the scheduler's (tcp://host:8786).

    ``SetupError`` E552 when the scheduler does not answer, has no workers, or loses a shard for good.
    """
    distributed = require("distributed", "cluster")
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        raise _failed(address, f"no connection: {error}") from error
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise _failed(address, "the cluster has no workers")
        yield from _drive(distributed, client, job, list(reversed(shards)), 4 * threads, address)


def _drive(distributed: Any, client: Any, job: Job, pending: list[Shard], window: int, address: str) -> Iterator[Any]:
    shared = client.scatter(job, broadcast=True, hash=False)

    def submit() -> Any:
        return client.submit(run_shard, shared, _with_bytes(pending.pop()), pure=False, retries=RETRIES)

    flying = distributed.as_completed([submit() for _ in range(min(window, len(pending)))])
    for future in flying:
        try:
            answers = future.result()
        except OpenKPUError:
            raise
        except Exception as error:  # whatever happened on the other computer
            raise _failed(address, f"{type(error).__name__}: {error}") from error
        future.release()
        if pending:
            flying.add(submit())
        yield answers


def _with_bytes(shard: Shard) -> Shard:
    """Put the files' bytes in the place of their paths."""
    try:
        return replace(shard, pictures=tuple(Path(p).read_bytes() if isinstance(p, str) else p for p in shard.pictures))
    except OSError as error:
        raise InputError(
            "E453", "a picture cannot be read", where=str(error.filename), why=str(error), fix="check the folder"
        ) from error


def _failed(address: str, why: str) -> SetupError:
    return SetupError(
        "E552",
        "the cluster cannot do this",
        where=address,
        why=why,
        fix="check the scheduler's address, and that its workers have the same OpenKPU installed",
    )
