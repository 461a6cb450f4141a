"""Runs KPU layers fast: the native kernels where they are built, else the reference.

``run_layer`` changes AI RAM exactly as ``reference.run_layer`` does, byte for byte, whatever the registers hold.
"""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from dataclasses import replace
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import InputError, SetupError
from openkpu.k210 import AI_LINE_BYTES
from openkpu.kpu import fmap, reference
from openkpu.kpu.checks import check_ai_ram, check_layer, check_out
from openkpu.kpu.layer import KpuLayer
from openkpu.kpu.limits import MAX_THREADS
from openkpu.kpu.monitor import Monitor

REFERENCE: Final = "reference"
"""Name of the NumPy reference where an instruction set is named."""


@functools.cache
def available() -> tuple[str, ...]:
    """Instruction sets that this machine can run, best first; "reference" is always the last."""
    native = _native()
    return (*(native.isas() if native is not None else ()), REFERENCE)


@functools.cache
def default_isa() -> str:
    """The environment variable OPENKPU_ISA (read once), or the best instruction set here. E540 when it cannot run."""
    return _checked_isa(os.environ.get("OPENKPU_ISA") or available()[0])


def run_layer(
    layer: KpuLayer,
    ai_ram: NDArray[np.uint8],
    *,
    threads: int = 1,
    monitor: Monitor | None = None,
    out: NDArray[np.uint8] | None = None,
    isa: str | None = None,
) -> NDArray[np.uint8] | None:
    """Run one layer on ``ai_ram`` (uint8, 2 MiB, changed in place); return ``out``.

    ``out``, uint8 (oc, oh, ow), also takes the dense output (what the chip sends to main memory). ``isa`` is one of
    ``available()``. With a ``monitor`` the reference runs, which is the one that counts. The GIL is released while the
    kernels run; two calls must not share one AI RAM. Raises as the reference does, and E540 for an unknown ``isa``.
    """
    if isa is None:
        isa = default_isa()
    if monitor is None and 1 <= threads <= MAX_THREADS and (packed := layer.cache.get(isa)) is not None:
        try:
            packed.run(ai_ram, threads, out)  # type: ignore[attr-defined]
        except (TypeError, ValueError):  # arrays of another type or shape: the checks below say which
            pass
        else:
            return out
    isa = _checked(layer, ai_ram, threads, out, isa)
    if monitor is not None or isa == REFERENCE:
        dense = reference.run_layer(layer, ai_ram, monitor=monitor)
        if out is not None:
            out[:] = dense
        return out
    layer.cache[isa] = packed = _pack(layer, isa)
    packed.run(ai_ram, threads, out)
    return out


def run_pictures(
    layer: KpuLayer, ai_ram: NDArray[np.uint8], x: NDArray[np.uint8], destination: int, *, threads: int = 1
) -> NDArray[np.uint8]:
    """Run one layer on dense pictures (N, C, H, W), one after the other; returns uint8 (N, OC, OH, OW).

    In ``ai_ram`` the input lies at line 0 and the output at line ``destination``, whatever the registers say. For
    layers that run once: nothing is kept. Raises as ``run_layer`` does.
    """
    out = np.empty((len(x), *layer.output_shape), np.uint8)
    isa = default_isa()
    if isa != REFERENCE:
        geometry = _geometry(layer) | {"src": 0, "dst": destination * AI_LINE_BYTES}
        try:
            packed = _packed(layer, isa, geometry)
            packed.run_pictures(ai_ram, threads, np.ascontiguousarray(x), out)
        except (TypeError, ValueError):  # the checks below say what does not fit
            pass
        else:
            return out
    placed = replace(layer, registers=replace(layer.registers, image_src_addr=0, image_dst_addr=destination))
    for picture, result in zip(x, out, strict=True):
        fmap.store(ai_ram, 0, picture)
        run_layer(placed, ai_ram, threads=threads, out=result)
    return out


def bound_layer(
    layer: KpuLayer, ai_ram: NDArray[np.uint8], *, threads: int = 1, out: NDArray[np.uint8] | None = None
) -> Any:
    """Return what runs a layer on these arrays as often as wanted, without checks: a native operator, or a function.

    Raises as ``run_layer`` does.
    """
    isa = _checked(layer, ai_ram, threads, out, default_isa())
    if isa == REFERENCE:
        return functools.partial(run_layer, layer, ai_ram, threads=threads, out=out, isa=isa)
    if (packed := layer.cache.get(isa)) is None:
        layer.cache[isa] = packed = _pack(layer, isa)
    return packed.bind(ai_ram, threads, out)  # type: ignore[attr-defined]


def _checked(layer: KpuLayer, ai_ram: NDArray[np.uint8], threads: int, out: NDArray[np.uint8] | None, isa: str) -> str:
    """Check the arguments of a run; return the instruction set."""
    check_ai_ram(ai_ram)
    if out is not None:
        check_out(layer, out)
    if not 1 <= threads <= MAX_THREADS:
        raise InputError(
            "E442",
            "this number of threads is not possible",
            where="argument threads",
            why=f"threads = {threads}, allowed: 1..{MAX_THREADS}",
            fix="use threads=1",
        )
    return _checked_isa(isa)


def _pack(layer: KpuLayer, isa: str) -> Any:
    """Check the layer and bring its parameters into the form that the kernels of ``isa`` read."""
    check_layer(layer)
    return _packed(layer, isa, _geometry(layer))


def _packed(layer: KpuLayer, isa: str, geometry: dict[str, int]) -> Any:
    native = _native()
    assert native is not None
    bn, act = layer.batch_norm, layer.activation
    weights = np.ascontiguousarray(layer.weights.reshape(layer.weights.shape[0], -1), np.uint16)
    bn_table = np.array([bn.mul, bn.add, bn.shift], np.int64)
    act_table = np.array([act.x_start, act.y_mul, act.shift, act.bias], np.int64)
    return native.Layer(isa, geometry, weights, bn_table, act_table)


def _geometry(layer: KpuLayer) -> dict[str, int]:
    """Return everything that the registers say, in bytes."""
    r = layer.registers
    kind = reference.POOL_KINDS[reference.Pool(r.pool_type)]
    oc, oh, ow = layer.output_shape
    ic, h, w = layer.input_shape
    return {
        "ic": ic,
        "h": h,
        "w": w,
        "oc": oc,
        "oh": oh,
        "ow": ow,
        "kernel": layer.kernel,
        "depthwise": r.depth_wise_layer,
        "pad_value": r.pad_value,
        "pool_op": ("select", "max", "mean").index(kind.op),
        "pool_size": kind.size,
        "pool_stride": kind.stride,
        "pool_column": kind.column,
        "src": r.image_src_addr * 64,
        "src_channel": r.channel_switch_addr * 64,
        "src_row": r.row_switch_addr * 64,
        "src_group": r.coef_group,
        "dst": r.image_dst_addr * 64,
        "dst_channel": r.wb_channel_switch_addr * 64,
        "dst_row": r.wb_row_switch_addr * 64,
        "dst_group": r.wb_group,
        "arg_x": r.arg_x,
        "shr_x": r.shr_x,
        "arg_w": r.arg_w,
        "shr_w": r.shr_w,
        "arg_add": r.arg_add,
    }


def _checked_isa(isa: str) -> str:
    if isa not in available():
        raise SetupError(
            "E540",
            f"the instruction set {isa!r} cannot be used here",
            where="argument isa or environment variable OPENKPU_ISA",
            why=f"usable here: {', '.join(available())}",
            fix="unset OPENKPU_ISA, or name another one",
        )
    return isa


@functools.cache
def _native() -> ModuleType | None:
    """The extension module, or None (with one warning) when it is not built."""
    try:
        return importlib.import_module("openkpu._native")
    except ImportError as e:
        warnings.warn(
            f"openkpu._native cannot be imported ({e}); KPU layers run on the NumPy reference, which is much "
            "slower. Build it with `make native` or install the openkpu wheel.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
