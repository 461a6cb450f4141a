"""Which call fills which memory, who pays, and when the planes are stale."""

import numpy as np
import pytest
from image_host import Board, gray, rgb565

from openkpu.maixpy.image import MEMORY_TEXT, Image, pixels

RNG = np.random.default_rng(1)


def frame(host: Board, width: int = 8, height: int = 6) -> Image:
    return Image.from_rgb888(host, RNG.integers(0, 256, (height, width, 3)).astype(np.uint8))


def test_a_camera_frame_fills_both_with_different_precision(host: Board) -> None:
    rgb = np.array([[[255, 128, 3], [4, 5, 250]]], np.uint8)
    image = Image.from_rgb888(host, rgb)
    assert image._ai is not None
    assert image._ai.tolist() == [[[255, 4]], [[128, 5]], [[3, 250]]]
    assert image._pixels.tolist() == [[pixels.word_of(255, 128, 3), pixels.word_of(4, 5, 250)]]
    assert host.used == 0
    assert image.ai_is_stale() == ""


def test_the_next_frame_comes_into_the_same_memory(host: Board) -> None:
    image = frame(host)
    memory, planes = image._pixels, image._ai
    image.draw_line(0, 0, 3, 3)
    assert image.ai_is_stale() == "draw_line()"
    image.load_rgb888(np.full((6, 8, 3), 255, np.uint8))
    assert image._pixels is memory
    assert image._ai is planes
    assert (memory == 0xFFFF).all()
    assert image.ai_is_stale() == ""
    with pytest.raises(ValueError, match="size"):
        image.load_rgb888(np.zeros((5, 8, 3), np.uint8))


def test_a_grayscale_frame_is_one_memory(host: Board) -> None:
    image = Image.from_gray(host, np.zeros((4, 5), np.uint8))
    image.draw_rectangle(0, 0, 2, 2, fill=True)
    assert image._ai is image._pixels
    assert image.ai_is_stale() == ""
    planes = image.ai_planes(1)
    assert planes is not None
    assert planes[0, :2, :2].min() == 255
    assert image.ai_planes(3) is None


def test_a_new_image_has_no_planes_and_pix_to_ai_pays_for_them(host: Board) -> None:
    image = host.module().Image(size=(30, 10))
    assert host.used == 600
    assert image._ai is None
    image.set_pixel(3, 2, (255, 130, 0))
    assert image.pix_to_ai() is None
    assert host.used == 600 + 64 * 10 * 3
    assert image._ai[:, 2, 3].tolist() == list(image.get_pixel(3, 2))
    image.pix_to_ai()
    assert host.used == 600 + 64 * 10 * 3
    del image
    assert host.used == 0


def test_grayscale_pix_to_ai_copies(host: Board) -> None:
    image = gray([[1, 2], [3, 4]], host)
    image.pix_to_ai()
    assert host.used == 4
    assert image._ai is not image._pixels
    image.invert()
    assert image.ai_is_stale() == "invert()"
    image.ai_to_pix()
    assert image._pixels.tolist() == [[1, 2], [3, 4]]
    assert image.ai_is_stale() == ""


def test_ai_to_pix_rounds(host: Board) -> None:
    image = Image.from_rgb888(host, np.full((1, 1, 3), 128, np.uint8))
    image.clear()
    image.ai_to_pix()
    assert image._pixels[0, 0] == pixels.word_of(128, 128, 128)
    assert rgb565([[5]]).ai_to_pix() is None


@pytest.mark.parametrize("method", ["pix_to_ai", "ai_to_pix"])
def test_binary_images_have_no_planes(method: str, host: Board) -> None:
    image = host.module().Image().to_bitmap(copy=1)
    getattr(image, method)()
    assert host.printed == ["only support grayscale now\r\n"]


def test_every_writer_makes_the_planes_stale(host: Board) -> None:
    calls = {
        "clear": (),
        "set_pixel": (0, 0),
        "draw_line": (0, 0, 3, 3),
        "draw_rectangle": (0, 0, 3, 3),
        "draw_circle": (2, 2, 2),
        "draw_ellipse": (2, 2, 2, 1),
        "draw_string": (0, 0, "a"),
        "draw_cross": (2, 2),
        "draw_arrow": (0, 0, 3, 3),
        "draw_image": (frame(host, 2, 2), 0, 0),
        "draw_keypoints": ([(1, 1, 30)],),
        "flood_fill": (0, 0),
        "invert": (),
        "negate": (),
        "binary": ([(10, 50)],),
        "add": (77,),
        "replace": (77,),
        "erode": (1,),
        "mean": (1,),
        "median": (1,),
        "gaussian": (1,),
        "histeq": (),
        "gamma_corr": (2.0,),
        "lens_corr": (),
        "rotation_corr": (),
        "to_rainbow": (),
        "to_grayscale": (),
        "mean_pool": (2, 2),
    }
    for name, args in calls.items():
        image = frame(host)
        getattr(image, name)(*args)
        assert image.ai_is_stale() == f"{name}()", name


def test_several_writers_are_named_once_each_in_order(host: Board) -> None:
    image = frame(host)
    image.draw_line(0, 0, 1, 1).draw_string(0, 0, "x").draw_line(1, 1, 2, 2)
    assert image.ai_is_stale() == "draw_line(), draw_string()"
    image.pix_to_ai()
    assert image.ai_is_stale() == ""


@pytest.mark.parametrize("name", ["get_pixel", "to_bytes", "copy", "resize", "cut", "find_blobs", "get_statistics"])
def test_readers_do_not(name: str, host: Board) -> None:
    args = {"get_pixel": (1, 1), "resize": (3, 3), "cut": (0, 0, 2, 2), "find_blobs": ([(0, 100)],)}.get(name, ())
    image = frame(host)
    getattr(image, name)(*args)
    assert image.ai_is_stale() == ""


def test_resize_and_cut_return_no_planes(host: Board) -> None:
    image = frame(host)
    assert image.resize(4, 4)._ai is None
    assert image.cut(0, 0, 2, 2)._ai is None


@pytest.mark.parametrize("call", ["copy", "to_grayscale(copy=1)", "to_rgb565(copy=1)", "mean_pooled"])
def test_copies_have_planes_that_nobody_filled(call: str, host: Board) -> None:
    name, _, copied = call.partition("(")
    result = getattr(frame(host), name)(*((2, 2) if "pool" in name else ()), **({"copy": 1} if copied else {}))
    assert call in result.ai_is_stale()
    assert "never filled" in result.ai_is_stale()
    assert not result._ai.any()
    result.pix_to_ai()
    assert result.ai_is_stale() == ""


def test_grayscale_in_place_keeps_the_old_planes(host: Board) -> None:
    image = frame(host)
    assert image._ai is not None
    old = image._ai.copy()
    expected = pixels.gray_table()[image._pixels]
    result = image.to_grayscale()
    assert (image.format(), result.format()) == (4, 4)
    assert (image._pixels == expected).all()
    assert (result._pixels == expected).all()
    assert (image._ai == old).all()
    planes = image.ai_planes(1)
    assert planes is not None
    assert (planes[0] == old[0]).all()
    image.pix_to_ai()
    assert (image._ai[0] == expected).all()
    assert (image._ai[1:] == old[1:]).all()


def test_conversion_in_place_returns_the_same_memory(host: Board) -> None:
    image = frame(host)
    alias = image.to_grayscale()
    alias.set_pixel(0, 0, 99)
    assert image.get_pixel(0, 0) == 99
    assert image.ai_is_stale() == "to_grayscale(), set_pixel()"


def test_what_needs_a_copy(host: Board) -> None:
    image = gray([[10, 20, 30, 40]], host)
    with pytest.raises(OSError, match=r"^Can't convert to rgb565 in place!$"):
        image.to_rgb565()
    with pytest.raises(OSError, match=r"^Can't convert to rainbow in place!$"):
        image.to_rainbow()
    assert image.to_rgb565(copy=True)._pixels.tolist() == [[pixels.word_of(v, v, v) for v in (10, 20, 30, 40)]]
    assert image.to_rainbow(1)._pixels.tolist() == [pixels.rainbow_table()[[10, 20, 30, 40]].tolist()]
    with pytest.raises(OSError, match=r"^Can't convert to grayscale in place!$"):
        image.to_bitmap(copy=1).to_grayscale()
    with pytest.raises(OSError, match=r"^Can't convert to bitmap in place!$"):
        gray([[1, 2, 3]], host).to_bitmap()


def test_bitmap_in_place_overwrites_the_pixels(host: Board) -> None:
    image = gray([[200, 0, 0, 255, 0, 0, 0, 0]], host)
    result = image.to_bitmap()
    assert result._pixels.tolist() == [[1, 0, 0, 1, 0, 0, 0, 0]]
    assert image._pixels.tolist() == [[9, 0, 0, 0, 0, 0, 0, 0]]


def test_pooling_in_place_reads_the_planes_with_the_new_shape(host: Board) -> None:
    image = frame(host, 4, 4)
    assert image._ai is not None
    flat = image._ai.reshape(-1).copy()
    image.mean_pool(2, 2)
    assert (image.width(), image.height()) == (2, 2)
    assert image._ai.reshape(-1).tolist() == flat[:12].tolist()


def test_the_heap_is_full() -> None:
    host = Board(heap=2 * 153600)
    image = host.module().Image()
    second = image.copy()
    with pytest.raises(MemoryError) as error:
        image.copy()
    assert str(error.value) == MEMORY_TEXT
    with pytest.raises(MemoryError):
        second.pix_to_ai()
    del second
    image.copy()


def test_impossible_sizes_end_in_the_heap(host: Board) -> None:
    image = gray([[1]], host)
    for call in (lambda: image.resize(0, 5), lambda: image.resize(-1, 5), lambda: image.cut(0, 0, 0, 0)):
        with pytest.raises(MemoryError, match="Out of normal MicroPython Heap Memory"):
            call()


def test_aliases_share_the_bill(host: Board) -> None:
    image = host.module().Image(size=(4, 4))
    alias = image.to_grayscale()
    del image
    assert host.used == 32
    del alias
    assert host.used == 0


def test_del_by_name_gives_the_memory_back(host: Board) -> None:
    image = host.module().Image(size=(4, 4))
    image.__del__()
    assert host.used == 0


def test_fmap_view_aliases(host: Board) -> None:
    memory = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.fmap_view(host, memory)
    assert image.format() == 4
    assert image._ai is None
    memory[1, 2] = 77
    assert image.get_pixel(2, 1) == 77


def test_what_the_display_shows(host: Board) -> None:
    assert rgb565([[0x00F8, 0]]).to_rgb888().tolist() == [[[255, 0, 0], [0, 0, 0]]]
    assert gray([[7]]).to_rgb888().tolist() == [[[7, 7, 7]]]
    assert gray([[200, 1, 1, 1]]).to_bitmap(copy=1).to_rgb888()[0, 0].tolist() == [255] * 3
