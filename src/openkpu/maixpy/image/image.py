"""The Image object: all families of methods together, and what the minimum firmware leaves of them."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from openkpu.maixpy.image.access import Access
from openkpu.maixpy.image.arithmetic import Arithmetic
from openkpu.maixpy.image.binary import Binary
from openkpu.maixpy.image.blobs import Blobs
from openkpu.maixpy.image.conv3 import Conv3
from openkpu.maixpy.image.copying import Copying
from openkpu.maixpy.image.drawing import Drawing
from openkpu.maixpy.image.files import Files
from openkpu.maixpy.image.filters import Filters
from openkpu.maixpy.image.missing import Missing
from openkpu.maixpy.image.statistics import Histograms
from openkpu.maixpy.image.warp import Warp

_FAMILIES: Final = (Arithmetic, Binary, Blobs, Filters, Histograms, Missing)
"""The families that the minimum firmware does not have at all."""
KEPT: Final = frozenset({"compress_for_ide", "compressed_for_ide"})
"""Names in those families that it has nevertheless."""


class Image(
    Access,
    Copying,
    Drawing,
    Files,
    Arithmetic,
    Binary,
    Blobs,
    Filters,
    Histograms,
    Warp,
    Conv3,
    Missing,
):
    """An image of the full firmware."""

    __slots__ = ()


class _Absent:
    """A method that this firmware does not have."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type | None = None) -> NoReturn:
        raise AttributeError(f"'Image' object has no attribute '{self.name}'")


def _minimum() -> type[Image]:
    """Make the class for the minimum firmware: the same, without most algorithms."""
    names = {n for family in _FAMILIES for n in vars(family) if not n.startswith("_")}
    names |= {"rotation_corr", "draw_keypoints", "flood_fill"}
    body: dict[str, Any] = {name: _Absent(name) for name in names - KEPT}
    body |= {"__slots__": (), "__doc__": "An image of the minimum firmware.", "__module__": __name__}
    return type("Image", (Image,), body)


MinimumImage: Final = _minimum()


def image_class(full_firmware: bool) -> type[Image]:
    """Return the class of a board's images."""
    return Image if full_firmware else MinimumImage
