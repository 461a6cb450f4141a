"""Runs of a program in every way there is, to compare."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel.program import Program
from openkpu.runtime.session import Session

FILL = 0x37
Array = NDArray[Any]


def pictures(program: Program, seed: int, count: int) -> list[Array]:
    """Random bytes for a program with one input."""
    shape = program.inputs[0].shape
    return list(np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8))


def expected(program: Program, *arrays: Array) -> list[Array]:
    """What the specification gives."""
    return Session(program, engine="reference", fill=FILL).run(*arrays)


def assert_equal(found: list[Array], wanted: list[Array]) -> None:
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def assert_same(program: Program, *runs: tuple[Array, ...]) -> None:
    """One session, unwatched, watched and unwatched again with each of the inputs in turn, gives what it should."""
    session = Session(program, fill=FILL)
    wanted = [expected(program, *arrays) for arrays in runs]
    for arrays, want in zip(runs, wanted, strict=True):
        for trace in (None, lambda *_: None, None):
            assert_equal(session.run(*arrays, trace=trace), want)
    for arrays, want in zip(runs[::-1], wanted[::-1], strict=True):
        assert_equal(session.run(*arrays), want)
