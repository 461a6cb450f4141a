"""What a model file does not say: how its input is normalised and what its classes are called.

A JSON file beside the model, ``NAME.json`` (for ``NAME.onnx`` or ``NAME.kmodel``) or ``model.json``::

    {"input": {"range": [0, 1], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "order": "RGB"},
     "labels": ["cat", "dog"]}

The network's input is ``(p - mean) / std``, where ``p`` is the pixel with 0..255 brought to ``range`` (default 0..1);
mean defaults to 0 and std to 1. ``order`` is RGB or GRAY. Other keys are ignored.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from openkpu.errors import InputError, SetupError

_MAX_BYTES: Final = 1 << 20
_LABELS_FIX: Final = "Give a text file with one class name a line, or model.json."


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The contents. ``mean`` and ``std`` are in units of pixels 0..255; None where the file has no ``input``."""

    path: str
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    labels: tuple[str, ...] | None


def find(model: str | os.PathLike[str]) -> Sidecar | None:
    """Return the sidecar of a model file, None where there is none. ``InputError`` E415 for a damaged one."""
    path = Path(model)
    for candidate in (path.with_suffix(".json"), path.with_name("model.json")):
        if candidate.is_file() and candidate != path:
            return read(candidate)
    return None


def read(path: Path) -> Sidecar:
    """Read one sidecar; E510 when it cannot be read, E415 when it does not say what it should."""
    content = _bytes(path, "Check the path and its permissions.")
    try:
        data = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        _refuse(path, f"it is not JSON: {error}")
    if not isinstance(data, dict) or not isinstance(data.get("input", {}), dict):
        _refuse(path, 'it is not an object with "input" and "labels"')
    mean, std = _normalisation(path, data.get("input"))
    return Sidecar(str(path), mean, std, _labels(path, data.get("labels")))


def read_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read class names: a sidecar or JSON list, or a text file with one name a line. Errors as ``read``."""
    where = Path(path)
    if where.suffix == ".json":
        labels = read(where).labels
        if labels is None:
            _refuse(where, 'it has no "labels"')
        return labels
    content = _bytes(where, _LABELS_FIX)
    try:
        return tuple(line.strip() for line in content.decode("utf-8").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise _unreadable(where, str(error), _LABELS_FIX) from error


def _bytes(path: Path, fix: str) -> bytes:
    """Read a small regular file. A device or a pipe has no end, or nobody at its other end: it is not opened."""
    try:
        if not path.is_file():
            why = "it is not a regular file" if path.exists() else "nothing has this name"
            raise _unreadable(path, why, fix)
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error), fix) from error
    if len(content) > _MAX_BYTES:
        raise _unreadable(path, "it is larger than 1 MiB", fix)
    return content


def _unreadable(path: Path, why: str, fix: str) -> SetupError:
    return SetupError("E510", f"the file {path} cannot be read", where=str(path), why=why, fix=fix)


def _labels(path: Path, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(v, str | int) for v in value):
        _refuse(path, '"labels" is not a list of names')
    return tuple(str(v) for v in value)


def _normalisation(path: Path, spec: Mapping[str, Any] | None) -> tuple[tuple[float, ...] | None, ...]:
    if spec is None:
        return None, None
    order = spec.get("order", "RGB")
    if order not in ("RGB", "GRAY"):
        _refuse(
            path,
            f'"order" is {order!r}; the camera and OpenKPU give RGB or GRAY',
            fix="Swap the input channels of the first layer in the model, and say RGB.",
        )
    low, high = _numbers(path, spec, "range", (0.0, 1.0))
    mean, std = _numbers(path, spec, "mean", (0.0,)), _numbers(path, spec, "std", (1.0,))
    if not high > low or min(std) <= 0:
        _refuse(path, '"range" must rise and "std" be above 0')
    unit = 255 / (high - low)
    return tuple((m - low) * unit for m in mean), tuple(s * unit for s in std)


def _numbers(path: Path, spec: Mapping[str, Any], key: str, default: tuple[float, ...]) -> tuple[float, ...]:
    value = spec.get(key, default)
    value = (value,) if isinstance(value, int | float) else value
    wrong = (
        not isinstance(value, list | tuple)
        or not value
        or (key == "range" and len(value) != 2)
        or not all(isinstance(v, int | float) and math.isfinite(v) for v in value)
    )
    if wrong:
        _refuse(path, f'"{key}" is {value!r}, not a list of numbers')
    return tuple(float(v) for v in value)


def _refuse(path: Path, why: str, fix: str = "") -> NoReturn:
    raise InputError(
        "E415",
        "the description beside the model cannot be used",
        where=str(path),
        why=why,
        fix=fix or 'Write {"input": {"mean": [...], "std": [...]}, "labels": [...]}, or give the options.',
    )
