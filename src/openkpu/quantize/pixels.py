"""What the pixels of a picture mean to a model: mean, standard deviation, range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import InputError
from openkpu.graph.ir import Graph
from openkpu.k210 import DOCUMENTED_HEIGHT, DOCUMENTED_WIDTH
from openkpu.quantize import given
from openkpu.quantize.params import QParams


def pixels(
    graph: Graph,
    mean: Sequence[float] | float | None,
    std: Sequence[float] | float | None,
    input_range: tuple[float, float] | None,
) -> QParams | None:
    """Return what pixels mean to a model: as the caller says, else as its file says, else 0..1; None: no picture."""
    shape = graph.inputs[0].shape
    if len(shape) != 4:
        return None
    own = given.input_params(graph) if mean is None and std is None and input_range is None else None
    return own or input_params(shape, mean, std, input_range)


def input_params(
    shape: tuple[int, ...],
    mean: Sequence[float] | float | None,
    std: Sequence[float] | float | None,
    input_range: tuple[float, float] | None,
) -> QParams:
    """Return what a pixel value of the uint8 picture means to the float model.

    The pixels go into the KPU as they are; mean and std become part of the first layer's numbers. Pixels outside the
    picture stand for the model's 0.0, that is the mean: the nearest whole number for all channels.
    """
    channels = shape[1]
    if input_range is not None:
        if mean is not None or std is not None:
            raise InputError(
                "E412",
                "input_range together with mean or std",
                why="both say how pixels are scaled",
                fix="give one of them",
            )
        low, high = input_range
        if not (np.isfinite([low, high]).all() and high > low):
            raise InputError(
                "E412", f"input_range {low}..{high}", why="it must be finite and rising", fix="e.g. (0, 1)"
            )
        std = 255.0 / (high - low)
        mean = -low * std
    elif mean is None and std is None:
        mean, std = 0.0, 255.0
    m = _per_channel("mean", 0.0 if mean is None else mean, channels)
    s = _per_channel("std", 1.0 if std is None else std, channels)
    if (s <= 0).any():
        raise InputError("E412", f"std {s.tolist()}", why="every std must be above 0", fix="check the preprocessing")
    zero_point = int(np.clip(np.rint(m.mean()), 0, 255))
    scale = 1 / s
    return QParams(scale, zero_point, scale * (zero_point - m))


def _per_channel(name: str, value: Sequence[float] | float, channels: int) -> NDArray[np.float64]:
    a = np.atleast_1d(np.asarray(value, np.float64))
    if a.size not in (1, channels) or not np.isfinite(a).all():
        raise InputError(
            "E412",
            f"{name} {a.tolist()}",
            why=f"the model has {channels} input channel(s)",
            fix=f"give one finite number, or {channels}",
        )
    return np.broadcast_to(a, channels).astype(np.float64)


def input_warnings(
    shape: tuple[int, ...], mean: Sequence[float] | float | None, std: Sequence[float] | float | None
) -> list[str]:
    """Say what looks wrong about the input."""
    found = []
    if mean is not None and std is not None:
        m, s = np.atleast_1d(np.asarray(mean, np.float64)), np.atleast_1d(np.asarray(std, np.float64))
        if (s < 1).all() and (m > 0).all() and (m < 1).all():
            found.append(
                f"mean {m.tolist()} and std {s.tolist()} are taken in pixel values 0..255; for a model that divides "
                f"pixels by 255 first, give {np.round(m * 255, 3).tolist()} and {np.round(s * 255, 3).tolist()}"
            )
    if len(shape) == 4 and (shape[3] > DOCUMENTED_WIDTH or shape[2] > DOCUMENTED_HEIGHT):
        found.append(
            f"the picture of {shape[3]}x{shape[2]} is larger than the {DOCUMENTED_WIDTH}x{DOCUMENTED_HEIGHT} that the "
            "chip's documents promise; the vendor's compilers use the KPU for it all the same"
        )
    return found
