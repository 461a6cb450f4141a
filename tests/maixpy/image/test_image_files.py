import io
import struct

import numpy as np
import pytest
from image_host import Board, bits, gray, rgb565
from PIL import Image as Pillow

from openkpu.maixpy.image import jpeg, pixels
from openkpu.maixpy.image.bmp import read_bmp, write_bmp


def picture(mode: str, size: tuple[int, int] = (5, 3)) -> Pillow.Image:
    count = size[0] * size[1] * len(Pillow.new(mode, (1, 1)).getbands())
    data = np.random.default_rng(3).integers(0, 256, count).astype(np.uint8).tobytes()
    return Pillow.frombytes(mode, size, data)


def file_of(image: Pillow.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


class TestNew:
    def test_the_size_of_the_display(self, host: Board) -> None:
        image = host.module().Image()
        assert repr(image) == '{"w":320, "h":240, "type"="rgb565", "size":153600}'
        assert image._ai is None
        assert not image._pixels.any()

    def test_a_size(self, host: Board) -> None:
        image = host.module().Image
        assert repr(image(size=(64, 32))) == '{"w":64, "h":32, "type"="rgb565", "size":4096}'
        assert image(size=(0, 9)).width() == 320

    def test_a_size_wins_over_a_file(self, host: Board) -> None:
        assert host.module().Image("no such file.jpg", size=(8, 4)).width() == 8

    def test_a_second_positional_argument_never_works(self, host: Board) -> None:
        with pytest.raises(TypeError, match=r"^object 'int' is not a tuple or list$"):
            host.module().Image("a.bmp", 1)

    def test_errors(self, host: Board) -> None:
        image = host.module().Image
        with pytest.raises(OSError, match="2"):
            image("no.jpg")
        host.files["a.png"] = b"\x89PNG...."
        with pytest.raises(ValueError, match=r"^format not supported$"):
            image("a.png")
        with pytest.raises(ValueError, match=r"^requested length 2"):
            image(size=(1, 2, 3))
        with pytest.raises(OSError, match=r"^Not support$"):
            image(file_of(picture("RGB"), "BMP"), from_bytes=1)
        with pytest.raises(OSError, match="22"):
            image(5)

    def test_into_the_frame_buffer_costs_nothing(self, host: Board) -> None:
        image = host.module().Image(size=(8, 8), copy_to_fb=True)
        assert host.used == 0
        assert image.size() == 128


class TestBmp:
    def test_24_bits_are_rounded(self, host: Board) -> None:
        source = picture("RGB")
        host.files["/sd/a.bmp"] = file_of(source, "BMP")
        image = host.module().Image("/sd/a.bmp")
        rgb = np.asarray(source)
        assert (image._pixels == pixels.words_from_rgb(*rgb.transpose(2, 0, 1))).all()
        assert image._ai is None

    def test_8_bits_are_gray_whatever_the_palette(self, host: Board) -> None:
        source = picture("L", (7, 4))
        host.files["a.bmp"] = file_of(source, "BMP")
        image = host.module().Image("a.bmp")
        assert image.format() == 4
        assert (image._pixels == np.asarray(source)).all()

    @pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
    def test_own_files_come_back(self, width: int, host: Board) -> None:
        words = np.random.default_rng(width).integers(0, 65536, (3, width))
        levels = words.astype(np.uint8)
        for image in (rgb565(words, host), gray(levels, host)):
            assert image.save("x.bmp") is image
            loaded = host.module().Image("x.bmp")
            assert loaded._format == image._format
            assert (loaded._pixels == image._pixels).all()

    def test_files_are_those_of_the_firmware(self, host: Board) -> None:
        rgb565([[0x00F8, 0xE007, 1], [2, 3, 4]], host).save("x.bmp", (0, 0, 3, 1))
        data = host.files["x.bmp"]
        assert len(data) == 66 + 8
        assert struct.unpack_from("<2sI4xI", data) == (b"BM", 74, 66)
        assert struct.unpack_from("<IiiHHII", data, 14) == (40, 3, -1, 1, 16, 3, 8)
        assert struct.unpack_from("<3I", data, 54) == (0xF800, 0x7E0, 0x1F)
        assert data[66:] == bytes([0x00, 0xF8, 0xE0, 0x07, 0x00, 0x01, 0, 0])
        with Pillow.open(io.BytesIO(data)) as shown:
            assert shown.convert("RGB").getpixel((0, 0)) == (255, 0, 0)
        gray([[9, 8]], host).save("y.BMP", roi=(1, 0, 1, 1))
        assert len(host.files["y.BMP"]) == 54 + 1024 + 4
        assert host.files["y.BMP"][54:62] == bytes([0, 0, 0, 0, 1, 1, 1, 0])

    def test_rows_and_columns_from_the_other_end(self) -> None:
        data = bytearray(write_bmp("grayscale", np.array([[1, 2], [3, 4]], np.uint8)))
        struct.pack_into("<ii", data, 18, -2, 2)
        assert read_bmp(bytes(data))[1].tolist() == [[4, 3], [2, 1]]

    def test_fields_that_the_firmware_does_not_check(self) -> None:
        data = bytearray(write_bmp("rgb565", np.array([[1, 2]], np.uint16)))
        struct.pack_into("<H", data, 26, 7)  # planes
        struct.pack_into("<I", data, 34, 0)  # image size
        data[54:66] = bytes(12)  # masks
        assert read_bmp(bytes(data))[1].tolist() == [[1, 2]]

    @pytest.mark.parametrize(
        ("at", "value", "kind", "text"),
        [
            (28, "<H", OSError, "Unsupported format!"),  # 5 bits
            (30, "<I", OSError, "Unsupported format!"),  # compression 5
            (2, "<I", ValueError, "file_corrupted_raise!"),  # file size 5
            (18, "<i", ValueError, "file_corrupted_raise!"),  # width 5000
        ],
    )
    def test_bad_files(self, at: int, value: str, kind: type[Exception], text: str) -> None:
        data = bytearray(write_bmp("rgb565", np.array([[1, 2]], np.uint16)))
        struct.pack_into(value, data, at, 5000 if at == 18 else 5)
        with pytest.raises(kind, match=text):
            read_bmp(bytes(data))

    def test_short_files(self) -> None:
        data = write_bmp("rgb565", np.array([[1, 2]], np.uint16))
        for cut in (3, 40, len(data) - 1):
            with pytest.raises(OSError, match="5"):
                read_bmp(data[:cut])

    def test_binary_images_cannot_be_saved(self, host: Board) -> None:
        with pytest.raises(RuntimeError, match="not simulated"):
            bits([[1]], host).save("a.bmp")


class TestJpeg:
    def test_colours_are_cut_not_rounded(self, host: Board) -> None:
        data = file_of(picture("RGB", (16, 16)), "JPEG", quality=95)
        host.files["a.jpg"] = data
        image = host.module().Image("a.jpg")
        with Pillow.open(io.BytesIO(data)) as decoded:
            rgb = np.asarray(decoded.convert("RGB"))
        r, g, b = pixels.fields(image._pixels)
        assert (r == rgb[..., 0] >> 3).all()
        assert (g == rgb[..., 1] >> 2).all()
        assert (b == rgb[..., 2] >> 3).all()

    def test_gray_stays_gray(self, host: Board) -> None:
        image = host.module().Image(file_of(picture("L", (9, 9)), "JPEG"), from_bytes=1)
        assert (image.format(), image.width()) == (4, 9)

    def test_from_an_open_file(self, host: Board) -> None:
        assert host.module().Image(io.BytesIO(file_of(picture("RGB"), "JPEG"))).height() == 3

    def test_progressive(self, host: Board) -> None:
        host.files["a.jpg"] = file_of(picture("RGB", (16, 16)), "JPEG", progressive=True)
        image = host.module().Image("a.jpg")
        assert host.printed == [
            "pjpeg_decode_init() failed with status 37\n",
            "Progressive JPEG files are not supported.\n",
            "Failed loading source image!\n",
        ]
        assert repr(image) == '{"w":0, "h":0, "type"="binary", "size":0}'
        assert len(host.warned) == 1

    def test_sampling(self) -> None:
        for subsampling in (0, 1, 2):
            data = bytearray(file_of(picture("RGB", (32, 16)), "JPEG", subsampling=subsampling))
            assert jpeg.status_of(bytes(data)) == 0
            data[data.index(b"\xff\xc0") + 11] = 0x41
            assert jpeg.status_of(bytes(data)) == jpeg.SAMPLING
        assert jpeg.status_of(file_of(picture("CMYK"), "JPEG")) == jpeg.COLOURS
        assert jpeg.status_of(b"\xff\xd8\xff\xe0\0\x02") == jpeg.END

    def test_damaged(self, host: Board) -> None:
        data = file_of(picture("RGB", (64, 64)), "JPEG", quality=95)
        host.files["a.jpg"] = data[: len(data) // 2]
        with pytest.raises(OSError, match="1"):
            host.module().Image("a.jpg")
        assert host.printed[-1] == "Failed loading source image!\n"
        assert host.module().Image(data[: len(data) // 2], from_bytes=True).width() == 0

    def test_save_and_load(self, host: Board) -> None:
        smooth = np.add.outer(np.arange(32) * 3, np.arange(32) * 4).astype(np.uint8)
        gray(smooth, host).save("a.jpeg", quality=90)
        loaded = host.module().Image("a.jpeg")
        assert np.abs(loaded._pixels.astype(int) - smooth).max() < 8

    def test_compress(self, host: Board) -> None:
        image = host.module().Image(size=(64, 64))
        data = image.compressed(quality=80)
        assert data.to_bytes()[:2] == b"\xff\xd8"
        assert data.size() == len(bytes(data))
        assert image.format() == 2
        data.save("x.jpg")
        assert host.files["x.jpg"] == bytes(data)
        assert image.compress() is image
        assert image.format() == 5
        with pytest.raises(OSError, match=r"^Can't compress in place!$"):
            gray([[1]], host).compress()
        with pytest.raises(OSError, match=r"^Error: 1 <= quality <= 100!$"):
            gray([[1]], host).compressed(0)

    def test_sampling_by_quality(self) -> None:
        data = np.zeros((16, 16, 3), np.uint8)
        marks = [jpeg.encode(data, q) for q in (60, 59, 36, 35)]
        assert [d[d.index(b"\xff\xc0") + 11] for d in marks] == [0x11, 0x21, 0x21, 0x22]


def test_names_and_formats(host: Board) -> None:
    image = rgb565([[1]], host)
    image.save("a.png")
    image.save("noextension")
    image.save("a.ppm")
    assert host.files == {}
    with pytest.raises(OSError, match=r"^Image is not PGM!$"):
        image.save("a.pgm")
    with pytest.raises(OSError, match=r"^Image is not BMP!$"):
        image.compressed().save("a.bmp")
    with pytest.raises(TypeError, match="to str implicitly"):
        image.save(5)


def test_operands_from_files(host: Board) -> None:
    gray([[5, 6]], host).save("a.bmp")
    assert gray([[1, 250]], host).add("a.bmp")[:] == (6, 255)
    with pytest.raises(OSError, match=r"^Images not equal!$"):
        gray([[1]], host).add("a.bmp")
    host.files["a.jpg"] = b"\xff\xd8"
    with pytest.raises(OSError, match=r"^Unsupported format!$"):
        gray([[1]], host).add("a.jpg")
