"""Shapes against masks drawn by hand and against slow loops over every pixel."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_host import Board, bits, blank, gray, rgb565, shape

from openkpu.maixpy.image.draw import brush, spot

near = st.integers(-6, 18)
size = st.integers(0, 12)
W, H = 13, 11


def drawn(points: set[tuple[int, int]]) -> list[str]:
    return ["".join(".#"[(x, y) in points] for x in range(W)) for y in range(H)]


def slow_disc(cx: int, cy: int, r0: int, r1: int) -> set[tuple[int, int]]:
    span = range(r0, r1 + 1)
    return {(cx + x, cy + y) for y in span for x in span if x * x + y * y <= r0 * r0}


def test_rectangle_by_hand() -> None:
    assert shape(blank(6, 5).draw_rectangle(1, 1, 4, 3)) == ["......", ".####.", ".#..#.", ".####.", "......"]
    assert shape(blank(6, 5).draw_rectangle((1, 1, 4, 3), fill=True))[2] == ".####."


def test_a_thick_frame_grows_to_both_sides() -> None:
    """Thickness 2 reaches one pixel outwards at the left and top, and inwards at the right and bottom."""
    assert shape(blank(8, 6).draw_rectangle(2, 2, 5, 3, 255, 2)) == [
        "........",
        ".######.",
        ".######.",
        ".######.",
        ".######.",
        "........",
    ]


@given(near, near, size, size, st.integers(0, 6))
def test_rectangle(x: int, y: int, w: int, h: int, thickness: int) -> None:
    points = set()
    if thickness > 0:
        a, b = thickness // 2, (thickness - 1) // 2
        for i in range(x - a, x + w + b):
            points |= {(i, j) for row in (y, y + h - 1) for j in range(row - a, row + b + 1)}
        for j in range(y - a, y + h + b):
            points |= {(i, j) for column in (x, x + w - 1) for i in range(column - a, column + b + 1)}
    assert shape(blank(W, H).draw_rectangle(x, y, w, h, thickness=thickness)) == drawn(points)


def test_line_by_hand() -> None:
    assert shape(blank(7, 4).draw_line(0, 0, 6, 3)) == ["##.....", "..##...", "....##.", "......#"]
    assert shape(blank(5, 3).draw_line(1, 1, 3, 1, 255, 3)) == [".###.", "#####", ".###."]


@given(near, near, near, near, st.integers(0, 5))
def test_line(x0: int, y0: int, x1: int, y1: int, thickness: int) -> None:
    points = set()
    dx, dy = abs(x1 - x0), abs(y1 - y0)
    sx, sy = (1 if x0 < x1 else -1), (1 if y0 < y1 else -1)
    error = int((dx if dx > dy else -dy) / 2)
    x, y = x0, y0
    while thickness > 0:
        points |= slow_disc(x, y, -(thickness // 2), (thickness - 1) // 2)
        if (x, y) == (x1, y1):
            break
        before = error
        if before > -dx:
            error, x = error - dy, x + sx
        if before < dy:
            error, y = error + dx, y + sy
    assert shape(blank(W, H).draw_line(x0, y0, x1, y1, thickness=thickness)) == drawn(points)


def test_circle_by_hand() -> None:
    assert shape(blank(9, 9).draw_circle(4, 4, 3)) == [
        ".........",
        "...###...",
        "..#...#..",
        ".#.....#.",
        ".#.....#.",
        ".#.....#.",
        "..#...#..",
        "...###...",
        ".........",
    ]
    assert shape(blank(5, 5).draw_circle((2, 2, 0))) == [".....", ".....", "..#..", ".....", "....."]


@given(near, near, st.integers(0, 9))
def test_disc(x: int, y: int, radius: int) -> None:
    image = blank(W, H).draw_circle(x, y, radius, fill=True)
    assert shape(image) == drawn(slow_disc(x, y, -radius, radius))


@given(near, near, st.integers(0, 9), st.integers(1, 6))
@settings(max_examples=50)
def test_a_ring_is_symmetric_and_within_its_radii(x: int, y: int, radius: int, thickness: int) -> None:
    image = blank(61, 61).draw_circle(30, 30, radius, thickness=thickness)._pixels > 0
    assert (image == image[::-1]).all()
    assert (image == image.T).all()
    distance = np.hypot(*np.indices((61, 61)) - 30)
    assert distance[image].max() <= radius + thickness // 2 + 1
    assert distance[image].min() >= max(radius - (thickness - 1) // 2, 0) - 1
    moved = blank(W, H).draw_circle(x, y, radius, thickness=thickness)._pixels > 0
    whole = np.zeros((H + 200, W + 200), bool)
    whole[100 + y - 30 : 161 + y - 30, 100 + x - 30 : 161 + x - 30] = image
    assert (moved == whole[100 : 100 + H, 100 : 100 + W]).all()


def test_cross_is_two_lines() -> None:
    assert shape(blank(5, 5).draw_cross(2, 2, size=1)) == [".....", "..#..", ".###.", "..#..", "....."]
    assert shape(blank(5, 5).draw_cross((2, 2)))[2] == "#####"


def test_arrow() -> None:
    assert shape(blank(12, 7).draw_arrow(0, 3, 11, 3, size=4)) == [
        "............",
        ".......#....",
        "........##..",
        "############",
        "........##..",
        ".......#....",
        "............",
    ]
    assert shape(blank(3, 3).draw_arrow(1, 1, 1, 1))[1] == ".#."


def test_ellipse() -> None:
    assert shape(blank(11, 7).draw_ellipse(5, 3, 4, 2)) == [
        "...........",
        "...#####...",
        "..#.....#..",
        ".#.......#.",
        "..#.....#..",
        "...#####...",
        "...........",
    ]
    turned = blank(30, 30).draw_ellipse(14, 14, 10, 4, 90)._pixels
    assert np.array_equal(turned.T, blank(30, 30).draw_ellipse(14, 14, 10, 4)._pixels)
    assert not blank(5, 5).draw_ellipse(2, 2, 0, 2)._pixels.any()


def test_keypoints() -> None:
    image = blank(30, 30).draw_keypoints([(10, 10, 0), (20, 20, 90)], size=8)
    expected = blank(30, 30).draw_line(10, 10, 18, 10).draw_circle(10, 10, 3)
    expected.draw_line(20, 20, 20, 28).draw_circle(20, 20, 3)
    assert (image._pixels == expected._pixels).all()


def test_colours() -> None:
    image = rgb565(np.zeros((1, 4)))
    image.draw_line(0, 0, 0, 0, (255, 0, 0)).draw_line(1, 0, 1, 0, color=57351).draw_line(2, 0, 2, 0)
    assert image[:] == ((255, 0, 0), (0, 255, 0), (255, 255, 255), (0, 0, 0))
    assert gray([[0]]).draw_line(0, 0, 0, 0, (255, 0, 0))[0] == 76
    assert bits([[0]]).draw_line(0, 0, 0, 0, (255, 255, 255))[0] == 1
    assert bits([[1]]).draw_line(0, 0, 0, 0, 2)[0] == 0


class TestImages:
    def test_at_a_place_and_clipped(self) -> None:
        image = blank(4, 3).draw_image(gray([[1, 2], [3, 4]]), 3, -1)
        assert image._pixels.tolist() == [[0, 0, 0, 3], [0, 0, 0, 0], [0, 0, 0, 0]]

    def test_scaled(self) -> None:
        image = blank(4, 2).draw_image(gray([[1, 2]]), (0, 0), 2.0, 2.0)
        assert image._pixels.tolist() == [[1, 1, 2, 2]] * 2
        assert not blank(2, 2).draw_image(gray([[1, 2]]), 0, 0, x_scale=0)._pixels.any()

    def test_formats_are_not_converted(self) -> None:
        """A gray level becomes the low byte of a word: red and the upper bits of green."""
        image = rgb565([[0]]).draw_image(gray([[0x84]]), 0, 0)
        assert image.get_pixel(0, 0, 0) == 0x84
        assert image.get_pixel(0, 0) == (132, 130, 0)
        assert gray([[0]]).draw_image(rgb565([[0x1234]]), 0, 0)[0] == 0x34

    def test_black_is_transparent_with_alpha(self) -> None:
        below = rgb565([[0xFFFF, 0xFFFF]])
        below.draw_image(rgb565([[0, 0x00F8]]), 0, 0, alpha=128)
        assert below[0] == (255, 255, 255)
        share = 0.5 * 255 / 256
        green = int(255 * (1 - share))
        assert below[1][0] == 255
        assert abs(below[1][1] - green) <= 2

    def test_mask(self) -> None:
        image = blank(3, 1).draw_image(gray([[5, 6, 7]]), 0, 0, mask=gray([[255, 0]]))
        assert image[:] == (5, 0, 0)

    @pytest.mark.parametrize(
        ("keywords", "text"),
        [
            ({"alpha": 257}, "Error: 0 <= alpha <= 256!"),
            ({"x_scale": -1}, "Error: 0.0 <= x_scale!"),
            ({"y_scale": -1.0}, "Error: 0.0 <= y_scale!"),
        ],
    )
    def test_errors(self, keywords: dict[str, Any], text: str) -> None:
        with pytest.raises(OSError, match=f"^{text}$"):
            blank(2, 2).draw_image(blank(1, 1), 0, 0, **keywords)


class TestText:
    def test_a_letter(self) -> None:
        assert shape(blank(6, 12).draw_string(0, 0, "T"))[:11] == [
            "......",
            "#####.",
            *["..#..."] * 8,
            "......",
        ]

    def test_a_letter_keeps_its_place_with_mono_space(self) -> None:
        image = blank(16, 12).draw_string(0, 0, "II", mono_space=1)._pixels
        assert (image[:, :8] == image[:, 8:]).all()
        assert image[:, 0].sum() == 0

    def test_the_next_letter_starts_one_column_behind_the_last(self) -> None:
        assert shape(blank(12, 12).draw_string(0, 0, "TT"))[1] == "#####.#####."
        assert shape(blank(14, 12).draw_string(0, 0, "TT", x_spacing=2))[1] == "#####...#####."

    def test_space_is_three_columns_and_ignores_the_spacing(self) -> None:
        assert shape(blank(14, 12).draw_string(0, 0, "T T"))[1] == "#####....#####"
        assert shape(blank(16, 12).draw_string(0, 0, "T T", x_spacing=1))[1] == "#####.....#####."

    def test_scale(self) -> None:
        small, large = blank(8, 12).draw_string(0, 0, "R"), blank(16, 24).draw_string(0, 0, "R", scale=2)
        assert (np.kron(small._pixels, np.ones((2, 2), np.uint8)) == large._pixels).all()
        with pytest.raises(OSError, match=r"^Error: 0 < scale!$"):
            blank(5, 5).draw_string(0, 0, "a", scale=0)

    def test_lines(self) -> None:
        for text in ("T\nT", "T\rT", "T\r\nT"):
            rows = shape(blank(6, 30).draw_string(0, 0, text))
            assert rows[1] == rows[15] == "#####."
        assert shape(blank(6, 30).draw_string(0, 0, "T\nT", y_spacing=5))[18] == "#####."

    def test_what_is_not_ascii_is_a_box_on_its_side(self) -> None:
        """Two bytes of UTF-8 draw two boxes over each other, 10 wide and 6 high."""
        assert shape(blank(13, 9).draw_string(0, 0, "é")) == [
            "." * 13,
            ".##########..",
            *[".#........#.."] * 4,
            ".##########..",
            *["." * 13] * 2,
        ]

    def test_text_must_be_text(self) -> None:
        with pytest.raises(TypeError, match=r"^can't convert 'int' object to str implicitly$"):
            blank(5, 5).draw_string(0, 0, 5)
        assert blank(9, 12).draw_string((0, 0, b"T"))._pixels.any()

    def test_text_outside(self) -> None:
        assert not blank(5, 5).draw_string(10, 0, "abc").draw_string(-100, -50, "abc")._pixels.any()

    def test_draw_font(self) -> None:
        image = blank(10, 8).draw_font(1, 0, 8, 8, bytes([0x80, 0x01, 0, 0, 0, 0, 0, 0xFF]))
        assert shape(image) == [".#........", "........#.", *[".........."] * 5, ".########."]
        with pytest.raises(OSError, match=r"^Error: font \(arg_w_font"):
            blank(5, 5).draw_font(0, 0, 8, 8, b"1234")
        with pytest.raises(OSError, match=r"^Error: font arg_w_font %% 8 == 0"):
            blank(5, 5).draw_font(0, 0, 7, 8, b"12345678")

    def test_a_loaded_font(self) -> None:
        host = Board()
        module = host.module()
        glyph = bytes(range(1, 33))
        host.files["font.Dzk"] = bytes(32) * 0x4E2D + glyph
        image = module.Image(size=(40, 20))
        module.font_load(module.UTF8, 16, 16, "font.Dzk")
        image.draw_string(0, 0, "中", mono_space=1)
        rows = image._pixels > 0
        expected = [glyph[y] << 8 | glyph[16 + y] for y in range(16)]
        assert [int("".join(str(int(v)) for v in row[:16]), 2) for row in rows[:16]] == expected
        host.flash = bytes(16) + glyph
        module.font_load(module.UTF8, 16, 16, 16)
        other = module.Image(size=(40, 20)).draw_string(0, 0, "\x00中")
        assert not other._pixels.any()
        module.font_free()
        assert module.Image(size=(9, 12)).draw_string(0, 0, "T").get_pixel(2, 5) == (255, 255, 255)

    def test_font_errors(self) -> None:
        module = Board().module()
        with pytest.raises(ValueError, match="font_addr must > 0 "):
            module.font_load(module.UTF8, 16, 16, 0)
        with pytest.raises(ValueError, match=r"only supply \.Dzk "):
            module.font_load(module.UTF8, 16, 16, "font.ttf")
        with pytest.raises(OSError, match="2"):
            module.font_load(module.UTF8, 16, 16, "no.Dzk")
        module.font_load(module.ASCII, 1, 1, 0)


class TestFloodFill:
    def test_region(self) -> None:
        image = gray([[0, 0, 200, 0], [0, 200, 0, 0], [200, 0, 0, 9]])
        image.flood_fill(0, 0, color=50)
        assert image._pixels.tolist() == [[50, 50, 200, 0], [50, 200, 0, 0], [200, 0, 0, 9]]
        image.flood_fill(3, 0, seed_threshold=0.0, color=77)
        assert image._pixels.tolist()[2] == [200, 77, 77, 9]

    def test_two_limits(self) -> None:
        """Steps of 10 pass the step limit 12 until the seed limit 25 is reached."""
        image = gray([[0, 10, 20, 30, 40]])
        image.flood_fill(0, 0, 25 / 255 + 1e-4, 12 / 255 + 1e-4, color=255)
        assert image[:] == (255, 255, 255, 30, 40)
        image = gray([[0, 10, 25, 30]])
        image.flood_fill(0, 0, 1.0, 12 / 255 + 1e-4, color=255)
        assert image[:] == (255, 255, 25, 30)

    def test_invert_background_mask(self) -> None:
        source = [[0, 0, 200, 0]]
        assert gray(source).flood_fill(0, 0, color=9, invert=1)[:] == (0, 0, 9, 9)
        assert gray(source).flood_fill(0, 0, color=9, clear_background=1)[:] == (9, 9, 0, 0)
        assert gray([[0, 0, 0, 0]]).flood_fill(0, 0, color=9, mask=gray([[0, 255, 0, 0]]))[:] == (9, 9, 0, 0)

    def test_outside_and_errors(self) -> None:
        assert not blank(3, 3).flood_fill(5, 5)._pixels.any()
        with pytest.raises(OSError, match=r"^Error: 0.0 <= seed_threshold <= 1.0!$"):
            blank(3, 3).flood_fill(0, 0, 1.5)


class TestHugeArguments:
    """A script may compute anything; the board clips, and so does the simulation, in little memory and time."""

    def test_shapes(self) -> None:
        big = 1 << 30
        image = blank(9, 7)
        image.draw_circle(4, 3, 100_000, fill=True)
        assert image._pixels.all()
        assert blank(9, 7).draw_line(-5, 3, 20, 3, thickness=1001)._pixels.all()
        assert blank(9, 7).draw_rectangle(-big, -big, 2 * big - 1, 2 * big - 1, fill=True)._pixels.all()
        assert blank(9, 7).draw_line(-big, 3, big, 3)._pixels[3].all()
        with pytest.raises(RuntimeError, match="keeps the board busy"):
            blank(9, 7).draw_line(-big, 0, big, 7)

    def test_images_and_text(self) -> None:
        image = blank(9, 7).draw_image(gray([[7, 8]]), 0, 0, 1e6, 1e6)
        assert set(image[:]) == {7}
        with pytest.raises(RuntimeError, match="scale 1000"):
            blank(9, 7).draw_string(0, 0, "a", scale=1000)
        with pytest.raises(MemoryError):
            blank(9, 7).copy(x_scale=1e6)
        with pytest.raises(OSError, match="won't fit in the main frame buffer!"):
            blank(9, 7).copy(x_scale=1e6, copy_to_fb=True)

    @given(near, near, st.integers(15, 20), st.integers(15, 20))
    @settings(max_examples=20)
    def test_wide_brushes_are_the_same(self, x: int, y: int, first: int, last: int) -> None:
        image = np.zeros((H, W), np.uint8)
        brush(image, 1, np.array([[x, y]]), -first, last)
        spot(image, 2, (x, y), -first, last)
        assert set(np.unique(image)) <= {0, 2}
        assert {(int(i), int(j)) for j, i in zip(*np.nonzero(image), strict=True)} == {
            p for p in slow_disc(x, y, -first, last) if 0 <= p[0] < W and 0 <= p[1] < H
        }
