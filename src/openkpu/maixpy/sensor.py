"""The module ``sensor``: the camera as the firmware drives it."""

from __future__ import annotations

import errno
import types
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.board import budget
from openkpu.board.device import Device
from openkpu.maixpy import mp
from openkpu.maixpy.image.core import ImageCore

BAYER, RGB565, YUV422, GRAYSCALE, JPEG = 1, 2, 3, 4, 5
SIZES: Final[dict[str, tuple[int, int, int]]] = {
    "QQCIF": (1, 88, 72),
    "QCIF": (2, 176, 144),
    "CIF": (3, 352, 288),
    "QQSIF": (4, 88, 60),
    "QSIF": (5, 176, 120),
    "SIF": (6, 352, 240),
    "QQQQVGA": (7, 40, 30),
    "QQQVGA": (8, 80, 60),
    "QQVGA": (9, 160, 120),
    "QVGA": (10, 320, 240),
    "VGA": (11, 640, 480),
    "HQQQVGA": (12, 60, 40),
    "HQQVGA": (13, 120, 80),
    "HQVGA": (14, 240, 160),
    "B64X32": (15, 64, 32),
    "B64X64": (16, 64, 64),
    "B128X64": (17, 128, 64),
    "B128X128": (18, 128, 128),
    "B240X240": (19, 240, 240),
    "LCD": (20, 128, 160),
    "QQVGA2": (21, 128, 160),
    "WVGA": (22, 720, 480),
    "WVGA2": (23, 752, 480),
    "SVGA": (24, 800, 600),
    "SXGA": (25, 1280, 1024),
    "UXGA": (26, 1600, 1200),
}
"""Name -> (number, width, height)."""
_BY_NUMBER: Final = {number: (w, h) for number, w, h in SIZES.values()}
SENSOR_ID: Final = 0x7742
"""OV7740, the sensor of most kits."""
TIMEOUT_US: Final = 300_000.0


class Functions:
    """The module's functions; every public method is one."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._found = False
        self._dual = False
        self._format = 0
        self._size: tuple[int, int] | None = None
        self._window = (0, 0, 0, 0)
        self._blocks: list[int] = []
        self._running = False
        self._mirror = [False, False]
        self._mounted: list[bool] | None = None
        self._frames: dict[tuple[int, int, int, int], ImageCore] = {}
        self._turn = 0

    def reset(self, *_: Any, **kwargs: Any) -> None:
        """Find and set up the camera."""
        self._dual = bool(kwargs.get("dual_buff", False))
        self._release()
        self._found, self._format, self._size, self._running = True, 0, None, False
        self._device.print("[MAIXPY]: find ov7740\n")

    def binocular_reset(self, *_: Any, **__: Any) -> None:
        """There is one camera only."""
        self._device.warn("the virtual board has one camera: binocular_reset finds no second one")
        raise OSError("Reset Failed")

    def deinit(self) -> None:
        """Free the frame buffers."""
        self._release()
        self._found = False

    def set_pixformat(self, *args: Any, **_: Any) -> bool:
        """RGB565, YUV422 (which is what RGB565 is, from most sensors) or GRAYSCALE."""
        if len(args) != 1:
            raise ValueError("arg err")
        value = mp.need_int(args[0])
        if value not in (RGB565, YUV422, GRAYSCALE):
            raise OSError("Pixel format is not supported!")
        self._format = value
        return True

    def set_framesize(self, *args: Any, **_: Any) -> None:
        """Set the size of the frames and allocate their buffers."""
        if len(args) != 1:
            raise ValueError("arg err")
        size = _BY_NUMBER.get(mp.need_int(args[0]))
        if size is None:
            raise mp.os_error(errno.EIO)
        if size != self._size:
            self._release()
            lines = budget.camera_lines(*size, dual=self._dual)
            for line in lines:
                block = self._device.malloc(line.bytes, line.what)
                if block is None:
                    self._release()
                    self._device.note(
                        f"no memory for the camera buffers: {line.what} needs {line.bytes:,} B, "
                        f"{self._device.system.largest:,} B are free in one piece"
                    )
                    raise mp.os_error(errno.ENOMEM)
                self._blocks.append(block)
        self._size = size
        self._window = (0, 0, *size)
        self._running = True

    def set_windowing(self, *args: Any) -> bool:
        """Take only a part of the frame."""
        mp.positional(args, 1, 1)
        width, height = self._size or (0, 0)
        values = [mp.need_int(v) for v in mp.need_array(args[0])]
        if len(values) == 4:
            x, y, w, h = values
        elif len(values) == 2:
            w, h = values
            x, y = width // 2 - w // 2, height // 2 - h // 2
        else:
            raise ValueError("The tuple/list must either be (x, y, w, h) or (w, h)")
        if w < 8 or h < 8:
            raise ValueError("The selected window is too small")
        if x < 0 or x + w > width or y < 0 or y + h > height:
            raise ValueError("The selected window is outside the bounds of the frame")
        if w % 8 or h % 8:
            raise ValueError("value must be multiple of 8")
        self._window = (x, y, w, h)
        return True

    def snapshot(self, *_: Any, **__: Any) -> ImageCore:
        """Wait for the next frame; every snapshot is in the same memory (two, in turn, with dual_buff)."""
        if not self._found:
            raise TypeError("not found sensor")
        self._device.before_snapshot()
        return self._take()

    def skip_frames(self, *args: Any, **kwargs: Any) -> None:
        """Take frames for a number or a time (300 ms) and forget them."""
        clock = self._device.clock
        end = clock.us + 1000 * mp.need_int(kwargs.get("time", 300))
        count = mp.need_int(args[0]) if args else None
        done = 0
        while (done < count if count is not None else clock.us < end) and not (
            count is not None and "time" in kwargs and clock.us >= end
        ):
            if self._format == 0 or self._size is None:
                return
            clock.wait_for_frame(dual=self._dual)
            done += 1
        self._device.poll()

    def _take(self) -> ImageCore:
        if self._size is None or not self._format:
            raise RuntimeError("Not init!")
        d = self._device
        if not self._running:
            d.clock.sleep(TIMEOUT_US)
            d.note("sensor.run(0) stopped the camera")
            raise RuntimeError("Sensor timeout!")
        d.clock.wait_for_frame(dual=self._dual)
        d.poll()
        x, y, w, h = self._window
        picture = self._mounted_picture(d.camera.frame(*self._size))[y : y + h, x : x + w]
        if d.config.send_camera:
            pixels = np.ascontiguousarray(picture).tobytes()
            d.send("camera", pixels, w=w, h=h, n=d.snapshots, us=d.clock.us, frame=self._size)
        return self._fill(picture)

    def _mounted_picture(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Flip as the script wants it, relative to how it was set at the first snapshot (see ``camera_fixed``)."""
        if self._mounted is None:
            self._mounted = [False, False] if self._device.config.camera_fixed else list(self._mirror)
            if any(self._mounted):
                self._device.note(
                    "the script flips the picture (set_hmirror or set_vflip): the camera is taken to be mounted that "
                    "way round, and the picture stays as it is"
                )
        if self._mirror[0] != self._mounted[0]:
            picture = picture[:, ::-1]
        if self._mirror[1] != self._mounted[1]:
            picture = picture[::-1]
        return picture

    def _fill(self, picture: NDArray[np.uint8]) -> ImageCore:
        self._turn = (self._turn + 1) % 2 if self._dual else 0
        h, w = picture.shape[:2]
        key = (self._turn, w, h, int(self._format == GRAYSCALE))
        frame = self._frames.get(key)
        image_class = self._device.image_class
        if self._format == GRAYSCALE:
            gray = (picture.astype(np.uint16) @ np.array([77, 150, 29], np.uint16) >> 8).astype(np.uint8)
            if frame is None:
                frame = self._frames[key] = image_class.from_gray(self._device, gray)
            else:
                frame._pixels[...] = gray
        elif frame is None:
            frame = self._frames[key] = image_class.from_rgb888(self._device, np.ascontiguousarray(picture))
        else:
            frame.load_rgb888(picture)
        return frame._alias()

    def _release(self) -> None:
        for block in self._blocks:
            self._device.release(block)
        self._blocks = []
        self._frames = {}

    # -- settings -------------------------------------------------------------------------------------------------

    def run(self, *args: Any) -> bool:
        """Start (1) or stop (0) the camera."""
        mp.positional(args, 1, 1)
        self._running = bool(mp.need_int(args[0]))
        return True

    def sleep(self, *args: Any) -> None:
        """Sleep or wake up."""
        mp.positional(args, 1, 1)
        self._running = not args[0]

    def shutdown(self, *args: Any) -> None:
        """Switch off or on."""
        mp.positional(args, 1, 1)
        self._running = not args[0]

    def flush(self) -> None:
        """Forget frames that are waiting."""

    def set_hmirror(self, *args: Any) -> None:
        """Mirror left and right."""
        mp.positional(args, 1, 1)
        self._mirror[0] = bool(args[0])

    def set_vflip(self, *args: Any) -> None:
        """Turn upside down."""
        mp.positional(args, 1, 1)
        self._mirror[1] = bool(args[0])

    def _accept(self, *args: Any, **_: Any) -> bool:
        mp.positional(args, 1)
        return True

    def _accept_quietly(self, *args: Any, **_: Any) -> None:
        mp.positional(args, 1)

    set_brightness = set_contrast = set_saturation = set_gainceiling = set_colorbar = _accept
    set_special_effect = set_lens_correction = _accept
    set_auto_gain = set_auto_exposure = set_auto_whitebal = set_jb_quality = _accept_quietly

    def set_framerate(self, *args: Any) -> None:
        """Accept the frame rates that the firmware knows; the virtual camera stays at 30."""
        mp.positional(args, 1, 1)
        if args[0] not in (2, 8, 15, 25, 30, 60):
            raise ValueError("Invalid framerate")

    def get_gain_db(self) -> float:
        """The gain."""
        return 0.0

    def get_exposure_us(self) -> int:
        """The exposure."""
        return 10_000

    def get_rgb_gain_db(self) -> tuple[float, float, float]:
        """The white balance."""
        return 0.0, 0.0, 0.0

    def width(self) -> int:
        """Width of the frame, not of the window."""
        return (self._size or (0, 0))[0]

    def height(self) -> int:
        """Height of the frame, not of the window."""
        return (self._size or (0, 0))[1]

    def get_fb(self) -> ImageCore | None:
        """The last frame, or None."""
        return next((f._alias() for f in reversed(list(self._frames.values()))), None)

    def get_id(self) -> int:
        """The sensor's number."""
        return SENSOR_ID


def build(device: Device) -> types.ModuleType:
    """Make the module for one board."""
    f = Functions(device)
    members: dict[str, Any] = {n: getattr(f, n) for n in dir(f) if not n.startswith("_")}
    members |= {name: number for name, (number, _, _) in SIZES.items()}
    members |= {"BAYER": BAYER, "RGB565": RGB565, "YUV422": YUV422, "GRAYSCALE": GRAYSCALE, "JPEG": JPEG}
    members |= {
        "OV9650": 0x96,
        "OV2640": 0x26,
        "OV7725": 0x77,
        "MT9V034": 0x13,
        "LEPTON": 0x54,
        "NORMAL": 0,
        "NEGATIVE": 1,
    }
    return mp.module("sensor", "The camera.", members)
