"""``convert``: an existing kmodel for another version, checked to give the same outputs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.api import Model
from openkpu.codegen.retarget import retarget
from openkpu.errors import UnsupportedError
from openkpu.lower.target import TARGETS, target

NOISE_RUNS: Final = 2
TOLERANCE: Final = 1e-5
"""Of float outputs, relative to the largest: sums in another order differ by that much."""


@dataclass(slots=True)
class Converted:
    """The converted kmodel and how its outputs differ from the original's on noise."""

    model: Model
    source_version: int
    largest_difference: float
    """Of any output value, relative to the largest value of that output."""
    differing: int
    """Output values that are not bit for bit the same."""
    values: int
    """Output values that were compared."""

    @property
    def is_same(self) -> bool:
        """Whether the outputs are equal: uint8 exactly, float up to the order of sums."""
        return self.largest_difference <= TOLERANCE

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the kmodel (to a temporary name, then rename)."""
        self.model.save(path)


def convert(model: Model, target: str) -> Converted:
    """Write a kmodel for another version, ``target`` "v3", "v4" or "v5".

    Every value keeps its place, KPU layers stay as they are, CPU operators are replaced by those of the other runtime.
    Both are then run on noise and compared. ``UnsupportedError`` E222 names the step that has no counterpart, E223 says
    that the outputs would differ.
    """
    version = _version(target)
    program = model.program
    if program.version != version:
        program = retarget(program, version)
    result = Model(program)
    again = Model(_reread(result))
    largest, differing, values = _compare(model, again)
    converted = Converted(again, model.version, largest, differing, values)
    if not converted.is_same:
        raise UnsupportedError(
            "E223",
            f"written as {target.upper()}, this kmodel would give other outputs",
            where="comparison on noise",
            why=f"an output differs by {largest:.3g} of its largest value, limit {TOLERANCE:g}; "
            f"{differing} of {values} values differ",
            fix="compile the source model for that version",
        )
    return converted


def _version(name: str) -> int:
    return target(name).version


def _reread(model: Model) -> Any:
    from openkpu.api import load

    return load(model.to_bytes()).program


def _compare(a: Model, b: Model) -> tuple[float, int, int]:
    rng = np.random.default_rng(0)
    largest, differing, values = 0.0, 0, 0
    for _ in range(NOISE_RUNS):
        inputs: list[NDArray[Any]] = []
        for o in a.inputs:
            if o.dtype.numpy == np.uint8:
                inputs.append(rng.integers(0, 256, o.shape).astype(np.uint8))
            else:
                inputs.append(rng.normal(size=o.shape).astype(o.dtype.numpy))
        left = a.run(*inputs)
        right = b.run(*[x.reshape(o.shape) for x, o in zip(inputs, b.inputs, strict=True)])
        for x, y in zip(left, right, strict=True):
            x64, y64 = x.reshape(-1).astype(np.float64), y.reshape(-1).astype(np.float64)
            scale = 1.0 if x.dtype == np.uint8 else max(float(np.abs(x64).max()), 1e-30)
            both = ~(np.isnan(x64) & np.isnan(y64))
            gap = np.abs(x64 - y64)[both] / scale
            largest = max(largest, float(np.nan_to_num(gap, nan=np.inf).max(initial=0.0)))
            differing += int((x.reshape(-1) != y.reshape(-1))[both].sum())
            values += x.size
    return largest, differing, values


VERSIONS: Final = tuple(TARGETS)
