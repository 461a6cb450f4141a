"""How well do uint8 channels follow float channels, when nothing says what the bytes mean?

A kmodel V3 does not hold the scale of its uint8 tensors. So for every channel the scale and offset that fit best
(least squares, over all pictures) are found here, and what remains is the error. Two numbers a channel are fitted to
thousands of pixels, so this flatters a layer hardly at all; of maps with few pixels it says little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.graph.ir import Node


@dataclass(frozen=True, slots=True)
class Likeness:
    """Signal-to-noise ratio in dB (10 log10 of sum ref^2 / sum err^2; inf where equal) and the cosine."""

    snr_db: float
    cosine: float


def likeness(signal: float, noise: float, product: float, other: float) -> Likeness:
    """Build it from sum ref^2, sum err^2, sum ref*value and sum value^2."""
    snr = math.inf if noise <= 0 else 10 * math.log10(signal / noise) if signal > 0 else -math.inf
    norm = math.sqrt(signal * other)
    return Likeness(snr, product / norm if norm > 0 else 1.0 if signal == other else 0.0)


class ChannelFit:
    """Sums over pictures; ``add`` a picture at a time, then ``result``."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._sums = np.zeros((5, channels))  # u, u^2, r, r^2, u*r

    def add(self, value: NDArray[np.uint8], reference: NDArray[Any]) -> None:
        """Add the pixels of one picture: (channels, ...) bytes of the KPU, and the float values of the same shape."""
        u = value.reshape(len(value), -1).astype(np.float64)
        r = np.asarray(reference, np.float64).reshape(u.shape)
        self._count += u.shape[1]
        self._sums += np.stack([u.sum(1), (u * u).sum(1), r.sum(1), (r * r).sum(1), (u * r).sum(1)])

    def parameters(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return scale and offset of every channel, float64 (channels,); a constant channel has scale 0."""
        n = self._count
        u, uu, r, _, ur = self._sums
        var, cov = uu - u * u / n, ur - u * r / n
        flat = var <= 1e-9 * np.maximum(uu, 1)  # a constant channel: only an offset can be fitted
        scale = np.where(flat, 0, cov / np.where(flat, 1, var))
        return scale, (r - scale * u) / n

    def result(self) -> Likeness:
        """Fit every channel and compare what the fit gives with the reference."""
        n = self._count
        u, uu, r, rr, ur = self._sums
        scale, offset = self.parameters()
        cov = ur - u * r / n
        noise = np.maximum(rr - r * r / n - scale * cov, 0)
        noise[noise < 1e-13 * rr] = 0  # below what the sums resolve
        product = scale * ur + offset * r
        other = scale**2 * uu + 2 * scale * offset * u + offset**2 * n
        return likeness(*(float(v.sum()) for v in (rr, noise, product, other)))


class Direct:
    """The same for float values, which are compared as they are."""

    def __init__(self) -> None:
        self._signal = self._noise = self._product = self._other = 0.0

    def add(self, value: NDArray[Any], reference: NDArray[Any]) -> None:
        """Add one picture's values, flattened alike."""
        v, r = (np.asarray(a, np.float64).ravel() for a in (value, reference))
        self._signal += float(r @ r)
        self._noise += float(((r - v) ** 2).sum())
        self._product += float(r @ v)
        self._other += float(v @ v)

    def result(self) -> Likeness:
        """Compare."""
        return likeness(self._signal, self._noise, self._product, self._other)


def add_result(fit: ChannelFit, node: Node, array: NDArray[Any], values: Mapping[str, NDArray[Any]]) -> None:
    """Add what a KPU layer gave for one picture, beside the float values by tensor name."""
    if node.attrs["vector"]:
        array = array[:, :1, :1]  # of the 4x4 map only the first pixel means something
    fit.add(array, values[node.output.name][0])
