"""MaixPy v1: the display. Integer colours are RGB565 with the bytes swapped, as the constants here."""

from image import Image

BLACK: int
NAVY: int
DARKGREEN: int
DARKCYAN: int
MAROON: int
PURPLE: int
OLIVE: int
LIGHTGREY: int
DARKGREY: int
BLUE: int
GREEN: int
CYAN: int
RED: int
MAGENTA: int
YELLOW: int
WHITE: int
ORANGE: int
GREENYELLOW: int
PINK: int
XY_RLUD: int
YX_RLUD: int
XY_LRUD: int
YX_LRUD: int
XY_RLDU: int
YX_RLDU: int
XY_LRDU: int
YX_LRDU: int

def init(
    type: int = 1,
    freq: int = 15000000,
    color: int | tuple[int, int, int] = 0,
    width: int = 320,
    height: int = 240,
    invert: int = 0,
    offset_w0: int = 0,
    offset_h0: int = 0,
    offset_w1: int = 0,
    offset_h1: int = 0,
    rst: int = 37,
    dcx: int = 38,
    ss: int = 36,
    clk: int = 39,
    *,
    lcd_type: int = 0,
) -> None: ...
def deinit() -> None: ...
def width() -> int: ...
def height() -> int: ...
def type() -> int: ...
def freq(hz: int = ..., /) -> int: ...
def display(img: Image, roi: tuple[int, int, int, int] = ..., oft: tuple[int, int] = ...) -> None: ...
def clear(color: int | tuple[int, int, int] = 0, /) -> None: ...
def draw_string(x: int, y: int, text: str, color: int = ..., background: int = 0, /) -> None: ...
def fill_rectangle(x: int, y: int, w: int, h: int, color: int | tuple[int, int, int], /) -> None: ...
def rotation(quarters: int = ..., /) -> int: ...
def mirror(on: bool = ..., /) -> int: ...
def direction(direction: int, /) -> None: ...
def bgr_to_rgb(on: bool, /) -> None: ...
def register(address: int, data: int | list[int], /) -> None: ...
def set_backlight(level: int, /) -> None: ...
def get_backlight() -> None: ...
