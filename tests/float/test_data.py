"""Loading samples: pictures, arrays, and what is wrong with them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openkpu.errors import InputError, SetupError
from openkpu.float.data import Sample, load_samples

RNG = np.random.default_rng(0)
SHAPE = (3, 8, 10)


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def code(source: object, shape: tuple[int, ...] = SHAPE) -> str:
    with pytest.raises(InputError) as caught:
        load_samples(source, shape)
    assert caught.value.where or caught.value.why or caught.value.fix
    return caught.value.code


def test_folder(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    picture = pixels(8, 10, 3)
    Image.fromarray(picture).save(tmp_path / "b" / "1.png")
    Image.fromarray(pixels(8, 10, 3)).save(tmp_path / ".hidden" / "0.png")
    Image.fromarray(pixels(30, 40)).save(tmp_path / "c.BMP")
    np.save(tmp_path / "a.npy", pixels(2, 8, 10, 3))
    (tmp_path / "notes.txt").write_text("x")
    samples = load_samples(tmp_path, SHAPE)
    assert [Path(s.name).name for s in samples] == ["a.npy[0]", "a.npy[1]", "1.png", "c.BMP"]
    assert {(s.array.shape, s.array.dtype) for s in samples} == {(SHAPE, np.dtype(np.uint8))}
    np.testing.assert_array_equal(samples[2].array, picture.transpose(2, 0, 1))
    assert [Path(s.name).name for s in load_samples(tmp_path, SHAPE, limit=2)] == ["a.npy[0]", "1.png"]


def test_a_picture_is_resized_and_converted(tmp_path: Path) -> None:
    image = Image.fromarray(pixels(33, 21, 3))
    image.save(tmp_path / "p.png")
    (rgb,) = load_samples(str(tmp_path / "p.png"), SHAPE)
    wanted = np.asarray(image.resize((10, 8), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_array_equal(rgb.array, wanted)
    (grey,) = load_samples(tmp_path / "p.png", (1, 33, 21))
    np.testing.assert_array_equal(grey.array[0], np.asarray(image.convert("L")))


def test_odd_pictures(tmp_path: Path) -> None:
    deep = RNG.integers(0, 1 << 16, (8, 10), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(load_samples(tmp_path / "deep.png", (1, 8, 10))[0].array[0], deep >> 8)
    turned = Image.fromarray(pixels(10, 8, 3))
    exif = turned.getexif()
    exif[0x0112] = 6  # the camera was held upright: turn right by 90 degrees
    turned.save(tmp_path / "turned.png", exif=exif)
    (sample,) = load_samples(tmp_path / "turned.png", SHAPE)
    np.testing.assert_array_equal(sample.array, np.rot90(np.asarray(turned), -1).transpose(2, 0, 1))
    Image.fromarray(RNG.random((8, 10), np.float32)).save(tmp_path / "float.tiff")
    assert code(tmp_path / "float.tiff") == "E453"


def test_arrays_in_memory() -> None:
    chw = pixels(*SHAPE)
    for source in (chw, chw[None], chw.transpose(1, 2, 0), [chw], [chw[None]], Sample("s", chw), [Sample("s", chw)]):
        (sample,) = load_samples(source, SHAPE)
        np.testing.assert_array_equal(sample.array, chw)
        assert sample.array.flags.c_contiguous
    floats = load_samples(RNG.standard_normal((4, *SHAPE)), SHAPE)
    assert {s.array.dtype for s in floats} == {np.dtype(np.float32)}
    assert load_samples(chw.astype(np.int64), SHAPE)[0].array.dtype == np.uint8
    assert [s.array.shape for s in load_samples(pixels(5, 8, 10), (1, 8, 10))] == [(1, 8, 10)] * 5
    assert [s.array.shape for s in load_samples(pixels(5, 7), (7,))] == [(7,)] * 5


def test_limit_spreads_evenly() -> None:
    many = np.arange(100, dtype=np.uint8).reshape(100, 1)
    assert [int(s.array[0]) for s in load_samples(many, (1,), limit=4)] == [0, 25, 50, 75]
    assert len(load_samples(many, (1,), limit=1000)) == 100
    with pytest.raises(InputError, match="limit"):
        load_samples(many, (1,), limit=0)


def test_npz_keys(tmp_path: Path) -> None:
    good, other = pixels(3, 8, 10, 3), pixels(5)
    path = tmp_path / "a.npz"
    for arrays in ({"calib": good, "more": good}, {"anything": good}, {"labels": other, "data": good}):
        np.savez(path, **arrays)
        assert len(load_samples(path, SHAPE)) == 3
    for arrays in ({"a": good, "b": good}, {"a": other, "b": other}):
        np.savez(path, **arrays)
        assert code(path) == "E457"


def test_order_of_dimensions() -> None:
    assert code(pixels(2, 3, 3, 3), (3, 3, 3)) == "E456"
    assert len(load_samples(pixels(2, 1, 1, 1), (1, 1, 1))) == 2
    assert code(pixels(10, 8, 3)) == "E454"
    assert code(pixels(3, 8, 11)) == "E454"


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    assert code(tmp_path) == "E452"
    assert code([]) == "E452"
    assert code(pixels(0, *SHAPE)) == "E452"
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    assert code(tmp_path) == "E453"
    for name in ("bad.npy", "bad.npz"):
        (tmp_path / name).write_bytes(b"nothing")
        assert code(tmp_path / name) == "E453"
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    assert code(tmp_path / "objects.npy") == "E453"
    Image.fromarray(pixels(8, 10, 3)).save(tmp_path / "ok.png")
    assert code(tmp_path / "ok.png", (4, 8, 10)) == "E454"
    assert code(np.full(SHAPE, np.nan)) == "E455"
    assert code(np.full(SHAPE, 300)) == "E455"
    assert code(np.full(SHAPE, "a")) == "E455"
    assert code(5) == "E453"
    with pytest.raises(SetupError) as caught:
        load_samples(tmp_path / "nothing", SHAPE)
    assert caught.value.code == "E510"
