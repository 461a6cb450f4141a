"""conv3: a 3x3 convolution of the planes on the KPU itself. Source: MaixPy-v1 ``conv.c``, ``sipeed_conv.c``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.kpu.layer import ActivationTable
from openkpu.kpu.reference import activate, convolve
from openkpu.kpu.registers import LayerRegisters
from openkpu.maixpy.image.arguments import Arguments, get_float, get_items
from openkpu.maixpy.image.core import RGB565, ImageCore
from openkpu.maixpy.image.pixels import words_truncated

_f = np.float32
_LOWEST = -(1 << 35)


class Conv3(ImageCore):
    """The method conv3."""

    __slots__ = ()

    def conv3(self, *args: Any, **kw: Any) -> None:
        """Convolve planes and pixels with nine numbers, ``conv3(kern)``: zeros outside, results cut to 0..255."""
        a = Arguments(args, kw, 1)
        self._need_mutable()
        kernel = [_f(get_float(v)) for v in get_items(a.get(0, "kern"), 9)]
        if self._ai is None:
            self._host.print("pix_ai or pixels is NULL!\n")
            return
        if self._format != RGB565 or self._ai.ndim != 3:
            raise RuntimeError("openkpu board: conv3() of an image that is not RGB565 overruns its memory on the board")
        if self._h > 255:
            raise RuntimeError("openkpu board: conv3() of an image higher than 255 is not simulated")
        self._ai[...] = convolve_planes(self._ai, kernel)
        self._pixels[...] = words_truncated(*self._ai)
        self._history.calls.clear()


def convolve_planes(planes: NDArray[np.uint8], kernel: list[Any]) -> NDArray[np.uint8]:
    """Run the layer that the firmware sets up: weights in 16 bits, a table that only scales; uint8 (3, h, w)."""
    weights = np.zeros((3, 3, 3, 3), _f)
    for c in range(3):
        weights[c, c] = np.array(kernel, _f).reshape(3, 3)
    low = weights.min()
    spread = weights.max() - low
    if not spread:
        raise RuntimeError("openkpu board: conv3() with a kernel of zeros divides by zero on the board")
    scale = _f(65535) / spread
    words = ((weights - low) * scale).astype(np.uint16)
    offset, shift_x = scale * abs(low), 0
    while offset < 0x400000 and offset != 0:
        offset *= _f(2)
        shift_x += 1
    registers = LayerRegisters(kernel_type=1, arg_x=-int(offset) if low < 0 else int(offset), shr_x=shift_x & 15)
    scale, shift = _f(1) / scale, 0
    while scale <= _f(16383):
        scale *= _f(2)
        shift += 1
    n = 16
    table = ActivationTable(
        x_start=np.array([_LOWEST] + [0] * (n - 1), np.int64),
        y_mul=np.array([0] + [int(scale)] * (n - 1), np.int64),
        shift=np.array([0] + [shift] * (n - 1), np.int64),
        bias=np.zeros(n, np.int64),
    )
    return activate(table, convolve(registers, planes, words))
