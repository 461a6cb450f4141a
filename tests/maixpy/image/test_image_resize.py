"""resize against a slow transcription of its formulas, pixel by pixel in float32."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from image_host import Board, gray, rgb565

f = np.float32


def unpack(p: int) -> tuple[int, int, int]:
    return p >> 3 & 31, (p & 7) << 3 | p >> 13, p >> 8 & 31


def to_uint8(v: Any) -> int:
    return max(int(v), 0) & 0xFF


def slow_rgb565(source: list[list[int]], w: int, h: int) -> list[list[int]]:
    h0, w0 = len(source), len(source[0])
    sx, sy = f(w0) / f(w), f(h0) / f(h)
    out = [[0] * w for _ in range(h)]
    for y in range(h):
        for x in range(w):
            if (w0, h0) == (w, h):
                out[y][x] = source[y][x]
            elif w0 >= w or h0 > h:
                out[y][x] = source[int(f(y) * sy)][int(f(x) * sx)]
            else:
                xs, ys = (f(x) + f(0.5)) * sx - f(0.5), (f(y) + f(0.5)) * sy - f(0.5)
                x1, y1 = int(xs), int(ys)
                if x1 + 1 >= w0 or y1 + 1 >= h0:
                    out[y][x] = source[y1][x1]
                    continue
                channels = []
                for c in range(3):
                    p = [[f(unpack(source[y1 + j][x1 + i])[c]) for i in (0, 1)] for j in (0, 1)]
                    rows = [(f(x1 + 1) - xs) * p[j][0] + (xs - f(x1)) * p[j][1] for j in (0, 1)]
                    channels.append(to_uint8((f(y1 + 1) - ys) * rows[0] + (ys - f(y1)) * rows[1]))
                r, g, b = channels
                out[y][x] = (r << 3 | g >> 3 | (g & 7) << 13 | b << 8) & 0xFFFF
    return out


def slow_gray(source: list[list[int]], w: int, h: int) -> list[list[int]]:
    h0, w0 = len(source), len(source[0])
    flat = [v for row in source for v in row] + [0] * (w0 * (h0 + 2) * 4)
    sx, sy = f(w0) / f(w), f(h0) / f(h)
    out = [[0] * w for _ in range(h)]
    for y in range(h):
        for x in range(w):
            if w >= w0 or h >= h0:
                xf, yf = (f(x) + f(0.5)) * sx - f(0.5), (f(y) + f(0.5)) * sy - f(0.5)
                x0, y0 = int(xf), int(yf)
                x1 = x0 + 1 if x0 < w0 - 1 else x0
                y1 = y0 + 1 if y0 < h0 - 1 else y0
                left, right, up, down = xf - f(x0), f(x0 + 1) - xf, yf - f(y0), f(y0 + 1) - yf
                total = f(source[y0][x0]) * right * down + f(source[y0][x1]) * left * down
                total = total + f(source[y1][x0]) * right * up + f(source[y1][x1]) * left * up
                out[y][x] = to_uint8(total)
            else:
                ys = range(int(f(y) * sy), int(f(y + 1) * sy) + 1)
                xs = range(int(f(x) * sy), int(f(x + 1) * sy) + 1)
                out[y][x] = sum(flat[j * w0 + i] for j in ys for i in xs) // (len(ys) * len(xs))
    return out


def pictures(top: int) -> st.SearchStrategy[list[list[int]]]:
    size = st.tuples(st.integers(1, 9), st.integers(1, 9))
    return size.flatmap(
        lambda s: st.lists(st.lists(st.integers(0, top), min_size=s[0], max_size=s[0]), min_size=s[1], max_size=s[1])
    )


@given(pictures(0xFFFF), st.integers(1, 24), st.integers(1, 24))
@settings(max_examples=120)
def test_rgb565(source: list[list[int]], w: int, h: int) -> None:
    assert rgb565(source).resize(w, h)._pixels.tolist() == slow_rgb565(source, w, h)


@given(pictures(255), st.integers(1, 24), st.integers(1, 24))
@settings(max_examples=120)
def test_grayscale(source: list[list[int]], w: int, h: int) -> None:
    assert gray(source).resize(w, h)._pixels.tolist() == slow_gray(source, w, h)


def test_the_first_column_extrapolates_out_of_range() -> None:
    """At the edge of white (31) and black the weights are 1.25 and -0.25: 38 spills out of its 5 bits into blue."""
    image = rgb565([[0x00F8, 0, 0], [0x00F8, 0, 0]]).resize(6, 4)
    assert image._pixels[0, 0] == 38 << 3
    assert image._pixels[0, 0] > 0xFF


def test_grayscale_wraps_at_the_edge() -> None:
    image = gray([[255, 0], [255, 0]]).resize(4, 4)
    assert image._pixels[0, 0] == int(255 * 1.25) & 0xFF
    assert gray([[0, 255], [0, 255]]).resize(4, 4)._pixels[0, 0] == 0


def test_shrinking_grayscale_uses_the_vertical_scale_for_both() -> None:
    """6x4 -> 2x2: windows of 3x3 (ends included) at columns 0 and 2, not at 0 and 3."""
    source = np.arange(24).reshape(4, 6)
    image = gray(source).resize(2, 2)
    assert image._pixels[0].tolist() == [source[0:3, 0:3].sum() // 9, source[0:3, 2:5].sum() // 9]


def test_digits_224_to_28() -> None:
    """9x9 pixels where 8x8 were meant; the last column runs on in the next row, the last row behind the image."""
    host = Board()
    source = np.random.default_rng(0).integers(0, 256, (224, 224)).astype(np.uint8)
    small = gray(source, host).resize(28, 28)._pixels
    assert small[3, 5] == source[24:33, 40:49].sum(dtype=int) // 81
    assert small[3, 27] == (source[24:33, 216:].sum(dtype=int) + source[25:34, 0].sum(dtype=int)) // 81
    flat = np.concatenate([source.reshape(-1).astype(int), np.zeros(400, int)])
    assert small[27, 0] == sum(flat[y * 224 + x] for y in range(216, 225) for x in range(9)) // 81
    assert len(host.warned) == 1
    gray(source, host).resize(28, 28)
    assert len(host.warned) == 1


def test_one_side_shrinks() -> None:
    """RGB565 takes the nearest pixel then, grayscale interpolates."""
    words = rgb565(np.arange(12).reshape(3, 4)).resize(8, 2)._pixels
    assert words.tolist() == [[0, 0, 1, 1, 2, 2, 3, 3], [4, 4, 5, 5, 6, 6, 7, 7]]
    assert gray([[0, 100]] * 3).resize(4, 2)._pixels[0].tolist() == slow_gray([[0, 100]] * 3, 4, 2)[0]


def test_other_formats() -> None:
    host = Board()
    assert gray([[200] * 8], host).to_bitmap(copy=1).resize(2, 2) is None
    assert host.printed == ["only support grayscale, 565 zoom out now\r\n"]
