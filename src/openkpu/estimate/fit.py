"""Fit the model of the KPU to the measurements, and cross-validate it.

The parameters are positive and enter nearly linearly; what counts is the relative error, so the fit is least squares of
log(estimate / measured) over the logarithms of the parameters (Gauss-Newton). Each measured shape counts as often as it
was measured. Cross-validation leaves out a whole shape, with all its repetitions, so that no layer is predicted from a
twin of itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import astuple, dataclass
from typing import Final

import numpy as np

from openkpu.estimate.kpu import Parameters, layer_time
from openkpu.estimate.measurements import LAYERS, LayerMeasurement

START: Final = Parameters(1.0, 3.0, 5.0, 1.0, 15.0, 2.0, 2500.0, 1000.0)
"""Where the fit starts: the round numbers that the parameters mean."""
ROUNDS: Final = 60
STEP: Final = 1e-5
ENOUGH: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Residual:
    """One measurement and what the model says; ``held_out`` by a fit that had not seen this shape."""

    measurement: LayerMeasurement
    fitted_us: float
    held_out_us: float

    @property
    def fitted(self) -> float:
        """Relative error in-sample."""
        return self.fitted_us / self.measurement.us - 1

    @property
    def held_out(self) -> float:
        """Relative error of the held-out estimate."""
        return self.held_out_us / self.measurement.us - 1


def predict(m: LayerMeasurement, parameters: Parameters) -> float:
    """Return the model's microseconds for a measurement."""
    interpreted = m.runtime == "V4"
    t = layer_time(m.work, kpu_mhz=m.kpu_mhz, cpu_mhz=m.cpu_mhz, interpreted=interpreted, parameters=parameters)
    return t.time.us


def fit(measurements: Sequence[LayerMeasurement] = LAYERS, start: Parameters = START) -> Parameters:
    """Return the parameters of the least squared logarithmic error."""
    x = np.log(np.array(astuple(start)))

    def errors(at: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        p = Parameters(*np.exp(at).tolist())
        return np.array([math.log(predict(m, p) / m.us) for m in measurements])

    for _ in range(ROUNDS):
        now = errors(x)
        slopes = np.stack([(errors(x + STEP * axis) - now) / STEP for axis in np.eye(len(x))], axis=1)
        # the tiny ridge keeps a parameter where it is when no measurement left tells about it
        move = np.linalg.solve(slopes.T @ slopes + 1e-7 * np.eye(len(x)), -slopes.T @ now)
        x = x + np.clip(move, -0.5, 0.5)
        if np.abs(move).max() < ENOUGH:
            break
    return Parameters(*np.exp(x).tolist())


def by_shape(m: LayerMeasurement) -> Hashable:
    """What is left out together: one shape with all its repetitions."""
    return m.runtime, m.work


def by_source(m: LayerMeasurement) -> Hashable:
    """What is left out together: everything that one person measured on one runtime."""
    return m.runtime


def cross_validate(
    measurements: Sequence[LayerMeasurement] = LAYERS, group: Callable[[LayerMeasurement], Hashable] = by_shape
) -> list[Residual]:
    """Predict every measurement with parameters fitted to all measurements outside its group."""
    whole = fit(measurements)
    held_out: dict[Hashable, Parameters] = {}
    found = []
    for m in measurements:
        key = group(m)
        if key not in held_out:
            held_out[key] = fit([other for other in measurements if group(other) != key], whole)
        found.append(Residual(m, predict(m, whole), predict(m, held_out[key])))
    return found


def summary(residuals: Sequence[Residual]) -> tuple[float, float]:
    """Return the median and the largest held-out error (absolute, relative), each shape once."""
    shapes: dict[Hashable, list[float]] = {}
    for r in residuals:
        shapes.setdefault(by_shape(r.measurement), []).append(abs(r.held_out))
    return float(np.median([sum(e) / len(e) for e in shapes.values()])), max(abs(r.held_out) for r in residuals)
