"""What quantisation works towards: a way to choose the numbers, and the numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.quantize.layer import QuantizedLayer
from openkpu.quantize.nodes import Reading
from openkpu.quantize.params import QParams
from openkpu.quantize.rounding import DAMPING, Correlation

if TYPE_CHECKING:
    from openkpu.quantize.search import Searched

GIVEN: Final = "given"
"""The method of a model that brings its quantisation along."""
CLIPPING_HANDICAP_DB: Final = 3.0
"""By how much a method that clips must be better than min-max. Pictures held back from calibration often resemble the
others (frames of one video), so they flatter tight ranges; on foreign pictures min-max was best or close to it."""
SPREAD_HANDICAP_DB: Final = 0.5
FULL_HANDICAP_SNR_DB: Final = 20.0
"""Under this SNR the handicaps shrink in proportion: where noise rules, small differences are real."""


def handicap(full_db: float, snr_db: float) -> float:
    """Return by how many dB a way must be better than one that reaches ``snr_db``."""
    return full_db * min(max(snr_db / FULL_HANDICAP_SNR_DB, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to choose the numbers.

    The range method, and how far channels are scaled apart (0 not, 1 fully).
    """

    method: str
    spread: float
    damping: float = DAMPING
    """Of the error feedback in rounding weights; infinite: each weight is rounded for itself."""

    def __str__(self) -> str:
        if self.method == GIVEN:
            return "the model's own (it came quantised)"
        text = f"{self.method}, channel spread {self.spread:g}"
        if self.damping != DAMPING:
            text += ", plain rounding" if self.damping == float("inf") else f", rounding damped by {self.damping:g}"
        return text


@dataclass(slots=True)
class Quantized:
    """The result: layers by the id of their node, parameters by the id of their tensor, and how good it is."""

    way: Way
    layers: dict[int, QuantizedLayer] = field(default_factory=dict)
    params: dict[int, QParams] = field(default_factory=dict)
    tables: dict[int, bytes] = field(default_factory=dict)
    correlations: dict[tuple[Reading, bool], Correlation] = field(default_factory=dict, repr=False)
    """Of the inputs, by what the layers read and whether they are depthwise: the parts of a split layer share them."""
    taps: dict[Reading, NDArray[np.float64]] = field(default_factory=dict, repr=False)
    """Means of the inputs at each tap (C, k, k), alike."""
    weight_bits: int = 8
    compensated: bool = False
    """Whether rounding errors of the weights were made to cancel (``rounding.compensated``)."""
    outputs: list[NDArray[Any]] = field(default_factory=list)
    snr_db: float = float("-inf")
    tried: dict[Way, float] = field(default_factory=dict)
    """The SNR of every way tried, on pictures held back from it."""
    searched: Searched | None = None
    gain_db: float | None = None
    """With 16-bit weights: by how much the SNR is above that with 8-bit weights."""
