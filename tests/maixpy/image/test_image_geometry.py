"""Affine transforms, warps, conv3 and the colour functions."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_host import Board, bits, gray, rgb565

from openkpu.maixpy.image import Image, pixels

RNG = np.random.default_rng(2)
MODULE = Board().module()


def framed(width: int, height: int) -> Image:
    return Image.from_rgb888(Board(), RNG.integers(0, 256, (height, width, 3)).astype(np.uint8))


class TestAffine:
    def test_leads_from_dst_to_src(self) -> None:
        src, dst = [[10, 20], [30, 20], [10, 60]], [[0, 0], [10, 0], [0, 20]]
        matrix = np.array(MODULE.get_affine_transform(src, dst)).reshape(3, 3)
        for s, d in zip(src, dst, strict=True):
            assert matrix @ [*d, 1] == pytest.approx([*s, 1], abs=1e-3)

    def test_a_turn(self) -> None:
        dst = [[38, 51], [73, 51], [56, 71], [41, 92], [70, 92]]
        turn = np.array([[0, -2], [2, 0]])
        src = [[int(v) for v in turn @ p + [300, 10]] for p in np.array(dst)]
        matrix = np.array(MODULE.get_affine_transform(src, dst)).reshape(3, 3)
        assert matrix == pytest.approx(np.array([[0, -2, 300], [2, 0, 10], [0, 0, 1]]), abs=1e-2)

    def test_errors(self) -> None:
        with pytest.raises(OSError, match="src len must equal with dst len"):
            MODULE.get_affine_transform([[1, 2]], [])
        with pytest.raises(OSError, match="must<=10 points"):
            MODULE.get_affine_transform([[1, 2]] * 11, [[1, 2]] * 11)
        with pytest.raises(OSError, match="Need input"):
            MODULE.get_affine_transform(((1, 2),), ((1, 2),))
        with pytest.raises(TypeError, match="can't convert float to int"):
            MODULE.get_affine_transform([[1.5, 2]], [[1, 2]])

    def test_identity_and_shift(self) -> None:
        source, target = framed(8, 6), framed(8, 6)
        before = target._pixels.copy()
        assert MODULE.warp_affine_ai(source, target, (1, 0, 0, 0, 1, 0, 0, 0, 1)) is None
        assert (target._ai == source._ai).all()
        assert (target._pixels == before).all()
        MODULE.warp_affine_ai(source, target, (1, 0, 2, 0, 1, -1, 0, 0, 1))
        assert source._ai is not None
        assert target._ai is not None
        assert (target._ai[:, 1:, :6] == source._ai[:, :5, 2:]).all()
        assert not target._ai[:, 0].any()
        assert not target._ai[:, :, 6:].any()
        target.ai_to_pix()
        assert target.get_pixel(0, 1, 0) == pixels.word_of(*(int(v) for v in source._ai[:, 0, 2]))

    @given(st.lists(st.floats(-2, 2, width=32), min_size=4, max_size=4), st.integers(-9, 9), st.integers(-9, 9))
    @settings(max_examples=25)
    def test_against_a_loop(self, turn: list[float], dx: int, dy: int) -> None:
        source, target = framed(7, 9), framed(5, 6)
        matrix = [np.float32(v) for v in (turn[0], turn[1], dx, turn[2], turn[3], dy, 0, 0, 1)]
        MODULE.warp_affine_ai(source, target, tuple(float(v) for v in matrix))
        assert source._ai is not None
        assert target._ai is not None
        flat = np.concatenate([source._ai.reshape(-1), np.zeros(20, np.uint8)]).astype(int)
        for y in range(6):
            for x in range(5):
                at = [
                    int(
                        matrix[r] * np.float32(x * 256)
                        + matrix[r + 1] * np.float32(y * 256)
                        + matrix[r + 2] * np.float32(256)
                    )
                    for r in (0, 3)
                ]
                (px, fx), (py, fy) = ((a >> 8, a & 255) for a in at)
                for c in range(3):
                    value = 0
                    if 0 <= px < 7 and 0 <= py < 9:
                        p = c * 63 + py * 7 + px
                        value = (256 - fx) * (256 - fy) * flat[p] + fx * (256 - fy) * flat[p + 1]
                        value = value + (256 - fx) * fy * flat[p + 7] + fx * fy * flat[p + 8] >> 16
                    assert target._ai[c, y, x] == value

    def test_warp_errors(self) -> None:
        unit = (1, 0, 0, 0, 1, 0, 0, 0, 1)
        with pytest.raises(ValueError, match=r"^src_img->bpp != dst_img->bpp$"):
            MODULE.warp_affine_ai(framed(2, 2), gray([[1]]), unit)
        with pytest.raises(ValueError, match=r"^only support ai image affine$"):
            MODULE.warp_affine_ai(framed(2, 2), rgb565([[1]]), unit)
        with pytest.raises(ValueError, match=r"^requested length 9"):
            MODULE.warp_affine_ai(framed(2, 2), framed(2, 2), (1, 2))


class TestConv3:
    def test_one_keeps_the_picture(self) -> None:
        image = framed(20, 10)
        assert image._ai is not None
        before = image._ai.astype(int)
        image.conv3([0, 0, 0, 0, 1, 0, 0, 0, 0])
        assert abs(image._ai - before).max() <= 1
        assert (image._pixels == pixels.words_truncated(*image._ai)).all()
        assert image.ai_is_stale() == ""

    @pytest.mark.parametrize("kernel", [[-1, -1, -1, -1, 8, -1, -1, -1, -1], [0.1] * 9, [0, 0, 0, -2, 0, 2, 0, 0, 0]])
    def test_close_to_a_convolution(self, kernel: list[float]) -> None:
        image = framed(30, 12)
        assert image._ai is not None
        padded = np.pad(image._ai.astype(float), ((0, 0), (1, 1), (1, 1)))
        exact = sum(kernel[3 * j + i] * padded[:, j : j + 12, i : i + 30] for j in range(3) for i in range(3))
        image.conv3(kernel)
        assert np.abs(image._ai - np.clip(exact, 0, 255)).max() <= 3

    def test_what_cannot_be(self) -> None:
        host = Board()
        rgb565([[1]], host).conv3([1] * 9)
        assert host.printed == ["pix_ai or pixels is NULL!\n"]
        with pytest.raises(TypeError, match="missing 1 required"):
            framed(2, 2).conv3(kern=[1] * 9)  # the firmware counts positions only
        for image in (Image.from_gray(host, np.zeros((2, 2), np.uint8)), framed(2, 300)):
            with pytest.raises(RuntimeError, match="openkpu board"):
                image.conv3([1] * 9)
        with pytest.raises(RuntimeError, match="zeros"):
            framed(2, 2).conv3([0] * 9)


def test_rotation() -> None:
    image = gray(np.zeros((40, 60))).draw_rectangle(30, 18, 20, 4, fill=True)
    before = image._pixels.copy()
    image.rotation_corr()
    assert (image._pixels == before).mean() > 0.98
    image.rotation_corr(z_rotation=180)
    # The centre is (30, 20): the bar now lies to the left of it.
    assert image.get_pixel(20, 20) == 255
    assert image.get_pixel(40, 20) == 0
    with pytest.raises(OSError, match="Zoom must be > 0!"):
        image.rotation_corr(zoom=0)
    with pytest.raises(OSError, match="FOV must be > 0 and < 180!"):
        image.rotation_corr(fov=0)


def test_corners() -> None:
    """The picture's corners are taken from the given points: here its upper left quarter fills the picture."""
    source = np.zeros((21, 41), np.uint8)
    source[:11, :21] = 200
    image = gray(source)
    image.rotation_corr(corners=[(0, 0), (20, 0), (20, 10), (0, 10)])
    assert (image._pixels == 200).mean() > 0.9


def test_lens() -> None:
    image = gray(np.full((30, 40), 9)).lens_corr(strength=1.8, zoom=0.5)
    assert image.get_pixel(20, 15) == 9
    assert image.get_pixel(0, 0) == 0
    with pytest.raises(OSError, match="Strength must be > 0!"):
        image.lens_corr(0)
    with pytest.raises(RuntimeError, match="binary"):
        bits([[1]]).lens_corr()


@pytest.mark.parametrize(
    ("rgb", "lab", "gray"),
    [((255, 255, 255), (98, 0, 0), 254), ((255, 0, 0), (53, 86, 69), 127), ((12, 200, 99), (72, -62, 43), 173)],
)
def test_colours_like_the_firmware(rgb: Any, lab: Any, gray: int) -> None:
    assert MODULE.rgb_to_lab(rgb) == lab
    assert MODULE.rgb_to_grayscale(rgb) == gray


def test_colour_functions() -> None:
    assert MODULE.rgb_to_lab((0, 0, 0)) == (-1, 0, 0)
    assert MODULE.lab_to_rgb((100, 0, 0)) == (255, 255, 254)
    assert MODULE.lab_to_rgb([53, 80, 67]) == (254, 0, 0)
    assert MODULE.lab_to_rgb((70, -40, 30)) == (108, 188, 114)
    assert MODULE.grayscale_to_rgb(7) == (7, 7, 7)
    with pytest.raises(ValueError, match="requested length 3"):
        MODULE.rgb_to_lab((1, 2))
