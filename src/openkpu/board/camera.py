"""What the camera sees: pictures, an animated GIF, a video, a camera of this computer, or what a watcher sends.

Every snapshot takes the next picture; after the last one the first follows. A picture that does not have the size of
the frame is scaled, keeping its shape, until it just covers the frame, and its middle is cut out. Windowing then cuts
the window out of the frame, as the sensor chip does.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import BoardError
from openkpu.extras import require

Picture = NDArray[np.uint8]
"""RGB888, (height, width, 3)."""

PICTURES: Final = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".webp", ".tif", ".tiff"})
VIDEOS: Final = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})
PATTERN: Final = "pattern"
LIVE: Final = "live"
MAX_PIXELS: Final = 64_000_000
CACHE_BYTES: Final = 64 * 1024 * 1024


class Source(Protocol):
    """Where pictures come from."""

    def next(self) -> tuple[object, Picture | None]:
        """The next picture's key (None: do not keep it), and the picture; None when the key says that it is known."""
        ...

    def load(self, key: object) -> Picture:
        """The picture of a key."""
        ...


def unreadable(what: str, why: str) -> BoardError:
    """E610 for a camera picture."""
    return BoardError(
        "E610",
        f"the camera cannot see {what}",
        where="option camera",
        why=why,
        fix="Give a picture, a folder of pictures, an animated GIF, a video, device:N, or 'pattern'.",
    )


class Stills:
    """Picture files in turn; every frame of an animated file counts as one."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        self._keys: list[tuple[Path, int]] = [(f, i) for f in files for i in range(_frames(f))]
        self._position = 0

    def next(self) -> tuple[object, Picture | None]:
        """The next one's key."""
        key = self._keys[self._position % len(self._keys)]
        self._position += 1
        return key, None

    def load(self, key: object) -> Picture:
        """Read it."""
        assert isinstance(key, tuple)
        return _open(key[0], key[1])


def _frames(path: Path) -> int:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return int(getattr(picture, "n_frames", 1))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise unreadable(str(path), str(error)) from error


def _open(path: Path, frame: int) -> Picture:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise unreadable(str(path), f"{picture.width}x{picture.height} pixels; the limit is {MAX_PIXELS}")
            picture.seek(frame)
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise unreadable(str(path), str(error)) from error


class Pattern:
    """Colour bars over a grey ramp, for scripts that only need some picture."""

    def next(self) -> tuple[object, Picture | None]:
        """Always the same."""
        return PATTERN, None

    def load(self, key: object) -> Picture:
        """Draw it."""
        bars = np.array([[i & 2, i & 4, i & 1] for i in (7, 6, 5, 4, 3, 2, 1, 0)], bool) * np.uint8(255)
        picture = np.repeat(bars[None], 240, 0).repeat(40, 1).astype(np.uint8)
        picture[180:] = np.linspace(0, 255, 320).astype(np.uint8)[None, :, None]
        return picture


class Video:
    """A video file (from the start again at its end) or a camera of this computer, by OpenCV."""

    def __init__(self, what: str | int) -> None:
        self._cv2 = require("cv2", "video")
        self._what = what
        self._capture = self._cv2.VideoCapture(what)
        if not self._capture.isOpened():
            raise unreadable(f"device {what}" if isinstance(what, int) else str(what), "OpenCV cannot open it")

    def next(self) -> tuple[object, Picture | None]:
        """The next picture."""
        good, bgr = self._capture.read()
        if not good and isinstance(self._what, str):
            self._capture.release()
            self._capture = self._cv2.VideoCapture(self._what)
            good, bgr = self._capture.read()
        if not good:
            raise unreadable(str(self._what), "it gave no picture")
        return None, np.ascontiguousarray(np.asarray(bgr)[:, :, ::-1])

    def load(self, key: object) -> Picture:
        """No picture is kept."""
        raise KeyError(key)


class Live:
    """The picture that a watcher sent last; a snapshot waits for the first one."""

    WAIT_S: Final = 60.0

    def __init__(self) -> None:
        self._arrived = threading.Event()
        self._picture: Picture | None = None

    def put(self, picture: Picture) -> None:
        """Take a new picture."""
        self._picture = picture
        self._arrived.set()

    def next(self) -> tuple[object, Picture | None]:
        """The picture that arrived last."""
        if not self._arrived.wait(self.WAIT_S):
            raise unreadable("a live picture", f"none came within {self.WAIT_S:.0f} s")
        return None, self._picture

    def load(self, key: object) -> Picture:
        """No picture is kept."""
        raise KeyError(key)


def source_of(camera: str | list[str] | None) -> Source:
    """Make the source for the option ``camera``; E610 when it is none."""
    if camera is None or camera == PATTERN:
        return Pattern()
    if camera == LIVE:
        return Live()
    if isinstance(camera, list):
        return Stills(_existing([Path(c) for c in camera]))
    if camera.startswith("device:") and camera[7:].isascii() and camera[7:].isdigit():
        return Video(int(camera[7:]))
    path = Path(camera)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES and p.is_file())
        if not files:
            raise unreadable(camera, "the folder has no pictures")
        return Stills(files)
    _existing([path])
    return Video(str(path)) if path.suffix.lower() in VIDEOS else Stills([path])


def _existing(files: list[Path]) -> list[Path]:
    if not files:
        raise unreadable("anything", "no picture was given")
    for f in files:
        if not f.is_file():
            raise unreadable(str(f), "there is no such file")
    return files


def fit(picture: Picture, width: int, height: int) -> Picture:
    """Scale a picture, keeping its shape, until it just covers width x height, and cut out its middle."""
    from PIL import Image

    h, w = picture.shape[:2]
    if (w, h) == (width, height):
        return picture
    scale = max(width / w, height / h)
    size = max(width, round(w * scale)), max(height, round(h * scale))
    scaled = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width])


class Camera:
    """Gives frames of the size that the script asked for."""

    def __init__(self, camera: str | list[str] | None) -> None:
        self.source: Source = source_of(camera)
        self._other: Source = Live()
        self._always_live = isinstance(self.source, Live)
        self._cache: OrderedDict[Any, Picture] = OrderedDict()
        self._cached = 0

    def use_live(self, live: bool) -> None:
        """Switch between the pictures of the option ``camera`` and those that a watcher sends."""
        if not self._always_live and live != isinstance(self.source, Live):
            self.source, self._other = self._other, self.source

    def frame(self, width: int, height: int) -> Picture:
        """Return the next frame, uint8 (height, width, 3), not to be changed."""
        key, picture = self.source.next()
        if key is None:
            assert picture is not None
            return fit(picture, width, height)
        place = (key, width, height)
        known = self._cache.get(place)
        if known is None:
            known = self._cache[place] = fit(self.source.load(key), width, height)
            self._cached += known.nbytes
            while self._cached > CACHE_BYTES and len(self._cache) > 1:
                self._cached -= self._cache.popitem(last=False)[1].nbytes
        else:
            self._cache.move_to_end(place)
        return known
