import numpy as np
import pytest
from image_host import Board, bits, blank, gray, rgb565

from openkpu.maixpy.image import Image

RED, GREEN = 0x00F8, 0xE007


def test_printed_forms() -> None:
    assert repr(rgb565([[0] * 5] * 2)) == '{"w":5, "h":2, "type"="rgb565", "size":20}'
    assert str(gray([[0] * 5] * 2)) == '{"w":5, "h":2, "type"="grayscale", "size":10}'
    assert repr(bits([[0] * 33] * 2)) == '{"w":33, "h":2, "type"="binary", "size":4}'  # words, not bytes
    jpeg = rgb565(np.zeros((32, 32))).compressed()
    assert repr(jpeg) == f'{{"w":32, "h":32, "type"="jpeg", "size":{jpeg.size()}}}'


def test_size_and_format() -> None:
    image = rgb565([[0] * 5] * 2)
    assert (image.width(), image.height(), image.format(), image.size()) == (5, 2, 2, 20)
    assert (gray([[0] * 5]).format(), gray([[0] * 5]).size()) == (4, 5)
    assert (bits([[0] * 33]).format(), bits([[0] * 33]).size()) == (None, 8)
    assert image.compressed().format() == 5


def test_bytes_lie_as_on_the_chip() -> None:
    assert rgb565([[RED, GREEN]]).to_bytes() == b"\xf8\x00\x07\xe0"
    assert bytes(rgb565([[RED]])) == b"\xf8\x00"
    assert gray([[1, 2], [3, 4]]).to_bytes() == bytearray([1, 2, 3, 4])
    assert bits([[1, 0, 0, 1]])._raw() == b"\x09\0\0\0"
    assert bits([[1, 0, 0, 1]]).to_bytes() == b"\x09"


def test_get_pixel() -> None:
    image = rgb565([[RED, GREEN]])
    assert image.get_pixel(0, 0) == (255, 0, 0)
    assert image.get_pixel((1, 0)) == (0, 255, 0)
    assert image.get_pixel(0, 0, 0) == RED
    assert image.get_pixel(0, 0, rgbtuple=False) == RED
    assert image.get_pixel(2, 0) is None
    assert image.get_pixel(0, -1) is None
    assert gray([[100]]).get_pixel(0, 0) == 100
    assert gray([[100]]).get_pixel(0, 0, rgbtuple=1) == (99, 101, 99)
    assert bits([[1]]).get_pixel(0, 0, 1) == (255, 255, 255)


def test_set_pixel() -> None:
    image = rgb565([[0, 0]])
    assert image.set_pixel(0, 0, (255, 0, 0)) is image
    image.set_pixel([1, 0], color=GREEN)
    image.set_pixel(9, 9, 5)
    assert image._pixels.tolist() == [[RED, GREEN]]
    image.set_pixel(0, 0)
    assert image.get_pixel(0, 0) == (255, 255, 255)
    assert gray([[0]]).set_pixel(0, 0, (255, 255, 255))[0] == 255
    assert gray([[0]]).set_pixel(0, 0, 0x1234)[0] == 0x34
    assert bits([[0]]).set_pixel(0, 0, (130, 130, 130))[0] == 1


def test_colours_out_of_range_are_limited() -> None:
    assert rgb565([[0]]).set_pixel(0, 0, (300, -5, 0)).get_pixel(0, 0) == (255, 0, 0)


def test_index() -> None:
    image = rgb565([[RED, GREEN], [0, 0xFFFF]])
    assert image[0] == (255, 0, 0)
    assert image[-1] == (255, 255, 255)
    assert image[1:3] == ((0, 255, 0), (0, 0, 0))
    image[0] = (0, 255, 0)
    image[2:4] = (255, 0, 0)
    image[1:2] = [(0, 0, 0)]
    assert image._pixels.reshape(-1).tolist() == [GREEN, 0, RED, RED]
    picture = gray([[1, 2], [3, 4]])
    picture[1:3] = 9
    picture[0] = 300
    assert picture[:] == (44, 9, 9, 4)
    picture[0:2] = [7, 8]
    assert picture[0:2] == (7, 8)


def test_index_errors() -> None:
    image = gray([[1, 2]])
    with pytest.raises(IndexError, match="Image index out of range"):
        image[2]
    with pytest.raises(TypeError, match="Image indices must be integers, not str"):
        image["a"]
    with pytest.raises(OSError, match="only slices with step=1"):
        image[::2]
    with pytest.raises(OSError, match="cannot grow or shrink image"):
        image[0:2] = [1]
    with pytest.raises(TypeError, match="object 'int' is not a tuple or list"):
        rgb565([[0]])[0] = 5
    with pytest.raises(TypeError, match="not iterable"):
        iter(image)
    with pytest.raises(TypeError, match="has no len"):
        len(image)


def test_assigning_out_of_range_is_explained() -> None:
    host = Board()
    image = rgb565([[0]], host)
    image[0] = (999, 0, 0)
    assert image[0] == (255, 0, 0)
    assert len(host.warned) == 1


def test_dump_roi() -> None:
    host = Board()
    rgb565([[RED, GREEN], [0, 0xFFFF]], host).dump_roi(0, 0, 2, 1)
    assert host.printed == ["0xf8 0x00; 0x07 0xe0; \n", "\n"]


class TestArguments:
    """The firmware's own errors for what a script gets wrong."""

    def test_floats_are_no_integers(self) -> None:
        with pytest.raises(TypeError, match=r"^can't convert float to int$"):
            blank(5, 5).draw_rectangle(1.0, 2, 3, 4)
        with pytest.raises(TypeError, match=r"^can't convert NoneType to int$"):
            blank(5, 5).draw_line(0, 0, 3, None)
        with pytest.raises(TypeError, match=r"^can't convert str to float$"):
            blank(5, 5).draw_string(0, 0, "a", scale="2")

    def test_true_is_one(self) -> None:
        assert blank(3, 3).draw_line(True, False, 1, 0)[1] == 255

    def test_too_few(self) -> None:
        with pytest.raises(OSError, match=r"^Not enough positional arguments!$"):
            blank(5, 5).draw_rectangle(1, 2, 3)
        with pytest.raises(TypeError, match=r"^function missing 1 required positional arguments$"):
            blank(5, 5).draw_rectangle()
        with pytest.raises(TypeError, match=r"^function takes 3 positional arguments but 2 were given$"):
            blank(5, 5).resize(3)
        with pytest.raises(TypeError, match=r"^function does not take keyword arguments$"):
            blank(5, 5).resize(w=3, h=3)
        with pytest.raises(TypeError, match=r"^function expected at most 5 arguments, got 6$"):
            blank(5, 5).cut(0, 0, 1, 1, 1)

    def test_groups(self) -> None:
        with pytest.raises(ValueError, match=r"^requested length 4 but object has length 3$"):
            blank(5, 5).draw_rectangle((1, 2, 3))
        with pytest.raises(TypeError, match=r"^object 'str' is not a tuple or list$"):
            rgb565([[0]]).draw_rectangle(0, 0, 1, 1, "red")

    def test_unknown_keywords_are_ignored(self) -> None:
        image = blank(5, 5).draw_rectangle(1, 1, 3, 3, tickness=3)
        assert image._pixels[0].sum() == 0

    def test_keywords_win_over_positions(self) -> None:
        assert blank(3, 3).draw_line(0, 0, 1, 0, 7, color=9)[0] == 9

    def test_roi(self) -> None:
        image = blank(5, 5)
        with pytest.raises(OSError, match=r"^Invalid ROI dimensions!$"):
            image.copy((0, 0, 0, 1))
        with pytest.raises(OSError, match=r"^ROI does not overlap on the image!$"):
            image.copy(roi=(5, 0, 2, 2))
        assert repr(image.copy((-1, -1, 3, 20))) == '{"w":2, "h":5, "type"="grayscale", "size":10}'

    def test_image_arguments(self) -> None:
        with pytest.raises(TypeError, match=r"^Can't convert int to Image$"):
            blank(5, 5).draw_image(5, 0, 0)
        jpeg = blank(32, 32).compressed()
        for call in (lambda: jpeg.draw_line(0, 0, 1, 1), lambda: blank(5, 5).draw_image(jpeg, 0, 0)):
            with pytest.raises(OSError, match=r"^Image format is not supported!$"):
                call()


class TestCopies:
    def test_copy_scales_by_the_nearest_pixel(self) -> None:
        image = gray(np.arange(16).reshape(4, 4))
        assert image.copy((1, 1, 2, 2))._pixels.tolist() == [[5, 6], [9, 10]]
        assert image.copy(x_scale=0.5, y_scale=0.5)._pixels.tolist() == [[0, 2], [8, 10]]
        assert image.copy((0, 0, 2, 1), 2, 1)._pixels.tolist() == [[0, 0, 1, 1]]
        with pytest.raises(OSError, match=r"^Output image width is 0!$"):
            image.copy(x_scale=0.1)
        with pytest.raises(OSError, match=r"^Error: 0.0 <= y_scale!$"):
            image.copy(y_scale=-1)

    def test_copy_is_a_copy(self) -> None:
        image = blank(2, 2)
        image.copy().set_pixel(0, 0)
        assert image[0] == 0

    def test_copy_into_another_image(self) -> None:
        source, target = gray([[1, 2], [3, 4]]), blank(3, 2)
        result = source.copy(copy_to_fb=target)
        assert target._pixels.tolist() == [[1, 2], [3, 4]]
        result.set_pixel(0, 0, 9)
        assert target[0] == 9
        with pytest.raises(OSError, match=r"^The new image won't fit in the target frame buffer!$"):
            blank(9, 9).copy(copy_to_fb=target)

    def test_crop_in_place_and_as_a_copy(self) -> None:
        image = gray(np.arange(16).reshape(4, 4))
        assert image.crop((1, 1, 2, 2), copy=1)._pixels.tolist() == [[5, 6], [9, 10]]
        assert image.width() == 4
        image.crop(roi=(1, 1, 2, 2))
        assert image._pixels.tolist() == [[5, 6], [9, 10]]
        with pytest.raises(OSError, match="target frame buffer"):
            image.crop(x_scale=2.0)

    def test_cut(self) -> None:
        host = Board()
        image = gray(np.arange(16).reshape(4, 4), host)
        assert image.cut(1, 2, 2, 2)._pixels.tolist() == [[9, 10], [13, 14]]
        assert host.warned == []
        assert image.cut(3, 3, 2, 2)._pixels.tolist() == [[15, 0], [0, 0]]
        assert len(host.warned) == 1

    def test_cut_left_of_the_image_reads_the_row_above(self) -> None:
        image = gray(np.arange(1, 17).reshape(4, 4))
        assert image.cut(-1, 1, 3, 2)._pixels.tolist() == [[4, 5, 6], [8, 9, 10]]
        assert image.cut(-1, 0, 3, 1)._pixels.tolist() == [[0, 1, 2]]

    def test_cut_of_other_formats(self) -> None:
        host = Board()
        assert bits([[1]], host).cut(0, 0, 1, 1) is None
        assert host.printed == ["pixel format not support!\r\n"]

    def test_pooling_errors(self) -> None:
        with pytest.raises(OSError, match=r"^Width divisor must be greater than >= 1$"):
            blank(5, 5).mean_pool(0, 1)
        with pytest.raises(OSError, match=r"^Height divisor must be less than <= img height$"):
            blank(5, 5).midpoint_pooled(1, 6)
        assert gray([[1, 2, 9], [3, 5, 9]]).mean_pooled(2, 2)._pixels.tolist() == [[2]]


def test_gray_levels() -> None:
    image = gray([[10, 10, 10, 10], [10, 30, 50, 10], [10, 90, 10, 10]])
    image.stretch(0, 255)
    assert image[5:7] == (0, 100)  # within the border 30..50: a factor of at most 5
    assert image[9] == (90 - 30) * 5 & 0xFF
    assert image[0] == 0
    flat = gray([[7] * 3] * 3)
    assert flat.stretch(0, 255) is None
    assert flat[0] == 7
    flat.strech_char(0)
    assert set(flat[:]) == {0}
    image = gray([[0, 100], [200, 200]])
    image.strech_char(0)  # mean 125: 0, 0, 255, 255
    assert image[:] == (0, 0, 255, 255)
    host = Board()
    rgb565([[0]], host).strech_char(1)
    rgb565([[0]], host).stretch(0, 1)
    assert host.printed == ["only support grayscale now\r\n"] * 2


def test_the_class_is_called_image() -> None:
    assert type(blank(1, 1)).__name__ == "Image"
    assert isinstance(blank(1, 1), Image)
