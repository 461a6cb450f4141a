"""Prices for the lowering: microseconds on the V3 runtime at the default clocks, from ``kpu`` and ``cpu``.

The lowering asks when a layer can run in several ways, and ``kpu check`` adds the answers up.
"""

from __future__ import annotations

from typing import Final

from openkpu.estimate.cpu import V3
from openkpu.estimate.kpu import Work, layer_time
from openkpu.k210 import CPU_HZ, KPU_HZ

DOWNLOAD_NS: Final = V3.download.ns  # a byte, KPU -> main RAM
UPLOAD_NS: Final = V3.upload_bytes.ns  # a byte, main RAM -> AI RAM by the CPU, rows of any width
DEQUANTIZE_NS: Final = V3.dequantize.ns  # an element
QUANTIZE_NS: Final = V3.quantize.ns  # an element
RESIZE_NS: Final = V3.resize.ns  # an output element of a nearest-neighbour resize
POOL_OUTPUT_NS: Final = V3.pool_output.ns  # an output element of a pooling
POOL_TAP_NS: Final = V3.pool_tap.ns  # and each of its taps
AVERAGE_NS: Final = V3.average.ns  # an element of an average over a whole map
REORDER_NS: Final = V3.transpose.ns  # an element, CHW to HWC
COPY_NS: Final = V3.copy.ns  # a byte
SOFTMAX_NS: Final = V3.exp.ns  # an element
FLOAT_MAC_NS: Final = V3.mac.ns  # a multiply-accumulate of a float matrix product
_MHZ: Final = 1_000_000


def kpu_layer_us(c: int, h: int, w: int, oc: int, *, kernel: int, depthwise: bool) -> float:
    """Return the time of one KPU layer; (c, h, w) is the input. Pooling is free."""
    work = Work(c, h, w, oc, kernel, depthwise)
    return layer_time(work, kpu_mhz=KPU_HZ / _MHZ, cpu_mhz=CPU_HZ / _MHZ).time.us


def upload_ns(width: int | None) -> float:
    """Return the time to bring a byte of a map of this width (None: any) to AI RAM."""
    return V3.upload_words.ns if width is not None and width % 8 == 0 else UPLOAD_NS


def cpu_pool_us(elements_in: int, elements_out: int, taps: int, *, width: int | None = None) -> float:
    """Return the time to bring a map to main RAM, pool it there and bring it back; ``width`` is the result's."""
    pool = POOL_OUTPUT_NS + taps * POOL_TAP_NS
    return (elements_in * DOWNLOAD_NS + elements_out * (pool + upload_ns(width))) / 1000


def cpu_fully_connected_us(inputs: int, outputs: int) -> float:
    """Return the time of a float matrix-vector product."""
    return inputs * outputs * FLOAT_MAC_NS / 1000


def kpu_fully_connected_us(inputs: int, outputs: int) -> float:
    """Return the time of a matrix-vector product as 1x1 convolution on a 4x4 map, with its CPU work."""
    kpu = kpu_layer_us(inputs, 4, 4, outputs, kernel=1, depthwise=False)
    there = inputs * (QUANTIZE_NS + V3.pad.ns)
    back = outputs * (16 * DOWNLOAD_NS + V3.slice.ns + DEQUANTIZE_NS)
    return kpu + (there + back) / 1000
