"""Prices in microseconds at the default clocks.

KPU: fitted to the 22 per-layer times published for the face-detection V3 model (nncase issue 77), in-sample mean error
2 %. A *word-op* is one 64-byte line of AI RAM against one kernel of one input-output channel pair; 1x1 and 3x3 kernels
cost the same. CPU: derived from nncase issues 95 to 97 (V4 runtime on the chip) and, for float matrix products, from
the 74 ms that the same network loses when its 768x1000 product moves to the CPU; rough, good enough to choose by.
"""

from __future__ import annotations

from typing import Final

from openkpu.kpu.fmap import FeatureMapLayout

DOWNLOAD_NS: Final = 21.4  # a byte, KPU -> main RAM
UPLOAD_NS: Final = 16.6  # a byte, main RAM -> AI RAM by the CPU
DEQUANTIZE_NS: Final = 7.6  # an element
QUANTIZE_NS: Final = 40.0  # an element: a float division, rounding and clamp; estimated from its siblings
POOL_TAP_NS: Final = 15.0  # an element and kernel tap; estimated
FLOAT_MAC_NS: Final = 96.0  # a multiply-accumulate of a float matrix product


def kpu_layer_us(
    c: int, h: int, w: int, oc: int, *, kernel: int, depthwise: bool, out_pixels: int, weight_bytes: int = 1
) -> float:
    """Return the time of one KPU layer; (c, h, w) is the input, ``out_pixels`` the output's h*w after pooling."""
    lay = FeatureMapLayout(c, h, w)
    word_ops = lay.lines * (1 if depthwise else oc)
    weights = kernel * kernel * (c if depthwise else c * oc) * weight_bytes
    out_words = oc * out_pixels / 8
    return 6.6 + 0.00272 * word_ops + 0.00266 * weights + 0.00304 * out_words + 0.0073 * oc


def cpu_pool_us(elements_in: int, elements_out: int, taps: int) -> float:
    """Return the time to bring a map to main RAM, pool it there and bring it back."""
    return (elements_in * DOWNLOAD_NS + elements_out * (taps * POOL_TAP_NS + UPLOAD_NS)) / 1000


def cpu_fully_connected_us(inputs: int, outputs: int) -> float:
    """Return the time of a float matrix-vector product."""
    return inputs * outputs * FLOAT_MAC_NS / 1000


def kpu_fully_connected_us(inputs: int, outputs: int) -> float:
    """Return the time of a matrix-vector product as 1x1 convolution on a 4x4 map, with its CPU work."""
    kpu = kpu_layer_us(inputs, 4, 4, outputs, kernel=1, depthwise=False, out_pixels=16)
    return kpu + (inputs * (QUANTIZE_NS + UPLOAD_NS) + outputs * (16 * DOWNLOAD_NS + DEQUANTIZE_NS)) / 1000
