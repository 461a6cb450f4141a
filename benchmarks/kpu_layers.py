"""Time of each KPU layer of MobileNetV1-0.75 at 224x224, with synthetic weights.

    python benchmarks/kpu_layers.py [instruction set] [threads]

The layers are those that a K210 file has: a depthwise convolution with stride 2 runs at stride 1 and the 1x1
convolution after it keeps the left-top pixel of each 2x2 window.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from openkpu.k210 import AI_RAM_BYTES
from openkpu.kpu import engine
from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.kpu.layer import ActivationTable, BatchNorm, KpuLayer
from openkpu.kpu.registers import LayerRegisters

# (kind, input channels, output channels, input size, left-top pooling)
BLOCKS = [
    (24, 48, 112, 1),
    (48, 96, 112, 2),
    (96, 96, 56, 1),
    (96, 192, 56, 2),
    (192, 192, 28, 1),
    (192, 384, 28, 2),
    *[(384, 384, 14, 1)] * 5,
    (384, 768, 14, 2),
    (768, 768, 7, 1),
]


def layers(seed: int = 0) -> list[KpuLayer]:
    """The 27 layers; each writes where the next one reads."""
    rng = np.random.default_rng(seed)
    found = [_layer(rng, 3, 24, 224, 3, 2, depthwise=False)]
    for ic, oc, size, stride in BLOCKS:
        found.append(_layer(rng, ic, ic, size, 3, 1, depthwise=True, high=len(found) % 2 == 1))
        found.append(_layer(rng, ic, oc, size, 1, stride, depthwise=False, high=len(found) % 2 == 1))
    return found


def _layer(
    rng: np.random.Generator,
    ic: int,
    oc: int,
    size: int,
    kernel: int,
    stride: int,
    *,
    depthwise: bool,
    high: bool = False,
) -> KpuLayer:
    out = size // stride
    i, o = FeatureMapLayout(ic, size, size), FeatureMapLayout(oc, out, out)
    spaces = [0, 32768 - o.lines] if not high else [32768 - i.lines, 0]
    r = LayerRegisters(
        depth_wise_layer=int(depthwise),
        kernel_type=kernel // 2,
        pool_type=5 if stride == 2 else 0,
        pad_value=0,
        image_src_addr=spaces[0],
        image_dst_addr=spaces[1],
        i_ch_num=ic,
        o_ch_num=oc,
        i_row_wid=size,
        i_col_high=size,
        o_row_wid=out,
        o_col_high=out,
        channel_switch_addr=i.channel_lines,
        row_switch_addr=i.row_lines,
        coef_group=i.group,
        wb_channel_switch_addr=o.channel_lines,
        wb_row_switch_addr=o.row_lines,
        wb_group=o.group,
        arg_x=-128 << 8,
        shr_x=8,
    )
    n = 1 if depthwise else ic
    weights = np.clip(rng.normal(128, 40, (oc, n, kernel, kernel)), 1, 255).astype(np.uint8)
    # About 3 standard deviations of the sum fill the ramp, which has 2**16 batch-norm units per output step.
    sigma = 40 * 120 * np.sqrt(n * kernel * kernel)
    mul = np.full(oc, int(2**24 / (3 * sigma) * 2**12), np.int64)
    norm = BatchNorm(mul + rng.integers(0, 50, oc), rng.integers(-(2**20), 2**20, oc), np.full(oc, 12, np.int64))
    start = np.r_[-(1 << 35) + np.arange(10), 0, (1 << 35) - 16 + np.arange(5)].astype(np.int64)
    slope, shift = np.zeros(16, np.int64), np.zeros(16, np.int64)
    slope[10], shift[10] = 1 << 14, 30
    return KpuLayer(r, weights, norm, ActivationTable(start, slope, shift, np.zeros(16, np.int64)))


def main() -> None:
    isa = sys.argv[1] if len(sys.argv) > 1 else None
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    network = layers()
    ai_ram = np.random.default_rng(1).integers(0, 256, AI_RAM_BYTES, np.uint8)
    times = np.full((40, len(network)), np.inf)
    whole = []
    for i in range(times.shape[0]):
        begin = time.perf_counter()
        for j, layer in enumerate(network):
            t = time.perf_counter()
            engine.run_layer(layer, ai_ram, threads=threads, isa=isa)
            times[i, j] = time.perf_counter() - t
        whole.append(time.perf_counter() - begin)
    best = times.min(axis=0)
    for layer, t in zip(network, best, strict=True):
        r = layer.registers
        kind = "depthwise" if r.depth_wise_layer else f"conv {layer.kernel}x{layer.kernel}"
        c, h, w = layer.output_shape
        positions = h * w if r.pool_type == 5 else r.i_col_high * r.i_row_wid
        macs = positions * layer.weights.size
        print(
            f"{kind:9} {r.i_ch_num:4} x {r.i_col_high:3} -> {c:4} x {h:3}: {t * 1e6:7.0f} us"
            f"  {macs / t / 1e9:6.1f} GMAC/s  {c * h * w / t / 1e6:7.0f} Mvalue/s"
        )
    print(
        f"{isa or engine.default_isa()}, {threads} thread(s): sum of best {best.sum() * 1e3:.2f} ms, "
        f"best whole {min(whole) * 1e3:.2f} ms, median {np.median(whole) * 1e3:.2f} ms"
    )


if __name__ == "__main__":
    main()
