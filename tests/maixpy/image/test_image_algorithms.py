"""Arithmetic, thresholds, filters, blobs and statistics on small pictures; checksums of larger ones are elsewhere."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_host import Board, bits, blank, gray, rgb565

from openkpu.maixpy.image.fast_math import fast_atan, fast_atan2
from openkpu.maixpy.image.operands import get_thresholds
from openkpu.maixpy.image.regions import label

RNG = np.random.default_rng(5)


def test_arithmetic_on_fields() -> None:
    red, green = 0x00F8, 0xE007
    assert rgb565([[red]]).add(rgb565([[green]]))[0] == (255, 255, 0)
    assert rgb565([[0xFFFF]]).sub((255, 0, 0))[0] == (0, 255, 255)
    assert gray([[10, 200]]).sub(50, reverse=True)[:] == (40, 0)
    assert gray([[10, 0]]).div(gray([[20, 0]]))[:] == (127, 0)
    assert gray([[10, 20]]).difference(gray([[13, 2]]))[:] == (3, 18)
    assert gray([[10, 20]]).max(15)[:] == (15, 20)
    assert gray([[10, 20]]).min(15, mask=gray([[0, 255]]))[:] == (10, 15)
    assert gray([[100]]).blend(gray([[200]]), alpha=64)[0] == 175
    with pytest.raises(OSError, match=r"^Images not equal!$"):
        gray([[1]]).add(rgb565([[1]]))


def test_replace() -> None:
    image = gray([[1, 2, 3], [4, 5, 6]])
    assert image.replace(hmirror=1)._pixels.tolist() == [[3, 2, 1], [6, 5, 4]]
    assert image.replace(image, vflip=1)._pixels.tolist() == [[6, 5, 4], [3, 2, 1]]
    assert image.replace(transpose=1)._pixels.tolist() == [[6, 3], [5, 2], [4, 1]]
    assert (image.width(), image.height()) == (2, 3)
    assert image.set(7)[:] == (7,) * 6
    with pytest.raises(OSError, match="because it would grow in size!"):
        bits([[1] * 32]).replace(transpose=1)


def test_bit_operations_do_nothing_and_say_so() -> None:
    host = Board()
    image = gray([[12, 10]], host)
    for name in ("b_and", "and", "b_or", "or", "b_xor", "xor", "nand", "b_nor", "xnor"):
        assert getattr(image, name)(gray([[3, 3]]))[:] == (12, 10)
    assert [w.split("(")[0] for w in host.warned] == ["b_and", "b_or", "b_xor", "b_nand", "b_nor", "b_xnor"]
    assert image.ai_is_stale() == ""


def test_thresholds() -> None:
    assert get_thresholds([(90, 10), (), (1, 300, 5, -200, 7)]) == [
        (10, 90, -128, 127, -128, 127),
        (1, 255, -128, 5, 7, 127),
    ]
    image = gray([[5, 50, 200]])
    assert image.binary([(40, 60), (190, 255)], copy=1)[:] == (0, 255, 255)
    assert image.binary([(40, 60)], invert=1, copy=1)[:] == (255, 0, 255)
    assert image.binary([(40, 60)], zero=1, copy=1)[:] == (5, 0, 200)
    assert image.binary([(40, 60)], mask=gray([[255, 255, 0]]), copy=1)[:] == (0, 255, 200)
    assert image.binary([(40, 60)], to_bitmap=1, copy=1).format() is None
    assert rgb565([[0x00F8, 0xE007]]).binary([(0, 100, 20, 127)])[:] == ((255, 255, 255), (0, 0, 0))
    with pytest.raises(TypeError, match="is not a tuple or list"):
        image.binary((1, 2))


def test_morphology() -> None:
    cross = [[0, 255, 0], [255, 255, 255], [0, 255, 0]]
    assert gray(cross).erode(1)[:] == (0,) * 9
    assert gray(cross).erode(1, threshold=4)[:] == (0, 255, 0, 255, 255, 255, 0, 255, 0)
    assert gray(cross).erode(1, threshold=5)[:] == (0,) * 9
    assert gray(cross).dilate(1)[:] == (255,) * 9
    assert gray([[0, 0, 0], [0, 255, 0], [0, 0, 0]]).top_hat(1)[4] == 255
    assert gray([[255] * 3, [255, 0, 255], [255] * 3]).black_hat(1)[4] == 255
    with pytest.raises(OSError, match=r"^KernelSize must be >= 0!$"):
        gray(cross).erode(-1)


@given(st.integers(1, 7), st.integers(1, 6), st.integers(0, 2), st.data())
@settings(max_examples=40)
def test_filters_against_loops(w: int, h: int, k: int, data: Any) -> None:
    source = data.draw(st.lists(st.lists(st.integers(0, 255), min_size=w, max_size=w), min_size=h, max_size=h))
    near = [
        [
            [
                source[min(max(y + j, 0), h - 1)][min(max(x + i, 0), w - 1)]
                for j in range(-k, k + 1)
                for i in range(-k, k + 1)
            ]
            for x in range(w)
        ]
        for y in range(h)
    ]
    share = np.float32(1) / np.float32((2 * k + 1) ** 2)

    def expected(rule: Any) -> list[int]:
        return [rule(n) for row in near for n in row]

    assert list(gray(source).mean(k)[:]) == expected(lambda n: int(np.float32(sum(n)) * share))
    assert list(gray(source).median(k)[:]) == expected(lambda n: sorted(n)[(len(n) - 1) // 2])
    assert list(gray(source).midpoint(k)[:]) == expected(lambda n: (min(n) + max(n)) // 2)
    assert list(gray(source).median(k, percentile=1.0)[:]) == expected(max)

    def mode(n: list[int]) -> int:
        count: dict[int, int] = {}
        best, most = 0, 0
        for v in n:
            count[v] = count.get(v, 0) + 1
            if count[v] > most:
                best, most = v, count[v]
        return best

    assert list(gray(source).mode(k)[:]) == expected(mode)


def test_adaptive_threshold() -> None:
    image = gray([[10, 10, 10], [10, 40, 10], [10, 10, 10]])
    assert image.mean(1, threshold=1, offset=2)[:] == (0, 0, 0, 0, 255, 0, 0, 0, 0)


def test_convolutions() -> None:
    image = gray([[0, 0, 0], [0, 90, 0], [0, 0, 0]])
    assert image.copy().morph(1, [0, 0, 0, 0, 1, 0, 0, 0, 0])[4] == 90
    assert image.copy().gaussian(1)[:5] == (5, 11, 5, 11, 22)
    assert image.copy().laplacian(1, mul=1.0)[4] == 255
    assert image.copy().morph(1, [1] * 9, mul=0.0, add=7)[0] == 7
    with pytest.raises(ValueError, match=r"^requested length 9"):
        image.morph(1, [1, 2])


def test_histeq() -> None:
    assert gray([[10, 10, 20, 30]]).histeq()[:] == (127, 127, 191, 255)
    with pytest.raises(RuntimeError, match="not simulated"):
        gray([[1]]).histeq(adaptive=True)


class TestRegions:
    @given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
    @settings(max_examples=60)
    def test_labels_against_a_walk(self, w: int, h: int, seed: int) -> None:
        inside = np.random.default_rng(seed).random((h, w)) < 0.6
        expected = np.full((h, w), -1)
        count = 0
        for y, x in zip(*np.nonzero(inside), strict=True):
            if expected[y, x] < 0:
                waiting = [(y, x)]
                while waiting:
                    j, i = waiting.pop()
                    if 0 <= j < h and 0 <= i < w and inside[j, i] and expected[j, i] < 0:
                        expected[j, i] = count
                        waiting += [(j + 1, i), (j - 1, i), (j, i + 1), (j, i - 1)]
                count += 1
        assert (label(inside) == expected).all()

    def test_a_spiral_is_one_region(self) -> None:
        rows = ["#########", "........#", "#######.#", "#.....#.#", "#.###.#.#", "#.#...#.#", "#.#####.#", "#.......#"]
        inside = np.array([[c == "#" for c in r] for r in [*rows, "#########"]])
        assert set(np.unique(label(inside))) == {-1, 0}


class TestBlobs:
    def picture(self) -> Any:
        image = blank(40, 30)
        image.draw_rectangle(5, 4, 10, 6, fill=True).draw_rectangle(25, 10, 5, 12, fill=True)
        return image.set_pixel(2, 20)

    def test_find(self) -> None:
        first, second = self.picture().find_blobs([(200, 255)])
        assert first.rect() == (5, 4, 9, 5)
        assert (first.pixels(), first.cx(), first.cy(), first.code(), first.count()) == (60, 9, 6, 1, 1)
        assert first.area() == 45
        assert first.density() == pytest.approx(60 / 45)
        assert second[:5] == (25, 10, 4, 11, 60)
        assert second[-1] == 1
        assert repr(first).startswith('{"x":5, "y":4, "w":9, "h":5, "pixels":60, "cx":9, "cy":6, "rotation":')
        assert repr(first).endswith(', "code":1, "count":1}')
        assert abs(second.rotation() - np.pi / 2) < 0.1
        with pytest.raises(IndexError, match="blob index out of range"):
            first[10]
        with pytest.raises(TypeError, match="not iterable"):
            iter(first)

    def test_limits(self) -> None:
        image = self.picture()
        assert len(image.find_blobs([(200, 255)], area_threshold=0, pixels_threshold=1)) == 3
        assert image.find_blobs([(200, 255)], pixels_threshold=61) == []
        assert image.find_blobs([(200, 255)], area_threshold=-1) == []
        assert len(image.find_blobs([(200, 255)], roi=(0, 0, 20, 30))) == 1
        assert image.find_blobs([]) == []
        with pytest.raises(OSError, match=r"x_stride must not be zero\."):
            image.find_blobs([(1, 2)], x_stride=0)

    def test_the_grid_misses_small_blobs(self) -> None:
        image = blank(9, 9).set_pixel(3, 3)
        few = {"area_threshold": 0, "pixels_threshold": 0}
        assert len(image.find_blobs([(200, 255)], x_stride=2, **few)) == 1  # 3 % 2 == 1: odd columns in odd rows
        assert image.find_blobs([(200, 255)], x_stride=9, **few)[0].rect() == (3, 3, 0, 0)
        assert image.find_blobs([(200, 255)], y_stride=2, **few) == []

    def test_a_pixel_belongs_to_the_first_threshold(self) -> None:
        (whole,) = gray([[100] * 6 + [200] * 6] * 4).find_blobs([(50, 255), (150, 255)])
        assert (whole.w(), whole.code()) == (11, 1)
        both = gray([[100] * 6 + [200] * 6] * 4).find_blobs([(150, 255), (50, 255)])
        assert [(v.x(), v.code()) for v in both] == [(6, 1), (0, 2)]

    def test_merge_and_callbacks(self) -> None:
        image = self.picture()
        (blob,) = image.find_blobs([(200, 255)], merge=True, margin=12)
        assert blob.rect() == (5, 4, 24, 17)
        assert (blob.pixels(), blob.count(), blob.cx()) == (120, 2, (9 * 60 + 27 * 60) // 120)
        seen = []
        kept = image.find_blobs([(200, 255)], threshold_cb=lambda b: seen.append(b.x()) or b.x() > 10)
        assert seen == [5, 25]
        assert len(kept) == 1
        assert len(image.find_blobs([(200, 255)], merge=True, margin=12, merge_cb=lambda a, b: False)) == 2

    def test_colours(self) -> None:
        image = rgb565(np.zeros((20, 20))).draw_rectangle(3, 3, 8, 8, (255, 0, 0), fill=True)
        (blob,) = image.find_blobs([(30, 100, 15, 127, 15, 127)])
        assert blob.rect() == (3, 3, 7, 7)


class TestStatistics:
    def test_gray(self) -> None:
        image = gray([[0, 0, 10, 30]])
        stats = image.get_statistics()
        assert repr(stats) == ('{"mean":10, "median":0, "mode":0, "stdev":12, "min":0, "max":30, "lq":0, "uq":10}')
        assert (stats.mean(), stats.l_mean(), stats[0], stats.uq(), stats.a_mean()) == (10, 10, 10, 10, 0)
        hist = image.get_histogram(bins=4)
        assert hist.bins() == [1.0, 0.0, 0.0, 0.0]
        assert repr(hist) == '{"bins":[1.0, 0.0, 0.0, 0.0]}'
        assert image.get_histogram(roi=(2, 0, 2, 1)).get_percentile(0.5).value() == 10
        assert image.get_histogram([(5, 255)]).bins()[10] == 0.25
        with pytest.raises(OSError, match=r"^bins must be >= 2$"):
            image.get_histogram(bins=1)

    def test_colour(self) -> None:
        image = rgb565([[0x00F8, 0x00F8]])
        stats = image.get_stats()
        assert (stats.l_mean(), stats.a_mean(), stats.b_max()) == (53, 80, 67)
        assert repr(stats).startswith('{"l_mean":53, "l_median":53,')
        assert repr(image.get_hist().get_percentile(0.5)) == '{"l_value:53", "a_value":80, "b_value":67}'
        assert len(image.histogram()[1]) == 256

    def test_otsu(self) -> None:
        image = gray([[10] * 5 + [200] * 5])
        assert 10 <= image.get_histogram().get_threshold().value() < 200

    def test_otsu_of_a_and_b_overflows(self) -> None:
        """The firmware forgets to add -128, and stores the result in a signed byte."""
        image = rgb565([[0x00F8] * 5 + [0xE007] * 5])
        hist = image.get_histogram()
        best = 80 + 128 - 1
        value = hist.get_threshold().a_value()
        assert -128 <= value <= 127
        assert 42 <= value % 256 <= best


def test_fast_functions_are_close() -> None:
    x = np.linspace(-20, 20, 4001).astype(np.float32)
    assert np.abs(fast_atan(x) - np.arctan(x)).max() < 3e-7
    for angle in np.linspace(0.01, 6.27, 50):
        assert fast_atan2(np.sin(angle), np.cos(angle)) == pytest.approx(angle, abs=1e-5)
    assert [float(fast_atan2(y, 0)) for y in (0, 1, -1)] == [0, pytest.approx(np.pi), pytest.approx(-np.pi)]


def test_large_kernels_take_the_rows_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    source = RNG.integers(0, 256, (20, 15))
    whole = [gray(source).median(2)[:], gray(source).mode(2)[:], gray(source).midpoint(2)[:]]
    monkeypatch.setattr("openkpu.maixpy.image.operands._BLOCK", 25 * 15 * 3)
    assert [gray(source).median(2)[:], gray(source).mode(2)[:], gray(source).midpoint(2)[:]] == whole
