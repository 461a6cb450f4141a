"""The namespace of the ``image`` module. Source: MaixPy-v1 ``py_image.c``, ``font.c``."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from openkpu.maixpy.image import colors
from openkpu.maixpy.image.affine import get_affine_transform, warp_affine_ai
from openkpu.maixpy.image.arguments import Arguments, get_int
from openkpu.maixpy.image.files import make_image
from openkpu.maixpy.image.host import Font, Host, context_of
from openkpu.maixpy.image.image import Image, image_class
from openkpu.maixpy.image.missing import FUNCTIONS, refuse

ASCII, UTF8 = 0, 2
CONSTANTS: Final = {"ASCII": ASCII, "UTF8": UTF8}
"""What every firmware has."""
_SEARCHES: Final = {
    "SEARCH_EX": 0,
    "SEARCH_DS": 1,
    "EDGE_CANNY": 0,
    "EDGE_SIMPLE": 1,
    "CORNER_FAST": 0,
    "CORNER_AGAST": 1,
}
_TAGS: Final = ("TAG16H5", "TAG25H7", "TAG25H9", "TAG36H10", "TAG36H11", "ARTOOLKIT")
_CODES: Final = (
    *("EAN2", "EAN5", "EAN8", "UPCE", "ISBN10", "UPCA", "EAN13", "ISBN13"),
    *("I25", "DATABAR", "DATABAR_EXP", "CODABAR", "CODE39", "PDF417", "CODE93", "CODE128"),
)
FULL_CONSTANTS: Final = (
    _SEARCHES | {name: 1 << at for at, name in enumerate(_TAGS)} | {name: at for at, name in enumerate(_CODES)}
)
"""What only the full firmware has."""


def build(host: Host) -> ModuleType:
    """Return the ``image`` module of one board."""
    module = ModuleType("image")
    kind = image_class(host.full_firmware)

    def image(*args: Any, **kw: Any) -> Image:
        """Load or make an image: ``Image(path or bytes, copy_to_fb=0, from_bytes=0, size=(w, h))``."""
        made: Image = make_image(kind, host, Arguments(args, kw))
        return made

    def font_load(*args: Any, **kw: Any) -> None:
        """Use another font: ``font_load(UTF8, width, height, address in flash or path of a .Dzk file)``."""
        a = Arguments(args, kw, 4)
        kind, width, height = (get_int(v) for v in a.values[:3])
        context_of(host).font = _font(host, width & 255, height & 255, a.values[3]) if kind == UTF8 else Font()

    def font_free(*_: Any, **__: Any) -> None:
        """Go back to the built-in font."""
        context_of(host).font = Font()

    image.__name__ = "Image"
    functions = {
        "Image": image,
        "font_load": font_load,
        "font_free": font_free,
        "rgb_to_lab": colors.rgb_to_lab,
        "lab_to_rgb": colors.lab_to_rgb,
        "rgb_to_grayscale": colors.rgb_to_grayscale,
        "grayscale_to_rgb": colors.grayscale_to_rgb,
        "get_affine_transform": get_affine_transform,
        "warp_affine_ai": warp_affine_ai,
    }
    everywhere = ("ImageReader", "ImageWriter")
    stubs = {n: refuse(n, what) for n, what in FUNCTIONS.items() if host.full_firmware or n in everywhere}
    constants = CONSTANTS | (FULL_CONSTANTS if host.full_firmware else {})
    for name, value in (functions | stubs | constants).items():
        setattr(module, name, value)
    return module


def _font(host: Host, width: int, height: int, source: object) -> Font:
    """Read a font's place; a source that is neither number nor path changes nothing."""
    if isinstance(source, int) and not isinstance(source, bool):
        if source <= 0:
            raise ValueError("[MAIXPY]image: font_addr must > 0 ")
        return Font(width, height, flash_address=source)
    if isinstance(source, str):
        if ".Dzk" not in source:
            raise ValueError("[MAIXPY]image: font format don't match, only supply .Dzk ")
        return Font(width, height, data=host.open(source))
    return context_of(host).font
