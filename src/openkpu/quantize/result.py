"""What quantisation works towards: a way to choose the numbers, and the numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from numpy.typing import NDArray

from openkpu.quantize.layer import QuantizedLayer
from openkpu.quantize.params import QParams
from openkpu.quantize.rounding import Correlation

GIVEN: Final = "given"
"""The method of a model that brings its quantisation along."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to choose the numbers.

    The range method, and how far channels are scaled apart (0 not, 1 fully).
    """

    method: str
    spread: float

    def __str__(self) -> str:
        if self.method == GIVEN:
            return "the model's own (it came quantised)"
        return f"{self.method}, channel spread {self.spread:g}"


@dataclass(slots=True)
class Quantized:
    """The result: layers by the id of their node, parameters by the id of their tensor, and how good it is."""

    way: Way
    layers: dict[int, QuantizedLayer] = field(default_factory=dict)
    params: dict[int, QParams] = field(default_factory=dict)
    tables: dict[int, bytes] = field(default_factory=dict)
    correlations: dict[tuple[int, int, bool, str, int], Correlation] = field(default_factory=dict, repr=False)
    """Of the inputs, by tensor, kernel, depthwise, pooling and offset: the parts of a split layer share them."""
    compensated: bool = False
    """Whether rounding errors of the weights were made to cancel (``rounding.compensated``)."""
    outputs: list[NDArray[Any]] = field(default_factory=list)
    snr_db: float = float("-inf")
    tried: dict[Way, float] = field(default_factory=dict)
    """The SNR of every way tried, on pictures held back from it."""
