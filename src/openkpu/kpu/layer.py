"""A KPU layer with its parameters: registers, weights, batch norm, activation table.

Layouts in a file (all little-endian), the same in V3, V4 and V5: weights ``[oc][ic][ky][kx]`` (depthwise
``[c][ky][kx]``), batch norm one u64 a channel ``mul s24 | add s32 << 24 | shift u4 << 56``, activation table 16 x u64
``shift u8 | y_mul s16 << 8 | x_start s36 << 24`` and then 16 result biases u8.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from openkpu.k210 import (
    ACT_MUL_BITS,
    ACT_START_BITS,
    ACTIVATION_SEGMENTS,
    BN_ADD_BITS,
    BN_MUL_BITS,
    BN_SHIFT_MAX,
)
from openkpu.kpu.registers import LayerRegisters

ACTIVATION_BYTES = ACTIVATION_SEGMENTS * 9


def _signed(raw: NDArray[np.uint64], low: int, width: int) -> NDArray[np.int64]:
    """Extract a signed bit field from an array of u64."""
    return (raw << np.uint64(64 - low - width)).astype(np.int64) >> np.int64(64 - width)


def _limits(bits: int) -> tuple[int, int]:
    """Return the least and the greatest number of a signed field."""
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


@dataclass(frozen=True, slots=True, eq=False)
class BatchNorm:
    """``y = (x * mul >> shift) + add`` for each output channel; all arrays int64 (oc,)."""

    mul: NDArray[np.int64]
    add: NDArray[np.int64]
    shift: NDArray[np.int64]
    unused: NDArray[np.uint64] | None = None
    """Bits 60..63 as found in a file (garbage in some V5 files); kept so that re-writing is exact."""

    @classmethod
    def decode(cls, raw: NDArray[np.uint64]) -> BatchNorm:
        """Read u64 words (oc,)."""
        top = raw & np.uint64(0xF << 60)
        shift = (raw >> np.uint64(56) & np.uint64(0xF)).astype(np.int64)
        return cls(_signed(raw, 0, 24), _signed(raw, 24, 32), shift, top if top.any() else None)

    def encode(self) -> NDArray[np.uint64]:
        """Write u64 words (oc,); ``ValueError`` when a value does not fit its field."""
        for name, a, low, high in (
            ("norm_mul", self.mul, *_limits(BN_MUL_BITS)),
            ("norm_add", self.add, *_limits(BN_ADD_BITS)),
            ("norm_shift", self.shift, 0, BN_SHIFT_MAX),
        ):
            if a.size and (a.min() < low or a.max() > high):
                raise ValueError(f"{name} {a.min()}..{a.max()} is outside {low}..{high}")
        word = (self.mul & 0xFFFFFF) | (self.add & 0xFFFFFFFF) << 24 | self.shift << 56
        raw = word.astype(np.uint64)
        return raw if self.unused is None else raw | self.unused


@dataclass(frozen=True, slots=True, eq=False)
class ActivationTable:
    """16 linear segments; see ``reference.activate``. All arrays int64 (16,)."""

    x_start: NDArray[np.int64]
    y_mul: NDArray[np.int64]
    shift: NDArray[np.int64]
    bias: NDArray[np.int64]
    unused: NDArray[np.uint64] | None = field(default=None, kw_only=True)
    """Bits 60..63 of the words as found in a file (garbage in V4 files); kept so that re-writing is exact."""

    @classmethod
    def decode(cls, data: bytes) -> ActivationTable:
        """Read 144 bytes."""
        raw = np.frombuffer(data, "<u8", ACTIVATION_SEGMENTS).astype(np.uint64)
        bias = np.frombuffer(data, np.uint8, ACTIVATION_SEGMENTS, ACTIVATION_SEGMENTS * 8).astype(np.int64)
        top = raw & np.uint64(0xF << 60)
        shift = (raw & np.uint64(0xFF)).astype(np.int64)
        return cls(_signed(raw, 24, 36), _signed(raw, 8, 16), shift, bias, unused=top if top.any() else None)

    def encode(self) -> bytes:
        """Write 144 bytes; ``ValueError`` when a value does not fit its field."""
        for name, a, low, high in (
            ("x_start", self.x_start, *_limits(ACT_START_BITS)),
            ("y_mul", self.y_mul, *_limits(ACT_MUL_BITS)),
            ("shift", self.shift, 0, 255),
            ("result_bias", self.bias, 0, 255),
        ):
            if a.shape != (ACTIVATION_SEGMENTS,) or a.min() < low or a.max() > high:
                raise ValueError(f"{name} {a.tolist()} is outside {low}..{high}")
        word = (self.shift | (self.y_mul & 0xFFFF) << 8 | (self.x_start & ((1 << 36) - 1)) << 24).astype(np.uint64)
        if self.unused is not None:
            word |= self.unused
        return word.astype("<u8").tobytes() + self.bias.astype(np.uint8).tobytes()


@dataclass(frozen=True, slots=True, eq=False)
class KpuLayer:
    """Everything the KPU needs to run one layer.

    ``weights`` is uint8 or uint16 of shape (oc, ic, k, k), for depthwise (oc, 1, k, k). The 16-bit kind is a
    whole-file mode of V3 (header flag bit 0 clear).
    """

    registers: LayerRegisters
    weights: NDArray[np.uint8] | NDArray[np.uint16]
    batch_norm: BatchNorm
    activation: ActivationTable
    cache: dict[str, object] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Room for an engine's prepacked form of this (immutable) layer."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the input."""
        r = self.registers
        return r.i_ch_num, r.i_col_high, r.i_row_wid

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the output, after pooling."""
        r = self.registers
        return r.o_ch_num, r.o_col_high, r.o_row_wid

    @property
    def kernel(self) -> int:
        """1 or 3."""
        return 3 if self.registers.kernel_type == 1 else 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates that the chip performs (pooled positions included)."""
        c, h, w = self.input_shape
        r = self.registers
        return h * w * self.kernel**2 * r.o_ch_num * (1 if r.depth_wise_layer else c)
