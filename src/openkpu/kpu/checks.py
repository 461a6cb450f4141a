"""What the registers of a KPU layer must satisfy before anything runs. Shared by the reference and the engine."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import InputError, MemoryLimitError, UnsupportedError
from openkpu.k210 import AI_LINE_BYTES, AI_RAM_BYTES
from openkpu.kpu.layer import KpuLayer

MAX_POOL: Final = 9
_MUST_BE_ZERO: Final = ("ram_flag", "full_add", "pad_type", "first_stride", "bypass_conv")


def check_layer(layer: KpuLayer) -> None:
    """Raise unless the layer can run; costs a few microseconds and allocates nothing.

    ``UnsupportedError`` E240 (a register asks for what no known file uses), E241 (a register value without meaning),
    E242 (weights or parameters that do not match the registers); ``MemoryLimitError`` E340 (a feature map leaves AI
    RAM), E341 (the output's own channels or rows would overwrite each other).
    """
    r = layer.registers
    for name in _MUST_BE_ZERO:
        if value := getattr(r, name):
            raise UnsupportedError(
                "E240",
                f"register {name} is set",
                where="KPU layer",
                why=f"{name} = {value}; no known file uses it, so its meaning is not known",
                fix="check that the file is not damaged",
            )
    for name, value, high in (("kernel_type", r.kernel_type, 1), ("pool_type", r.pool_type, MAX_POOL)):
        if value > high:
            raise _bad_register(name, value, f"0..{high}")
    for name, value in (("coef_group", r.coef_group), ("wb_group", r.wb_group)):
        if value not in (1, 2, 4):
            raise _bad_register(name, value, "1, 2 or 4")
    _check_parameters(layer)
    _check_map(layer, "input", ("image_src_addr", "channel_switch_addr", "row_switch_addr", "coef_group"))
    _check_map(layer, "output", ("image_dst_addr", "wb_channel_switch_addr", "wb_row_switch_addr", "wb_group"))


def check_ai_ram(ai_ram: NDArray[np.uint8]) -> None:
    """``InputError`` E440 unless ``ai_ram`` is 2 MiB of contiguous writable uint8."""
    if (
        ai_ram.dtype != np.uint8
        or ai_ram.shape != (AI_RAM_BYTES,)
        or not (ai_ram.flags.c_contiguous and ai_ram.flags.writeable)
    ):
        raise InputError(
            "E440",
            "this is not an AI RAM",
            where="argument ai_ram",
            why=f"need contiguous writable uint8 ({AI_RAM_BYTES},), got {ai_ram.dtype} {ai_ram.shape}",
            fix="use np.zeros(k210.AI_RAM_BYTES, np.uint8)",
        )


def check_out(layer: KpuLayer, out: NDArray[np.uint8]) -> None:
    """``InputError`` E441 unless ``out`` can take the dense output (oc, oh, ow) uint8."""
    if out.dtype != np.uint8 or out.shape != layer.output_shape or not (out.flags.c_contiguous and out.flags.writeable):
        raise InputError(
            "E441",
            "the output array does not match the layer",
            where="argument out",
            why=f"need contiguous writable uint8 {layer.output_shape}, got {out.dtype} {out.shape}",
            fix="use np.empty(layer.output_shape, np.uint8)",
        )


def _bad_register(name: str, value: int, allowed: str) -> UnsupportedError:
    return UnsupportedError(
        "E241",
        f"register {name} has a value without meaning",
        where="KPU layer",
        why=f"{name} = {value}, allowed: {allowed}",
        fix="check that the file is not damaged",
    )


def _check_parameters(layer: KpuLayer) -> None:
    r = layer.registers
    depthwise = bool(r.depth_wise_layer)
    if depthwise and r.i_ch_num != r.o_ch_num:
        raise UnsupportedError(
            "E242",
            "a depthwise layer must have as many output as input channels",
            where="KPU layer",
            why=f"i_ch_num = {r.i_ch_num}, o_ch_num = {r.o_ch_num}",
            fix="split the layer, or use a dense convolution",
        )
    k = layer.kernel
    shape = (r.o_ch_num, 1 if depthwise else r.i_ch_num, k, k)
    w, bn, act = layer.weights, layer.batch_norm, layer.activation
    arrays: list[tuple[str, NDArray[np.generic], tuple[int, ...]]] = [("weights", w, shape)]
    arrays += [(f"batch norm {n}", getattr(bn, n), (r.o_ch_num,)) for n in ("mul", "add", "shift")]
    arrays += [(f"activation {n}", getattr(act, n), (16,)) for n in ("x_start", "y_mul", "shift", "bias")]
    for name, a, want in arrays:
        types = "uint8 or uint16" if name == "weights" else "int64"
        if a.shape != want or a.dtype.name not in types.split():
            raise UnsupportedError(
                "E242",
                f"{name} do not match the registers",
                where="KPU layer",
                why=f"need {types} {want}, got {a.dtype} {a.shape}",
                fix="check that the file is not damaged",
            )


def _check_map(layer: KpuLayer, kind: str, names: tuple[str, str, str, str]) -> None:
    """Bounds of a feature map addressed by the raw registers, and no overlap with itself where it is written."""
    channels, height, width = layer.input_shape if kind == "input" else layer.output_shape
    line, channel_lines, row_lines, group = (int(getattr(layer.registers, n)) for n in names)
    dims = [
        (-(-channels // group), channel_lines * AI_LINE_BYTES),
        (min(channels, group), AI_LINE_BYTES // group),
        (height, row_lines * AI_LINE_BYTES),
        (width, 1),
    ]
    last = line * AI_LINE_BYTES + sum((n - 1) * s for n, s in dims)
    what = ", ".join(f"{n} = {v}" for n, v in zip(names, (line, channel_lines, row_lines, group), strict=True))
    size = f"{channels} x {height} x {width}"
    if last >= AI_RAM_BYTES or channels * height * width > AI_RAM_BYTES:
        raise MemoryLimitError(
            "E340",
            f"the {kind} feature map does not fit AI RAM",
            where="KPU layer",
            why=f"{size} with {what} ends at byte {last}; AI RAM has {AI_RAM_BYTES}",
            fix="check the addresses, or make the feature map smaller",
        )
    reach = 0
    for count, stride in sorted(((n, s) for n, s in dims if n > 1), key=lambda d: d[1]):
        if kind == "output" and stride <= reach:
            raise MemoryLimitError(
                "E341",
                "the output feature map overwrites itself",
                where="KPU layer",
                why=f"{size} with {what}",
                fix="check the write-back registers",
            )
        reach += (count - 1) * stride
