"""Random KPU layers with their AI RAM, harmless to hostile. Structure comes from hypothesis, bulk data from a seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from openkpu.k210 import AI_LINES, AI_RAM_BYTES
from openkpu.kpu import reference
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.kpu.layer import ActivationTable, BatchNorm, KpuLayer
from openkpu.kpu.registers import LayerRegisters

WIDTHS = st.one_of(st.integers(1, 16), st.integers(17, 32), st.integers(33, 140))
ARGS = st.sampled_from(["exact", "exact", "wide", "random", "extreme"])
NORMS = st.sampled_from(["fitting", "fitting", "fitting", "random", "extreme"])
TABLES = st.sampled_from(["relu", "linear", "leaky", "curve", "curve", "negative", "duplicates", "unsorted", "extreme"])


def identity_table() -> ActivationTable:
    """y = clamp(bn): the last segment starts at 0 with slope 1, the others give 0."""
    start = np.full(16, -(1 << 35), np.int64)
    start[15] = 0
    mul = np.zeros(16, np.int64)
    mul[15] = 1
    return ActivationTable(start, mul, np.zeros(16, np.int64), np.zeros(16, np.int64))


def registers(
    ic: int,
    h: int,
    w: int,
    oc: int,
    *,
    oh: int | None = None,
    ow: int | None = None,
    src: int = 0,
    dst: int = 16384,
    **more: int,
) -> LayerRegisters:
    """Registers with the natural layout of both maps."""
    kind = reference.POOL_KINDS[reference.Pool(more.get("pool_type", 0))]
    oh = max(1, h // kind.stride) if oh is None else oh
    ow = max(1, w // kind.stride) if ow is None else ow
    i, o = FeatureMapLayout(ic, h, w), FeatureMapLayout(oc, oh, ow)
    return LayerRegisters(
        image_src_addr=src,
        image_dst_addr=dst,
        i_ch_num=ic,
        o_ch_num=oc,
        i_row_wid=w,
        i_col_high=h,
        o_row_wid=ow,
        o_col_high=oh,
        channel_switch_addr=i.channel_lines,
        row_switch_addr=i.row_lines,
        coef_group=i.group,
        wb_channel_switch_addr=o.channel_lines,
        wb_row_switch_addr=o.row_lines,
        wb_group=o.group,
        **more,
    )


@st.composite
def cases(draw: st.DrawFn, *, max_channels: int = 24) -> tuple[KpuLayer, NDArray[np.uint8]]:
    """A layer and an AI RAM full of random bytes for it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    depthwise, kernel = draw(st.booleans()), draw(st.sampled_from([1, 3]))
    pool = reference.Pool(draw(st.integers(0, 9)))
    w, h = draw(WIDTHS), draw(st.integers(1, 40))
    ic = draw(st.integers(1, max_channels))
    oc = ic if depthwise else draw(st.integers(1, max_channels))
    stride = reference.POOL_KINDS[pool].stride
    odd = draw(st.booleans()) and draw(st.booleans())
    oh, ow = (max(1, n // stride + (int(rng.integers(-2, 3)) if odd else 0)) for n in (h, w))
    r = registers(
        ic,
        h,
        w,
        oc,
        oh=oh,
        ow=ow,
        pool_type=pool.value,
        kernel_type=kernel // 2,
        depth_wise_layer=int(depthwise),
        pad_value=int(rng.integers(0, 256)),
    )
    i_lines, o_lines = FeatureMapLayout(ic, h, w).lines, FeatureMapLayout(oc, oh, ow).lines
    src = draw(st.sampled_from([0, AI_LINES - i_lines, int(rng.integers(0, AI_LINES - i_lines))]))
    dst = draw(
        st.sampled_from(
            [src if src + o_lines <= AI_LINES else 0, AI_LINES - o_lines, int(rng.integers(0, AI_LINES - o_lines))]
        )
    )
    weights = _weights(rng, (oc, 1 if depthwise else ic, kernel, kernel), sixteen=draw(st.integers(0, 4)) == 0)
    r = replace(r, image_src_addr=src, image_dst_addr=dst, **_args(rng, draw(ARGS), weights))
    ai_ram = rng.integers(0, 256, AI_RAM_BYTES, np.uint8)
    alu = reference.convolve(r, reference.read_input(r, ai_ram), weights)
    norm = _norm(rng, draw(NORMS), alu)
    bn = reference.batch_normalize(norm, alu)
    return KpuLayer(r, weights, norm, _table(rng, draw(TABLES), bn)), ai_ram


def _weights(
    rng: np.random.Generator, shape: tuple[int, ...], *, sixteen: bool
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    if sixteen:
        return rng.integers(0, int(rng.choice([200, 65536])), shape).astype(np.uint16)
    kind = rng.integers(0, 3)
    if kind == 0:
        return rng.integers(0, 256, shape, np.uint8)
    if kind == 1:
        return rng.choice(np.array([0, 255], np.uint8), shape)
    return np.clip(rng.normal(128, 30, shape), 0, 255).astype(np.uint8)


def _args(rng: np.random.Generator, kind: str, weights: NDArray[np.uint8] | NDArray[np.uint16]) -> dict[str, int]:
    shr_x, shr_w = int(rng.choice([0, 3, 15])), int(rng.choice([0, 7, 15]))
    n = weights.shape[1]
    zx, zw = int(rng.integers(0, 256)), int(rng.integers(0, 256))
    if kind == "exact":
        zw = int(rng.choice([128, 127, zw]))
        return {
            "arg_x": -zw << shr_x,
            "shr_x": shr_x,
            "arg_w": -zx << shr_w,
            "shr_w": shr_w,
            "arg_add": zx * zw * weights[0, 0].size,
        }
    if kind == "wide":
        return {
            "arg_x": int(rng.integers(-3000, 3000)),
            "arg_w": int(rng.integers(-3000, 3000)),
            "arg_add": int(rng.integers(-(10**6), 10**6)) // n,
        }
    if kind == "random":
        return {
            "arg_x": int(rng.integers(-1 << 23, 1 << 23)),
            "shr_x": int(rng.integers(0, 16)),
            "arg_w": int(rng.integers(-1 << 23, 1 << 23)),
            "shr_w": int(rng.integers(0, 16)),
            "arg_add": int(rng.integers(-1 << 39, 1 << 39)) >> int(rng.integers(0, 39)),
        }
    low, high = -(1 << 23), (1 << 23) - 1
    return {
        "arg_x": int(rng.choice([low, high])),
        "shr_x": int(rng.choice([0, 1, 15])),
        "arg_w": int(rng.choice([low, high])),
        "shr_w": int(rng.choice([0, 15])),
        "arg_add": int(rng.choice([-(1 << 39), (1 << 39) - 1])),
    }


def _norm(rng: np.random.Generator, kind: str, alu: NDArray[np.int64]) -> BatchNorm:
    oc = alu.shape[0]
    if kind == "extreme":
        return BatchNorm(
            rng.choice([-(1 << 23), (1 << 23) - 1], oc),
            rng.choice([-(1 << 31), (1 << 31) - 1], oc),
            rng.choice([0, 15], oc),
        )
    if kind == "random":
        return BatchNorm(
            rng.integers(-1 << 23, 1 << 23, oc), rng.integers(-1 << 31, 1 << 31, oc), rng.integers(0, 16, oc)
        )
    # bn spans a few times 2**18 around 0 in every channel, in both directions
    flat = alu.reshape(oc, -1)
    center, spread = flat.mean(axis=1), np.maximum(flat.std(axis=1), 1.0)
    shift = rng.integers(0, 16, oc)
    mul = 2.0**18 / spread * 2.0**shift * rng.choice([1, -1, 1], oc)
    mul = np.clip(mul, -(1 << 23), (1 << 23) - 2).astype(np.int64) + rng.integers(0, 2, oc)
    add = np.clip(-center * mul / 2.0**shift, -(1 << 31), (1 << 31) - 1).astype(np.int64)
    return BatchNorm(mul, add, shift.astype(np.int64))


def _table(rng: np.random.Generator, kind: str, bn: NDArray[np.int64]) -> ActivationTable:
    low, high = int(max(bn.min(), -(1 << 35))), int(min(bn.max(), (1 << 35) - 1))
    if low >= high:
        low, high = -1000, 1000
    span = high - low
    # A slope y_mul / 2**shift that maps the span to about 256 steps.
    shift = int(np.clip(7 + np.log2(span), 0, 40))
    slope = int(np.clip(256 * 2.0**shift / span * rng.uniform(0.3, 3), 1, 32767))
    start, mul, bias = np.zeros(16, np.int64), np.zeros(16, np.int64), np.zeros(16, np.int64)
    shifts = np.full(16, shift, np.int64)
    if kind in ("relu", "linear"):
        at = int(rng.integers(low, high)) if kind == "relu" else -(1 << 35)
        if kind == "linear":
            slope, bias[10] = max(1, slope >> 3), 0
        start[:] = np.r_[np.full(10, -(1 << 35)) + np.arange(10), at, (1 << 35) - 16 + np.arange(5)]
        mul[10] = slope
        if kind == "relu":
            bias[:11] = rng.integers(0, 256)
    elif kind == "leaky":
        start[:] = np.r_[-(1 << 35), np.full(14, low), (low + high) // 2]
        mul[1:15], mul[15], bias[15] = slope // 10, slope, slope // 10 * (span // 2) >> shift & 255
    else:
        start[:] = rng.integers(low - span // 16, high, 16)
        mul[:] = rng.integers(0, slope * 4, 16)
        bias[:] = rng.integers(0, 256, 16)
        if kind != "unsorted":
            start.sort()
        if kind == "curve":
            start[0] = -(1 << 35)
        if kind in ("negative", "unsorted"):
            mul *= rng.choice([1, -1], 16)
            shifts = np.clip(shifts + rng.integers(-3, 3, 16), 0, 255)
        if kind == "duplicates":
            start[:] = np.repeat(start[::4], 4)
        if kind == "extreme":
            start[:] = rng.choice([-(1 << 35), (1 << 35) - 1, low, high, 0], 16)
            mul[:] = rng.choice([-(1 << 15), (1 << 15) - 1, 0, 1, -1], 16)
            shifts = rng.choice([0, 1, 31, 32, 62, 63, 64, 255], 16)
    clip = np.clip(start, -(1 << 35), (1 << 35) - 1), np.clip(mul, -(1 << 15), (1 << 15) - 1)
    return ActivationTable(*clip, shifts.astype(np.int64), bias)
