"""What the CPU's work costs, a runtime at a time: nanoseconds a unit at 400 MHz.

The runtimes of kmodel V3, V4 and V5 are different programs, and their operators differ by up to a factor of ten. A
``Rate`` says how far it can be trusted. *measured*: a log has this operator with a known number of elements. *derived*:
a log or source code fixes it together with measured rates. *inferred*: no device figure exists; it comes from reading
the runtime's loop, or from the time of the same code on a PC times what operators known on both cost more on the chip
(45; Pad 57, Dequantize 42, addition 26). AI RAM and weights are not cached: a load from there takes about 34 cycles, a
store about 26, whatever its width. The chip has no unit for double precision, in which the ``expf`` of its C library
computes: about 2 us.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from openkpu.estimate.bar import Estimate

REFERENCE_MHZ: Final = 400


@dataclass(frozen=True, slots=True)
class Rate:
    """Nanoseconds a unit at a CPU clock of 400 MHz, true within a factor."""

    ns: float
    factor: float
    basis: str
    """measured, derived or inferred."""
    source: str

    def time(self, units: float, cpu_mhz: float) -> Estimate:
        """The time of so many units."""
        return Estimate.factor(units * self.ns / 1000 * REFERENCE_MHZ / cpu_mhz, self.factor)


def _measured(ns: float, share: float, source: str) -> Rate:
    return Rate(ns, 1 + share, "measured", source)


def _derived(ns: float, factor: float, source: str) -> Rate:
    return Rate(ns, factor, "derived", source)


def _inferred(ns: float, factor: float, source: str) -> Rate:
    return Rate(ns, factor, "inferred", source)


@dataclass(frozen=True, slots=True)
class Runtime:
    """The rates of one runtime; the unit is named with each."""

    step: Rate
    """A step: the runtime's loop around the operator."""
    input_dma: Rate
    """A byte of a picture of a width that is a multiple of 64: DMA into AI RAM."""
    upload_lines: Rate
    """A byte from main to AI RAM where rows are multiples of 64 bytes."""
    upload_words: Rate
    """A byte from main to AI RAM where rows are multiples of 8 bytes."""
    upload_bytes: Rate
    """A byte from main to AI RAM otherwise."""
    download: Rate
    """A byte from AI to main RAM."""
    dequantize: Rate
    """An element."""
    quantize: Rate
    """An element."""
    quantized_add: Rate
    """An element, tensors of one shape."""
    quantized_broadcast: Rate
    """An element, shapes that differ."""
    binary: Rate
    """An element, float tensors of one shape."""
    broadcast: Rate
    """An element, float tensors whose shapes differ."""
    unary: Rate
    """An element, a simple function."""
    exp: Rate
    """An element, exp, log, sin and their like; softmax and sigmoid too."""
    pool_output: Rate
    """An output element of a pooling, its taps apart."""
    pool_tap: Rate
    """A tap of a pooling."""
    average: Rate
    """An input element of an average over a whole map, or of a reduction."""
    table: Rate
    """An element, a table of 256 bytes."""
    copy: Rate
    """A byte copied."""
    piece: Rate
    """A part of a concatenation, its bytes apart."""
    transpose: Rate
    """An element."""
    pad: Rate
    """An output element."""
    slice: Rate
    """An output element."""
    resize: Rate
    """An output element, nearest neighbour."""
    bilinear: Rate
    """An output element, bilinear."""
    mac: Rate
    """A multiply-accumulate of a float matrix product or convolution."""


_N: Final = "github.com/kendryte/nncase/issues/"
_SDK: Final = "read in kendryte-standalone-sdk lib/drivers/kpu.c"
_PC: Final = "the same code on a PC, times 45"

V3: Final = Runtime(
    step=_inferred(3000, 2.0, "an interrupt and a switch"),
    input_dma=_derived(1.427, 1.25, f"{_SDK}: the transfer that {_N}95 and {_N}97 time on V4"),
    upload_lines=_derived(8.3, 2.0, f"{_SDK}: eight bytes a store, at {_N}97's time of a store"),
    upload_words=_derived(8.3, 2.0, f"{_SDK}: eight bytes a store, at {_N}97's time of a store"),
    upload_bytes=_derived(66.3, 1.3, f"{_SDK}: a byte a store, at {_N}97's time of a store"),
    download=Rate(
        15.8, 2.3, "derived", f"{_N}77: layer 22 takes 142 us more than the KPU needs, for 9000 bytes by DMA"
    ),
    dequantize=_measured(44.9, 0.15, f"{_N}77: 0.404 ms for 9000 elements"),
    quantize=_inferred(90, 2.0, f"{_SDK}: roundf and a clamp an element"),
    quantized_add=_inferred(190, 1.6, f"{_SDK}: the V4 runtime's ({_N}97), with 64-bit numbers"),
    quantized_broadcast=_inferred(190, 1.6, "V3 has no broadcasting"),
    binary=_inferred(35, 1.7, f"{_SDK}: two loads, an addition, a store"),
    broadcast=_inferred(35, 1.7, "V3 has no broadcasting"),
    unary=_inferred(50, 2.0, _SDK),
    exp=_inferred(2100, 2.0, "expf in software double precision"),
    pool_output=_inferred(120, 2.0, _SDK),
    pool_tap=_inferred(35, 2.0, f"{_SDK}: a load, an address and a comparison"),
    average=_inferred(25, 1.7, f"{_SDK}: a load and an addition that waits for the last"),
    table=_inferred(20, 1.8, _SDK),
    copy=_inferred(12, 2.0, "memcpy of a C library built for size: a byte at a time"),
    piece=_inferred(300, 2.0, f"{_SDK}: place and size of each part are loaded from the file, then a call"),
    transpose=_inferred(60, 2.0, f"{_SDK}: TensorFlow's flatten"),
    pad=_inferred(70, 2.0, f"{_SDK}: a byte to AI RAM each 16"),
    slice=_inferred(35, 2.0, _SDK),
    resize=_inferred(150, 2.0, f"{_SDK}: floorf an element"),
    bilinear=_inferred(500, 2.0, "V3 has no bilinear resize"),
    mac=_derived(92, 1.5, f"{_SDK}: the weights are not cached, 34 cycles a load; the V4 runtime's is the same"),
)
"""The runtime of kmodel V3, in MaixPy and the standalone SDK."""

V4: Final = replace(
    V3,
    step=_inferred(5000, 2.0, "the interpreter's loop"),
    input_dma=_measured(1.427, 0.03, f"{_N}95, {_N}97: 0.329 ms for 230400 bytes"),
    upload_lines=_derived(66.3, 1.5, "read: memmove; a byte at a time in this C library"),
    upload_words=_measured(66.3, 0.10, f"{_N}97: 20.367 ms for 307200 bytes"),
    upload_bytes=_measured(66.3, 0.10, f"{_N}97: 20.367 ms for 307200 bytes"),
    download=_measured(85.7, 0.05, f"{_N}95, {_N}96, {_N}97: 26.3 ms for 307200 bytes, 6.59 ms for 76800"),
    dequantize=_measured(30.5, 0.05, f"{_N}95, {_N}96: 9.357 ms for 307200 elements, 2.341 ms for 76800"),
    quantize=_inferred(40, 1.7, "two conversions interleaved by hand, like Dequantize, and a clamp"),
    quantized_add=_measured(199, 0.12, f"{_N}97: 58.699 ms for 307200 elements, 15.974 ms for 76800"),
    quantized_broadcast=_inferred(400, 1.8, _PC),
    binary=_inferred(60, 1.8, "read: a clamp after each"),
    broadcast=_inferred(350, 2.0, "its index arithmetic is the quantised one's"),
    pool_output=_inferred(160, 2.0, "read: window bounds an element"),
    pool_tap=_inferred(45, 2.0, "read: two multiplications an address"),
    average=_inferred(150, 1.6, _PC),
    transpose=_inferred(165, 1.6, _PC),
    pad=_measured(134, 0.15, f"{_N}99: 5 to 6 ms for 40960 elements"),
    slice=_inferred(40, 2.0, "read: a load and a store an element"),
    mac=_derived(92, 1.5, "bbs.sipeed.com topic 1790: 74 ms more for 768000 multiplications"),
)
"""The runtime of kmodel V4 (nncase 0.2), in MaixPy builds with V4 and the standalone SDK."""

_INDEX: Final = "read: an index vector built for every element"
V5: Final = replace(
    V4,
    input_dma=_derived(1.427, 1.25, "read: the transfer of the V4 runtime"),
    upload_lines=_derived(1.427, 1.3, "read: DMA where rows are multiples of 64, as for the input"),
    upload_words=_derived(66.3, 1.25, "read: the loop of the V4 runtime"),
    upload_bytes=_derived(66.3, 1.25, "read: the loop of the V4 runtime"),
    download=_derived(85.7, 1.25, "read: the loop of the V4 runtime"),
    dequantize=_derived(30.5, 1.3, "read: the loop of the V4 runtime"),
    quantized_add=_inferred(1500, 2.0, "V5 has no quantised arithmetic on the CPU"),
    quantized_broadcast=_inferred(1500, 2.0, "V5 has no quantised arithmetic on the CPU"),
    binary=_derived(
        1360, 1.5, f"{_N}428: mean and std of 215040 values take the 600 ms; a fast loop for vector units only"
    ),
    broadcast=_derived(1360, 1.5, f"{_N}428: mean and std of 215040 values take the 600 ms"),
    unary=_inferred(900, 2.0, _INDEX),
    exp=_inferred(3000, 2.0, f"{_INDEX}, and expf in software double precision"),
    pool_output=_inferred(250, 2.2, "read: window bounds an element"),
    pool_tap=_inferred(70, 2.2, "read: an address from four strides"),
    average=_inferred(1000, 2.0, _INDEX),
    table=_inferred(900, 2.0, _INDEX),
    transpose=_inferred(1000, 2.0, f"{_INDEX}; {_N}595's authors name it for one second"),
    pad=_inferred(900, 2.0, _INDEX),
    slice=_derived(350, 2.5, f"{_N}415: what the other operators leave of 1200 ms"),
    resize=_inferred(200, 2.5, "read: rows of a table of indices"),
    bilinear=_inferred(600, 2.5, "read: four loads and eight float operations"),
    copy=_inferred(20, 2.5, "read: a memcpy a row"),
)
"""The runtime of kmodel V5 (nncase 1.x). No operator of it was ever logged alone."""

RUNTIMES: Final = {3: V3, 4: V4, 5: V5}
"""By the version of the kmodel."""
