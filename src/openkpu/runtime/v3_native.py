"""V3's commonest CPU steps by the native kernels, with their arrays bound once a session: the bytes of ``v3_steps``."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.kmodel import program as p
from openkpu.kmodel.operators import ReduceOp
from openkpu.runtime.memories import Memories, get
from openkpu.runtime.v5_native import feature_maps, kernels, overlapping, transfer


def operators(m: Memories, step: p.Step) -> list[Any] | None:
    """Return the native operators that run the step on these memories; None where the NumPy operator has to."""
    native = kernels()
    make = _MAKERS.get(type(step))
    return None if native is None or make is None or overlapping(step) else make(native, m, step)


def _channelwise(native: ModuleType, m: Memories, s: p.ChannelwiseDequantize) -> list[Any]:
    x, out = get(m, s.input), get(m, s.output)
    rows = x.shape[0], -1
    return [native.dequantize_channels(x.reshape(rows), _floats(s.scale), _floats(s.bias), out.reshape(rows))]


def _floats(a: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.require(a, np.float32, ("C", "A"))


def _quantize(native: ModuleType, m: Memories, s: p.Quantize) -> list[Any]:
    factor = np.float32(1) / np.float32(s.scale)
    x, out = get(m, s.input), get(m, s.output)
    return [native.quantize_away(x.reshape(-1), out.reshape(-1), float(np.float32(s.bias)), float(factor))]


def _average(native: ModuleType, m: Memories, s: p.GlobalAveragePool) -> list[Any]:
    x = get(m, s.input)
    rows = x.reshape(x.shape[0], -1)
    mean = ReduceOp.MEAN.value
    # From -0, so that the sum of one number is that number.
    return [native.reduce(mean, rows, 1, get(m, s.output).reshape(-1), -0.0, True, float(rows.shape[1]))]


def _add_padding(native: ModuleType, m: Memories, s: p.KpuAddPadding) -> list[Any]:
    values = get(m, s.input).reshape(-1)
    return [
        native.copy(values[which].reshape(view.shape[:2]), view[:, :, 0, 0])
        for view, which in feature_maps(m, s.output)
    ]


def _remove_padding(native: ModuleType, m: Memories, s: p.KpuRemovePadding) -> list[Any]:
    return [native.copy(get(m, s.input)[:, 0, 0], get(m, s.output).reshape(-1))]


_MAKERS: Final[dict[type[p.Step], Callable[[ModuleType, Memories, Any], list[Any]]]] = {
    p.KpuUpload: transfer,
    p.KpuAddPadding: _add_padding,
    p.KpuRemovePadding: _remove_padding,
    p.ChannelwiseDequantize: _channelwise,
    p.GlobalAveragePool: _average,
    p.Quantize: _quantize,
}
