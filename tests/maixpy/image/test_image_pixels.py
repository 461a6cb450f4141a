import numpy as np
import pytest

from openkpu.maixpy.image import pixels as px

WORDS = np.arange(65536, dtype=np.uint16)


def test_fields_of_all_words_by_the_bytes_in_memory() -> None:
    """RRRRRGGG GGGBBBBB: as a big-endian number R is on top."""
    plain = WORDS.byteswap().astype(np.int64)
    for field, expected in zip(px.fields(WORDS), (plain >> 11, plain >> 5 & 63, plain & 31), strict=True):
        assert (field == expected).all()
    assert (px.pack(*px.fields(WORDS)) == WORDS).all()


def test_expansion_of_all_words_is_rounding() -> None:
    planes = np.empty((3, 256, 256), np.uint8)
    px.planes_from_words(WORDS.reshape(256, 256), planes)
    for plane, field, top in zip(planes.reshape(3, -1), px.fields(WORDS), (31, 63, 31), strict=True):
        assert (plane == np.floor(field * 255 / top + 0.5)).all()


def test_rounding_of_all_levels() -> None:
    v = np.arange(256)
    assert (np.floor(v * 31 / 255 + 0.5) == px.R8_TO_R5).all()
    assert (np.floor(v * 63 / 255 + 0.5) == px.G8_TO_G6).all()
    for level in range(256):
        assert px.word_of(level, 0, 0) == px.words_from_rgb(*(np.array([c], np.uint8) for c in (level, 0, 0)))[0]


def test_packed_and_planar_of_all_words_agree() -> None:
    planes = np.empty((3, 256, 256), np.uint8)
    px.planes_from_words(WORDS.reshape(256, 256), planes)
    assert (px.words_from_rgb(*planes).reshape(-1) == WORDS).all()


@pytest.mark.parametrize(
    ("rgb", "word"),
    [
        ((255, 0, 0), 0x00F8),
        ((0, 255, 0), 0xE007),
        ((0, 0, 255), 0x1F00),
        ((255, 255, 255), 65535),
        ((255, 255, 0), 57599),
        ((0, 255, 255), 65287),
        ((255, 0, 255), 8184),
        ((0, 0, 0), 0),
    ],
)
def test_named_colours(rgb: tuple[int, int, int], word: int) -> None:
    assert px.word_of(*rgb) == word
    assert px.rgb_of(word) == rgb


def test_gray_of_all_words() -> None:
    r, g, b = (p.astype(float) for p in px.planes_table())
    assert (px.gray_table() == np.floor(0.299 * r + 0.587 * g + 0.114 * b)).all()
    assert (px.words_of_gray() == [px.word_of(v, v, v) for v in range(256)]).all()


def test_gray_of_the_minimum_firmware() -> None:
    full, small = px.gray_table().astype(int), px.gray_table(full=False).astype(int)
    assert (full[:8192] == small[:8192]).all()
    offsets = [0, 2, 5, 7, 9, 12, 14, 16]
    assert all(small[k * 8192 + 5] == small[5] + offsets[k] for k in range(8))
    different = np.count_nonzero(full != small)
    assert 0 < different < 65536
    assert abs(full - small).max() == 2


def test_yuv_and_back() -> None:
    assert px.yuv_table()[0].tolist() == [-128, 0, 0]
    assert px.yuv_table()[px.word_of(255, 0, 0)].tolist() == [76 - 128, -43, 127]
    one = px.words_from_yuv(*(np.array([v]) for v in (76, -43, 127)))
    assert px.rgb_of(int(one[0])) == (255, 0, 0)


def test_lab() -> None:
    table = px.lab_table()
    assert table[[0, 0xFFFF, 0x00F8, 0xE007, 0x1F00]].tolist() == [
        [0, 0, 0],
        [100, 0, 0],
        [53, 80, 67],
        [88, -86, 83],
        [32, 79, -108],
    ]
    assert (table[:8192] == px.lab_table(full=False)[:8192]).all()


def test_cut_to_565() -> None:
    """As JPEG files and conv3 do: 255 keeps all bits, 7 keeps none of red."""
    words = px.words_truncated(*(np.array([v], np.uint8) for v in (255, 7, 15)))
    assert [int(f[0]) for f in px.fields(words)] == [31, 1, 1]


def test_rainbow_runs_from_blue_to_red() -> None:
    table = px.rainbow_table()
    assert table.shape == (256,)
    first, last = px.rgb_of(int(table[0])), px.rgb_of(int(table[255]))
    assert (first[0], last[2]) == (0, 0)
    assert first[2] > 200
    assert last[0] > 200
