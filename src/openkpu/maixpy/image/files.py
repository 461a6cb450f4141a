"""Loading, saving and compressing. Source: OpenMV's ``imlib.c`` and MaixPy-v1 ``py_image.c``, ``picojpeg_util.c``."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from openkpu.maixpy.image import jpeg
from openkpu.maixpy.image.arguments import Arguments, check, get_int, get_items, get_text
from openkpu.maixpy.image.bmp import read_bmp, write_bmp
from openkpu.maixpy.image.core import BINARY, GRAYSCALE, JPEG, RGB565, ImageCore
from openkpu.maixpy.image.host import Host

_EPERM, _EINVAL = 1, 22


class Files(ImageCore):
    """What turns an image into a file."""

    __slots__ = ()

    def save(self, *args: Any, **kw: Any) -> Self:
        """Write a file: ``save(path, roi, quality=50)``. ``.bmp`` and ``.jpg`` only; other names write nothing."""
        a = Arguments(args, kw, 1)
        path = _text(a.values[0])
        x, y, w, h = a.roi(1, self._w, self._h)
        quality = _quality(a, 2)
        kind = file_kind(path, self._format)
        if kind == "bmp":
            if self._format == BINARY:
                raise RuntimeError("openkpu board: save() of a binary image as BMP is not simulated")
            self._host.write(path, write_bmp(self._format, self._pixels[y : y + h, x : x + w]))
        elif kind == "jpg":
            self._host.write(path, self._encoded(quality))
        return self

    def compress(self, *args: Any, **kw: Any) -> Self:
        """Turn the image itself into a JPEG: ``compress(quality=50)``."""
        self._need_mutable(also_bayer=True)
        data = self._encoded(_quality(Arguments(args, kw), 0))
        check(len(data) <= len(self._raw()), "Can't compress in place!")
        self._pixels, self._format = np.frombuffer(data, np.uint8).copy(), JPEG
        return self._wrote("compress")

    def compressed(self, *args: Any, **kw: Any) -> Self:
        """Return a JPEG of the image: ``compressed(quality=50)``."""
        self._need_mutable(also_bayer=True)
        data = np.frombuffer(self._encoded(_quality(Arguments(args, kw), 0)), np.uint8).copy()
        block = self._allocate(data.size, "compressed image")
        return type(self)(self._host, JPEG, data, size=(self._w, self._h), blocks=[block])

    def _encoded(self, quality: int) -> bytes:
        if self._format == JPEG:
            return self._raw()
        return jpeg.encode(self.to_rgb888() if self._format == RGB565 else self._gray(), quality)


def _quality(a: Arguments, position: int) -> int:
    quality = a.integer(position, "quality", 50)
    check(1 <= quality <= 100, "Error: 1 <= quality <= 100!")
    return quality


def _text(value: object) -> str:
    text = get_text(value)
    return text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")


def file_kind(path: str, image_format: str) -> str:
    """Return ``bmp``, ``jpg`` or nothing by a name's end; ``OSError`` when name and format do not go together."""
    end = path.lower()
    if end.endswith((".jpg", ".jpeg")) and len(path) >= 4:
        return "jpg"
    needs = {
        ".bmp": ((BINARY, GRAYSCALE, RGB565), "BMP"),
        ".ppm": ((RGB565,), "PPM"),
        ".pgm": ((GRAYSCALE,), "PGM"),
        ".raw": (("bayer",), "BAYER"),
    }.get(end[-4:])
    if needs is None:
        return ""
    check(image_format in needs[0], f"Image is not {needs[1]}!")
    return "bmp" if end.endswith(".bmp") else ""


def make_image(image_class: Any, host: Host, a: Arguments) -> Any:
    """Do what calling ``image.Image(source, copy_to_fb=0, from_bytes=0, size=(w, h))`` does.

    All three options sit at the same position, so that a second positional argument always ends in a ``TypeError``.
    """
    to_frame_buffer = a.integer(1, "copy_to_fb", 0) > 0
    from_bytes = a.integer(1, "from_bytes", 0) > 0
    width, height = -1, -1
    if a.has(1, "size"):
        width, height = (get_int(v) for v in get_items(a.get(1, "size"), 2))
    if len(a.values) >= (2 if width > 0 else 1):
        kind, pixels = _load(host, a.values[0], from_bytes)
    else:
        if not (width > 0 and height > 0):
            width, height = host.lcd_size
        kind, pixels = RGB565, None
    seed = image_class(host, kind, np.zeros((0, 0), np.uint16 if kind == RGB565 else np.uint8))
    if pixels is not None and not pixels.size:
        return seed
    if to_frame_buffer:
        return image_class(host, kind, np.zeros((height, width), np.uint16) if pixels is None else pixels)
    return seed._new(width, height) if pixels is None else seed._of_pixels(pixels)


def _load(host: Host, source: object, from_bytes: bool) -> tuple[str, NDArray[Any]]:
    """Read a path, bytes or an open file; an empty binary image when picojpeg cannot read it."""
    path = None
    if isinstance(source, str | bytes) and from_bytes:
        data = source.encode("utf-8", "surrogateescape") if isinstance(source, str) else source
    elif isinstance(source, str | bytes):
        path = _text(source)
        data = host.open(path)
    elif hasattr(source, "read"):
        data = bytes(source.read())
    else:
        raise OSError(_EINVAL)
    if data[:2] == b"BM":
        check(path is not None, "Not support")
        kind, pixels = read_bmp(data)
    elif data[:2] == b"\xff\xd8":
        kind, pixels = _read_jpeg(host, data, path is None and from_bytes)
    else:
        raise ValueError("format not supported")
    if path is not None:
        file_kind(path, kind)
    return kind, pixels


def _read_jpeg(host: Host, data: bytes, from_bytes: bool) -> tuple[str, NDArray[Any]]:
    nothing = BINARY, np.zeros((0, 0), np.uint8)
    status = jpeg.status_of(data)
    if status:
        host.print(f"pjpeg_decode_init() failed with status {status}\n")
        if status == jpeg.MODE:
            host.print("Progressive JPEG files are not supported.\n")
            host.warn("save the picture as a baseline JPEG: the board cannot read a progressive one")
    else:
        try:
            return jpeg.decode(data)
        except (OSError, SyntaxError, ValueError):
            host.print("pjpeg_decode_mcu() failed with status 28\n")
    host.print("Failed loading source image!\n")
    if not status and not from_bytes:  # from bytes the firmware forgets the error
        raise OSError(_EPERM)
    return nothing
