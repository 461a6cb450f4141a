"""Prices for the lowering: microseconds at the default clocks on a kmodel version's runtime, from ``kpu`` and ``cpu``.

The lowering asks when a layer can run in several ways, and ``kpu check`` adds the answers up. The passes before it do
not know the version; they ask for V3, the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

from openkpu.estimate.cpu import RUNTIMES, V3
from openkpu.estimate.devices import FLASH_BITS, FLASH_MHZ, FLASH_SHARE
from openkpu.estimate.kpu import Work, layer_time
from openkpu.estimate.steps import upload_rate
from openkpu.k210 import AI_LINE_BYTES, CPU_HZ, KPU_HZ
from openkpu.kpu.fmap import FeatureMapLayout

DOWNLOAD_NS: Final = V3.download.ns  # a byte, KPU -> main RAM
UPLOAD_NS: Final = V3.upload_bytes.ns  # a byte, main RAM -> AI RAM by the CPU, rows of any width
COPY_NS: Final = V3.copy.ns  # a byte
LAYER_BYTES: Final = 470  # of a V3 file beside weights and batch norm: registers, activation table, alignment
BATCH_NORM_BYTES: Final = 8  # an output channel
_MHZ: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Layers:
    """What some KPU layers take: microseconds, bytes of the file, and how many they are."""

    us: float = 0.0
    bytes: int = 0
    count: int = 0

    def __add__(self, other: Layers) -> Layers:
        return Layers(self.us + other.us, self.bytes + other.bytes, self.count + other.count)

    def __mul__(self, times: int) -> Layers:
        return Layers(self.us * times, self.bytes * times, self.count * times)

    def cost(self, each: float = 0.0) -> float:
        """Microseconds with those that the file takes to be streamed from flash: bytes of RAM are dear as well.

        ``each``: what a layer more is worth, in microseconds.
        """
        return self.us + self.bytes / (FLASH_MHZ * FLASH_BITS / 8 * FLASH_SHARE) + self.count * each


def kpu_layer(c: int, h: int, w: int, oc: int, *, kernel: int, depthwise: bool) -> Layers:
    """Return time and bytes of one KPU layer with 8-bit weights; (c, h, w) is the input."""
    weights = kernel**2 * oc * (1 if depthwise else c)
    us = kpu_layer_us(c, h, w, oc, kernel=kernel, depthwise=depthwise)
    return Layers(us, weights + BATCH_NORM_BYTES * oc + LAYER_BYTES, 1)


def wide_depthwise(c: int, h: int, w: int, copies: int) -> Layers:
    """A depthwise kernel over 3x3 as one dense layer over shifted copies (``lower.wide``), c channels of h x w."""
    shift = kpu_layer(c, h, w, c, kernel=3, depthwise=True)
    return shift * (copies - 1) + kpu_layer(copies * c, h, w, c, kernel=3, depthwise=False)


def wide_depthwise_in_four(c: int, h: int, w: int, copies: int, share: int = 0) -> Layers:
    """The same in four layers: copies, shift, taps, sum; first and last for ``share`` channels at a time (0: all)."""
    n, step = copies * c, share or c
    ends = Layers()
    for some in {step: c // step, c % step: 1}.items():
        if all(some):
            one = kpu_layer(some[0], h, w, copies * some[0], kernel=1, depthwise=False)
            ends += (one + kpu_layer(copies * some[0], h, w, some[0], kernel=1, depthwise=False)) * some[1]
    return ends + kpu_layer(n, h, w, n, kernel=3, depthwise=True) * 2


def kpu_layer_us(c: int, h: int, w: int, oc: int, *, kernel: int, depthwise: bool, version: int = 3) -> float:
    """Return the time of one KPU layer; (c, h, w) is the input. Pooling is free."""
    work = Work(c, h, w, oc, kernel, depthwise)
    return layer_time(work, kpu_mhz=KPU_HZ / _MHZ, cpu_mhz=CPU_HZ / _MHZ, interpreted=version > 3).time.us


def upload_ns(width: int | None, version: int = 3) -> float:
    """Return the time to bring a byte of a map of this width (None: any) to AI RAM."""
    r = RUNTIMES[version]
    at_once = upload_rate(r, 1 if width is None else width).ns
    return min(at_once, lines_ns(width)) if version == 3 and width is not None else at_once


def lines_ns(width: int) -> float:
    """Return the time for a byte of a map of this width by copies of its rows into lines (V3)."""
    lay = FeatureMapLayout(1, 1, width)
    slot = lay.row_lines * AI_LINE_BYTES // lay.group
    return (V3.piece.ns + slot * (V3.copy.ns + V3.upload_lines.ns)) / width


def cpu_pool_us(elements_in: int, elements_out: int, taps: int, *, width: int | None = None, version: int = 3) -> float:
    """Return the time to bring a map to main RAM, pool it there and bring it back; ``width`` is the result's."""
    r = RUNTIMES[version]
    pool = r.pool_output.ns + taps * r.pool_tap.ns
    if version > 3 and taps > 1:  # in float
        pool += r.quantize.ns + elements_in / max(1, elements_out) * r.dequantize.ns
    return (elements_in * r.download.ns + elements_out * (pool + upload_ns(width, version))) / 1000


def cpu_cut_us(elements_in: int, size: tuple[int, int, int], *, version: int = 3, back: bool = True) -> float:
    """Return the time to bring a map to main RAM, cut a part (c, h, w) out of it, and bring that back."""
    r, (c, h, w) = RUNTIMES[version], size
    cut = c * h * w * (r.pool_output.ns + r.pool_tap.ns) if version == 3 else c * h * w * r.slice.ns
    if version == 3:
        cut = min(cut, c * h * (w * r.copy.ns + r.piece.ns))
    return (elements_in * r.download.ns + cut + (c * h * w * upload_ns(w, version) if back else 0.0)) / 1000


def kpu_rows_us(c: int, h: int, w: int, *, version: int = 3, layer_us: float = 0.0) -> float:
    """Return the time to copy rows of a map within AI RAM: a layer for each group of channels that share lines.

    ``layer_us``: what a layer less is worth, beside its time.
    """
    group = min(c, FeatureMapLayout(c, h, w).group)
    one = kpu_layer_us(group, h, w, group, kernel=1, depthwise=group > 1, version=version)
    return -(-c // group) * (one + layer_us)


def cpu_fully_connected_us(inputs: int, outputs: int, version: int = 3) -> float:
    """Return the time of a float matrix-vector product."""
    return inputs * outputs * RUNTIMES[version].mac.ns / 1000


def kpu_fully_connected_us(inputs: int, outputs: int, version: int = 3) -> float:
    """Return the time of a matrix-vector product as 1x1 convolution on a 4x4 map, with its CPU work."""
    r = RUNTIMES[version]
    kpu = kpu_layer_us(inputs, 4, 4, outputs, kernel=1, depthwise=False, version=version)
    spread = r.pad.ns if version == 3 else 16 * (r.pad.ns + upload_ns(4, version))
    there = inputs * (r.quantize.ns + spread)
    back = outputs * (16 * r.download.ns + (r.slice if version == 3 else r.pad).ns + r.dequantize.ns)
    return kpu + (there + back) / 1000


def cpu_average_us(c: int, h: int, w: int, *, version: int = 3) -> float:
    """Return the time to average a map over height and width in float, after bringing it to main RAM."""
    r = RUNTIMES[version]
    return c * h * w * (r.download.ns + r.dequantize.ns + r.average.ns) / 1000


def kpu_average_us(c: int, h: int, w: int, blocks: tuple[int, int], *, version: int = 3) -> float:
    """Return the time if two depthwise layers average blocks of the map, of which the CPU takes one pixel each."""
    r = RUNTIMES[version]
    taken = c * blocks[0] * blocks[1]
    kpu = 2 * kpu_layer_us(c, h, w, c, kernel=3, depthwise=c > 1, version=version)
    one = r.pool_output.ns + r.pool_tap.ns if version == 3 else r.slice.ns
    cpu = c * h * w * r.download.ns + taken * (one + r.dequantize.ns + r.average.ns)
    return kpu + cpu / 1000


def shuffle_us(size: tuple[int, ...], *, version: int = 3) -> float:
    """Return the time to bring a map (c, h, w) to main RAM, reorder its bytes there, and bring it back."""
    r, n = RUNTIMES[version], prod(size)
    return n * (r.download.ns + r.transpose.ns + upload_ns(size[-1], version)) / 1000


def cpu_float_us(inputs: int, size: tuple[int, ...], macs: float, *, version: int = 3) -> float:
    """Return the time of an operator in float between KPU layers: its input there, its result (c, h, w) back."""
    r = RUNTIMES[version]
    there = inputs * (r.download.ns + r.dequantize.ns)
    back = prod(size) * (r.quantize.ns + upload_ns(size[-1], version))
    return (there + macs * r.mac.ns + back) / 1000
