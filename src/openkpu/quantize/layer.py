"""Make a KPU layer (without its addresses) from float weights and the quantisation of its input and output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import UnsupportedError
from openkpu.graph.elementwise import Expr, is_homogeneous
from openkpu.graph.ir import Node
from openkpu.k210 import ACCUMULATOR_BITS, BN_ADD_BITS, BN_MUL_BITS, BN_SHIFT_MAX
from openkpu.kpu.layer import BatchNorm, KpuLayer
from openkpu.lower.layer_registers import shape_registers
from openkpu.quantize import weights
from openkpu.quantize.activation_table import Met, TableFit, build
from openkpu.quantize.native import loops
from openkpu.quantize.nodes import RELU, saturates
from openkpu.quantize.params import QParams

MOST_MUL, MOST_ADD = 1 << (BN_MUL_BITS - 1), 1 << (BN_ADD_BITS - 1)
Sums = tuple[NDArray[np.int64], NDArray[np.int64]]
UNIT_BITS = 16
LEAST_UNIT_BITS = 6
"""Batch-norm units per output count: 2**16. The activation then needs a shift of 30 for slope 1, within the 31 used."""
GAIN_BITS = 13
"""Bits that batch norm's factor keeps where weights of 16 bits would make it small."""


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """What a layer shall compute: ``pool(fn(conv(x, w) + b))``.

    w is (oc, ic or 1, k, k); shape is the input's (c, h, w).
    """

    shape: tuple[int, int, int]
    w: NDArray[Any]
    b: NDArray[Any]
    fn: Expr | None
    pool: str
    depthwise: bool
    name: str


@dataclass(frozen=True, slots=True)
class QuantizedLayer:
    """A layer ready to be placed, and what its numbers guarantee."""

    layer: KpuLayer
    fit: TableFit
    conv_bits: int
    """Signed bits that the convolution result can need for any input (at most 36)."""
    bn_bits: int
    """The same after batch norm."""


def layer_spec(node: Node, params: dict[int, QParams]) -> tuple[LayerSpec, QParams]:
    """Return what a KpuConv shall compute, and the quantisation of the part of its input that it reads."""
    qin, qout = params[id(node.inputs[0])], params[id(node.output)]
    w, b = np.asarray(node.inputs[1].data), np.asarray(node.inputs[2].data)
    vector = node.attrs["vector"]
    if vector:
        taken = slice(node.attrs["offset"], node.attrs["offset"] + w.shape[1])
        qin = QParams(qin.scale[taken], qin.zero_point, qin.offset[taken])
    shape = (w.shape[1], 4, 4) if vector else node.inputs[0].shape[1:]
    fn = node.attrs["fn"]
    if fn is not None and qout.zero_point == 0 and saturates(fn) and not is_homogeneous(fn):
        limit = fn.args[1].value
        if not qout.is_uniform or 255 * qout.scale[0] <= limit * (1 + 1e-6):
            fn = RELU  # the top of the uint8 range is below the upper limit, or at it
    name = node.source[-1] if node.source else node.output.name
    spec = LayerSpec((shape[0], shape[1], shape[2]), w, b, fn, node.attrs["pool"], node.attrs["depthwise"], name)
    return spec, qin


def effective_weights(spec: LayerSpec, qin: QParams) -> NDArray[np.float64]:
    """Return the weights with the input's scale of each channel taken in: float64 (oc, ic or 1, k, k)."""
    by_channel = qin.scale.reshape((-1, 1, 1, 1) if spec.depthwise else (1, -1, 1, 1))
    return np.asarray(spec.w * by_channel, np.float64)


def effective_bias(spec: LayerSpec, qin: QParams) -> NDArray[np.float64]:
    """Return the bias with the input's offset taken in (as inside the picture): float64 (oc,)."""
    w = np.asarray(spec.w, np.float64)
    taps = w.sum((2, 3))
    extra = taps[:, 0] * qin.offset if spec.depthwise else taps @ qin.offset
    return np.asarray(np.asarray(spec.b, np.float64) + extra)


def make_layer(
    spec: LayerSpec,
    qin: QParams,
    qout: QParams,
    *,
    met: Met,
    wq: NDArray[np.int16] | None = None,
    ws: NDArray[np.float64] | None = None,
    sums: Sums | None = None,
    bias: NDArray[np.float64] | None = None,
    weight_zero: int | None = None,
    weight_bits: int = 8,
    measured: bool = True,
) -> QuantizedLayer:
    """Quantise one layer.

    ``met`` are the real pre-activation values of calibration (with channels scaled as the output is). ``wq`` and ``ws``
    replace the rounding of the weights, ``bias`` the float bias (corrections); ``wq + weight_zero`` (by default the
    middle) must lie in the range of ``weight_bits``, 8 or 16. ``sums``: those of the positive and of the negative
    weights of each row, where they are known. Not ``measured``: how well the table fits stays open.
    Raises ``UnsupportedError`` E230 when the numbers cannot fit the chip's fields.
    """
    if wq is None or ws is None:
        we = effective_weights(spec, qin)
        ws = weights.scales(we.reshape(len(we), -1)) if weight_bits == 8 else fine_scales(we, qin, qout)
        wq = weights.quantize(we, ws, weight_bits)
    if weight_zero is None:
        weight_zero = weights.zero_point(weight_bits)
    weight_bytes = weight_bits // 8
    real_bias = effective_bias(spec, qin) if bias is None else bias
    # real pre-activation = ws * alu + bias; output counts = that / qout.scale; units = counts * 2**bits
    reference = float(qout.scale.max())
    zx = qin.zero_point
    sums = sums or signed_sums(wq)
    for bits in range(UNIT_BITS, LEAST_UNIT_BITS - 1, -1):
        bn, sizes = batch_norm(ws, qout.scale, real_bias, sums, 2.0**bits, zx)
        conv_bits, bn_bits = _bits(sizes.sum), _bits(sizes.normed)
        if sizes.add < MOST_ADD and sizes.gain < MOST_MUL and max(conv_bits, bn_bits) <= ACCUMULATOR_BITS:
            break
    else:
        raise UnsupportedError(
            "E230",
            "a layer's numbers span too many orders of magnitude",
            where=f"layer '{spec.name}'",
            why=f"for an output step of {qout.scale.min():.3g} batch norm needs {bn_bits} bits, limit "
            f"{ACCUMULATOR_BITS}; the largest bias is {np.abs(real_bias).max():.3g}",
            fix="check the model's weights and the calibration pictures",
        )
    fit = build(spec.fn, reference, qout.zero_point, 2.0**bits / reference, met, measured=measured)
    registers = shape_registers(
        spec.shape, wq.shape, spec.pool, depthwise=spec.depthwise, weight_bytes=weight_bytes, outside=zx,
        weight_zero=weight_zero,
    )  # fmt: skip
    layer = KpuLayer(
        registers,
        (wq.astype(np.int32) + weight_zero).astype(f"u{weight_bytes}"),
        bn,
        fit.table,
    )
    return QuantizedLayer(layer, fit, conv_bits, bn_bits)


def fine_scales(we: NDArray[np.float64], qin: QParams, qout: QParams) -> NDArray[np.float64]:
    """Return the scales of effective weights (oc, ...) for 16 bits.

    The finer the weights, the smaller the factor that batch norm multiplies by, and its rounding counts too: it keeps
    ``GAIN_BITS``. The convolution result stays within the accumulator for any input.
    """
    flat = we.reshape(len(we), -1)
    least_gain = 2.0 ** (GAIN_BITS - BN_SHIFT_MAX - UNIT_BITS)
    furthest = max(255 - qin.zero_point, qin.zero_point)
    widest = np.abs(flat).sum(1) * furthest / 2.0 ** (ACCUMULATOR_BITS - 2)
    return weights.fine_scales(flat, np.maximum(least_gain * qout.scale, widest))


class Sizes(NamedTuple):
    """The largest magnitudes of a layer's numbers: what is stored, and what any input can give."""

    gain: float
    add: float
    sum: int
    normed: int


def batch_norm(
    weight_scale: NDArray[np.float64],
    out_scale: NDArray[np.float64],
    bias: NDArray[np.float64],
    sums: Sums,
    units: float,
    zero_point: int,
) -> tuple[BatchNorm, Sizes]:
    """Return batch norm for ``units`` of 1.0 after it: ``mul / 2**shift`` closest to the factor, mul below 2**23.

    All arrays are (oc,); ``sums`` those of the positive and of the negative weights. Sizes tell whether all fits.
    """
    native = loops()
    if native is not None:
        out = np.empty((3, len(bias)), np.int64)
        sizes = native.batch_norm(
            weight_scale, out_scale, bias, *sums, units, zero_point, BN_MUL_BITS, BN_SHIFT_MAX, out
        )
        return BatchNorm(out[0], out[2], out[1]), Sizes(*sizes)
    gain, add = weight_scale / out_scale * units, np.rint(bias / out_scale * units)
    low_gain = np.minimum(gain, float(MOST_MUL))
    fraction, exponent = np.frexp(np.maximum(low_gain, 1e-30))
    shift = np.clip(BN_MUL_BITS - 2 - exponent + (fraction == 0.5), 0, BN_SHIFT_MAX)
    mul = np.rint(low_gain * 2.0**shift)
    over = mul >= MOST_MUL
    shift = np.where(over, shift - 1, shift)
    mul = np.where(over, np.rint(low_gain * 2.0**shift), mul).astype(np.int64)
    up, down = sums
    ends = np.stack([up * (255 - zero_point) - down * zero_point, down * (255 - zero_point) - up * zero_point])
    largest = float(np.abs(add).max())
    whole = np.clip(add, -9e15, 9e15).astype(np.int64)
    normed = np.abs((ends * mul >> shift) + whole)
    sizes = Sizes(float(gain.max()), largest, int(np.abs(ends).max()), int(normed.max()))
    return BatchNorm(mul, whole, shift.astype(np.int64)), sizes


def signed_sums(wq: NDArray[Any]) -> Sums:
    """Return the sums of the positive and of the negative weights of each row: they bound what any input can give."""
    flat = wq.reshape(len(wq), -1).astype(np.int64)
    return np.maximum(flat, 0).sum(1), np.minimum(flat, 0).sum(1)


def _bits(magnitude: int) -> int:
    """Return the bits of a signed field that holds numbers up to this size."""
    return 1 + magnitude.bit_length()
