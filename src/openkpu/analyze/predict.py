"""Run a kmodel on pictures and arrays, and read the results: ranked classes or statistics of each output."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import InputError, SetupError

if TYPE_CHECKING:
    from openkpu.api import Model
    from openkpu.kmodel.program import Step
    from openkpu.runtime.checks import Finding
    from openkpu.runtime.memories import Engine


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model made of one input. ``seconds`` is the time of the simulation on this computer."""

    name: str
    outputs: tuple[NDArray[Any], ...]
    seconds: float
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One class: its index, its name (the index where there are no labels), the output's value, its share of all."""

    index: int
    label: str
    value: float
    share: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best classes of a vector. ``kind``: "probabilities" (the shares) or "scores" (their softmax is the share)."""

    kind: str
    entries: tuple[Entry, ...]


def predict(
    model: Model,
    sources: Sequence[Any],
    *,
    engine: Engine = "native",
    threads: int = 1,
    check: bool = False,
    trace: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Prediction]:
    """Run ``model`` on every picture or array of ``sources`` (as ``compile`` takes them); return the results in order.

    ``trace``: a folder that gets the result of every step of every input as .npy. Errors: E4xx for what cannot be an
    input, E510 for a missing file, E511 when the folder cannot be written.
    """
    from openkpu.float.data import load_samples

    samples = [s for source in sources for s in load_samples(source, model.inputs[0].shape)]
    if not samples:
        raise InputError(
            "E432",
            "there is no input to run on",
            where=", ".join(str(s) for s in sources),
            fix="give a picture, an .npy or .npz file, or a folder of pictures",
        )
    results = []
    for i, sample in enumerate(samples, 1):
        folder = None if trace is None else _folder(trace, f"{i:03d}_{Path(sample.name).stem}")
        begin = time.perf_counter()
        outputs = model.run(
            sample.array, engine=engine, threads=threads, check=check, trace=None if folder is None else _Writer(folder)
        )
        seconds = time.perf_counter() - begin
        results.append(Prediction(sample.name, tuple(outputs), seconds, tuple(model.findings) if check else ()))
        if progress is not None:
            progress("run", i, len(samples))
    return results


class _Writer:
    """A trace function that writes every step's result as NNN_STEP.npy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, index: int, step: Step, array: NDArray[Any]) -> None:
        path = self.folder / f"{index:03d}_{type(step).__name__}.npy"
        try:
            np.save(path, array)
        except OSError as error:
            raise _unwritable(path, error) from error


def _folder(trace: Path, name: str) -> Path:
    folder = trace / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def _unwritable(path: Path, error: OSError) -> SetupError:
    return SetupError(
        "E511",
        f"{path} cannot be written",
        where=str(path),
        why=str(error),
        fix="Check the folder and its permissions.",
    )


def save(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write an .npz: ``names`` (n,) and ``output0``, ``output1`` ... (n, ...). E511 when it cannot be written."""
    arrays = {
        f"output{i}": np.stack(group) for i, group in enumerate(zip(*(p.outputs for p in predictions), strict=True))
    }
    try:
        with path.open("wb") as file:
            np.savez(file, names=np.array([p.name for p in predictions]), **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise _unwritable(path, error) from error


def is_vector(array: NDArray[Any]) -> bool:
    """Whether an output is one value a class: one axis of more than 1."""
    return [d > 1 for d in array.shape].count(True) == 1


def fitting(labels: Sequence[str] | None, results: Sequence[Prediction]) -> Sequence[str] | None:
    """Return ``labels`` if some output is a vector of as many values, else None."""
    if labels is not None and any(is_vector(a) and a.size == len(labels) for a in results[0].outputs):
        return labels
    return None


def readings(
    results: Sequence[Prediction], labels: Sequence[str] | None = None, top: int = 5, *, origin: str = "labels"
) -> list[list[Ranking | None]]:
    """Rank every output that is a vector; None stands for the others. One list for each result.

    ``labels`` name the outputs that have as many values; ``InputError`` E434 when there is none, which
    names ``origin``, where they came from.
    """
    if labels is not None and fitting(labels, results) is None:
        sizes = [a.size for a in results[0].outputs if is_vector(a)]
        raise InputError(
            "E434",
            f"{len(labels)} labels do not fit the outputs",
            where=origin,
            why=f"outputs with one value a class: {sizes} values" if sizes else "no output has one value a class",
            fix="give the labels of this model",
        )

    def read(array: NDArray[Any]) -> Ranking | None:
        fits = labels is not None and len(labels) == array.size
        return rank(array, labels if fits else None, top) if is_vector(array) else None

    return [[read(a) for a in p.outputs] for p in results]


@np.errstate(invalid="ignore")
def rank(array: NDArray[Any], labels: Sequence[str] | None = None, top: int = 5) -> Ranking:
    """Return the ``top`` largest values of a vector, largest first. ``labels`` are as many."""
    values = array.ravel().astype(np.float64)
    if array.dtype == np.uint8:
        values /= 255
    probabilities = bool((values >= 0).all() and abs(values.sum() - 1) < 0.02)
    if probabilities:
        shares = values
    else:
        shares = np.exp(values - values.max())
        shares /= shares.sum()
    best = np.argsort(-values, kind="stable")[:top]
    entries = tuple(
        Entry(int(i), labels[i] if labels is not None else str(i), float(values[i]), float(shares[i])) for i in best
    )
    return Ranking("probabilities" if probabilities else "scores", entries)
