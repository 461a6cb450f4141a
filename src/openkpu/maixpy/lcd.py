"""The module ``lcd``: the display, in the script's coordinates, however it may be mounted."""

from __future__ import annotations

import errno
import types
from typing import Any, Final

import numpy as np

from openkpu.board.budget import lcd_line
from openkpu.board.device import Device
from openkpu.board.panel import Panel, color_of
from openkpu.maixpy import mp
from openkpu.maixpy.image.core import MUTABLE, ImageCore
from openkpu.maixpy.image.host import Font, context_of

COLORS: Final = {
    "BLACK": 0,
    "NAVY": 3840,
    "DARKGREEN": 57347,
    "DARKCYAN": 61187,
    "MAROON": 120,
    "PURPLE": 3960,
    "OLIVE": 57467,
    "LIGHTGREY": 6342,
    "DARKGREY": 61307,
    "BLUE": 7936,
    "GREEN": 57351,
    "CYAN": 65287,
    "RED": 248,
    "MAGENTA": 8184,
    "YELLOW": 57599,
    "WHITE": 65535,
    "ORANGE": 8445,
    "GREENYELLOW": 58799,
    "PINK": 8184,
}
DIRECTIONS: Final = {
    name: 32 * i
    for i, name in enumerate(("XY_RLUD", "YX_RLUD", "XY_LRUD", "YX_LRUD", "XY_RLDU", "YX_RLDU", "XY_LRDU", "YX_LRDU"))
}
DEFAULT_HZ: Final = 15_000_000
TEXT_HEIGHT: Final = 12
_TYPES: Final = (0, 1, 2, 3, 4, 5)
_CUBE: Final = 5


class Functions:
    """The module's functions; every public method is one."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._type = 0
        self._hz = DEFAULT_HZ
        self._rotation = 0
        self._mirror = False
        self._block: int | None = None
        self._size = (0, 0)

    def init(self, *args: Any, **kwargs: Any) -> None:
        """Start the display."""
        names = (
            "type",
            "freq",
            "color",
            "width",
            "height",
            "invert",
            "offset_w0",
            "offset_h0",
            "offset_w1",
            "offset_h1",
        )
        spec: dict[str, Any] = dict.fromkeys((*names, "rst", "dcx", "ss", "clk", "lcd_type"), 0)
        spec |= {"type": 1, "freq": DEFAULT_HZ, "color": 0, "width": 320, "height": 240}
        a = mp.arguments(spec, args, kwargs)
        self.deinit()
        kind = mp.need_int(a["type"])
        if kind == 0:
            return
        if kind not in _TYPES:
            raise ValueError("type error")
        size = (240, 240) if kind == _CUBE else (mp.need_int(a["width"]), mp.need_int(a["height"]))
        line = lcd_line(*size)
        self._block = self._device.malloc(line.bytes, line.what)
        if self._block is None:
            raise mp.os_error(errno.ENOMEM)
        self._type, self._hz, self._size = kind, mp.need_int(a["freq"]), size
        self._rotation, self._mirror = 0, False
        self._device.panel = Panel(*size)
        self._device.lcd_size = size
        self.clear(a["color"])

    def deinit(self) -> None:
        """Switch the display off."""
        if self._block is not None:
            self._device.release(self._block)
        self._block, self._type = None, 0

    def width(self) -> int | None:
        """Width in the current rotation."""
        panel = self._panel()
        return None if panel is None else panel.width

    def height(self) -> int | None:
        """Height in the current rotation."""
        panel = self._panel()
        return None if panel is None else panel.height

    def type(self) -> int | None:
        """The kind of display."""
        return self._type or None

    def freq(self, *args: Any) -> int:
        """The clock of its bus."""
        mp.positional(args, 0, 1)
        if args:
            self._hz = mp.need_int(args[0])
        return self._hz

    def set_backlight(self, *args: Any) -> None:
        """Nothing, as in the firmware."""
        mp.positional(args, 1, 1)

    def get_backlight(self) -> None:
        """Nothing, as in the firmware."""

    def display(self, *args: Any, **kwargs: Any) -> None:
        """Show an image, or its part ``roi``: in the middle, or at ``oft``."""
        mp.positional(args, 1)
        img = args[0]
        if not isinstance(img, ImageCore):
            raise TypeError(f"Can't convert {type(img).__name__} to Image")
        if img._format not in MUTABLE:
            raise OSError("Image format is not supported.")
        x, y, w, h = self._roi(img, args, kwargs)
        offset = kwargs.get("oft", args[2] if len(args) > 2 else None)
        left, top = (-1, -1) if offset is None else (mp.need_int(v) for v in mp.need_array(offset, 2))
        panel = self._panel()
        if panel is None:
            self._device.warn("lcd.display before lcd.init shows nothing")
            return
        self._device.before_display()
        if left < 0 or top < 0:
            x, w, left = _middle(x, w, panel.width)
            y, h, top = _middle(y, h, panel.height)
            panel.pixels[:top] = panel.pixels[top + h :] = 0
            panel.pixels[:, :left] = panel.pixels[:, left + w :] = 0
        rgb = img.to_rgb888()[y : y + h, x : x + w]
        panel.put(left, top, rgb)
        self._shown(panel.width * panel.height if offset is None else w * h, display=True)

    def _roi(self, img: ImageCore, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int, int, int]:
        value = kwargs.get("roi", args[1] if len(args) > 1 else None)
        if value is None:
            return 0, 0, img._w, img._h
        x, y, w, h = (mp.need_int(v) for v in mp.need_array(value, 4))
        if w < 1 or h < 1:
            raise OSError("Invalid ROI dimensions!")
        if x >= img._w or y >= img._h or x + w <= 0 or y + h <= 0:
            raise OSError("ROI does not overlap on the image!")
        left, top = max(x, 0), max(y, 0)
        return left, top, min(x + w, img._w) - left, min(y + h, img._h) - top

    def clear(self, *args: Any, **kwargs: Any) -> None:
        """Fill the display with a colour (default black)."""
        color = args[0] if args else kwargs.get("color", 0)
        panel = self._panel()
        if panel is not None:
            panel.fill(0, 0, panel.width, panel.height, self._color(color))
            self._shown(panel.width * panel.height)

    def draw_string(self, *args: Any) -> None:
        """Write text of 8x12 pixels a character, cut off at the right edge."""
        mp.positional(args, 3, 5)
        panel = self._panel()
        if panel is None:
            raise ValueError("not init")
        x, y = (mp.need_int(v) & 0xFFFF for v in args[:2])
        text = args[2]
        if not isinstance(text, str):
            raise TypeError(f"can't convert '{type(text).__name__}' object to str implicitly")
        front = mp.need_int(args[3]) if len(args) > 3 else COLORS["RED"]
        back = mp.need_int(args[4]) if len(args) > 4 else COLORS["BLACK"]
        width = self._size[0]
        raw = text.encode()
        if x >= width or y > width - 16:
            return
        count = min(len(raw), (width - x) // 8)
        if count <= 0:
            return
        rgb = np.empty((TEXT_HEIGHT, 8 * count, 3), np.uint8)
        strip = self._device.image_class.from_rgb888(self._device, rgb)
        strip._pixels[...] = back & 0xFFFF
        context = context_of(self._device)
        font, context.font = context.font, Font()  # a font that the script loaded is for images only
        try:
            cut = raw[:count].decode("utf-8", "replace")
            strip.draw_string(0, 0, cut, color=front, scale=1, x_spacing=0, y_spacing=0, mono_space=1)
        finally:
            context.font = font
        panel.put(x, y, strip.to_rgb888())
        self._shown(8 * count * TEXT_HEIGHT)

    def fill_rectangle(self, *args: Any) -> None:
        """Fill a rectangle x, y, w, h; its far corner must lie on the display."""
        mp.positional(args, 5, 5)
        panel = self._panel()
        if panel is None:
            raise ValueError("not init")
        x, y, w, h = (mp.need_int(v) & 0xFFFF for v in args[:4])
        color = self._color(args[4])
        width, height = self._size
        if x >= width or y >= height or x + w >= width or y + h >= height:
            raise ValueError("arg error")
        panel.fill(x, y, x + w, y + h, color)
        self._shown(w * h)

    def rotation(self, *args: Any) -> int:
        """Turn by quarters; 1 and 3 swap width and height."""
        mp.positional(args, 0, 1)
        if args:
            value = mp.need_int(args[0])
            if not 0 <= value <= 3:
                raise ValueError("value:[0,3]")
            panel = self._panel()
            if panel is not None and (value ^ self._rotation) & 1:
                panel.turn()
                self._device.lcd_changed()
            self._rotation = value
        return self._rotation

    def mirror(self, *args: Any) -> int:
        """Mirror the display, which a camera's picture of it would show; the script's pixels stay as they are."""
        mp.positional(args, 0, 1)
        if args:
            self._mirror = bool(args[0])
        return int(self._mirror)

    def direction(self, *args: Any) -> None:
        """How rows and columns run on the glass; accepted."""
        mp.positional(args, 1, 1)
        mp.need_int(args[0])

    def bgr_to_rgb(self, *args: Any) -> None:
        """Swap red and blue on the glass; accepted."""
        if not args:
            raise ValueError("True or False")

    def register(self, *args: Any) -> None:
        """Write a register of the display; accepted."""
        mp.positional(args, 2, 2)

    def _panel(self) -> Panel | None:
        return self._device.panel if self._type else None

    def _color(self, value: Any) -> int:
        if isinstance(value, int):
            return value & 0xFFFF
        r, g, b = (mp.need_int(v) for v in mp.need_array(value, 3))
        return color_of((r, g, b))

    def _shown(self, pixels: int, *, display: bool = False) -> None:
        """Account for the transfer, a byte a clock (the bus has 8 lines)."""
        self._device.clock.spend(2 * pixels / max(self._hz, 1) * 1e6)
        self._device.lcd_changed(display=display)
        self._device.poll()


def _middle(start: int, size: int, room: int) -> tuple[int, int, int]:
    """Cut or pad one axis: (start in the image, size, start on the display)."""
    if size > room:
        return start + (size - room) // 2, room, 0
    return start, size, (room - size) // 2


def build(device: Device) -> types.ModuleType:
    """Make the module for one board."""
    f = Functions(device)
    members: dict[str, Any] = {n: getattr(f, n) for n in dir(f) if not n.startswith("_")}
    return mp.module("lcd", "The display.", members | COLORS | DIRECTIONS)
