"""What the board simulates not: every name says so instead of returning something wrong."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from openkpu.maixpy.image.core import ImageCore

METHODS: Final = {
    "bilateral": "an edge-preserving blur",
    "cartoon": "a flattening of regions",
    "chrominvar": "an illumination-invariant colour transform",
    "compress_for_ide": "a JPEG in the encoding of the IDE's serial line",
    "compressed_for_ide": "a JPEG in the encoding of the IDE's serial line",
    "find_apriltags": "a reader of AprilTags",
    "find_barcodes": "a reader of bar codes",
    "find_circles": "a Hough transform",
    "find_datamatrices": "a reader of data matrices",
    "find_displacement": "a phase correlation",
    "find_domain": "a search for the largest region",
    "find_edges": "an edge detector",
    "find_eye": "a search for pupils",
    "find_features": "a Haar cascade",
    "find_hog": "a histogram of gradients",
    "find_keypoints": "a search for ORB keypoints",
    "find_lbp": "a local binary pattern",
    "find_line_segments": "a line segment detector",
    "find_lines": "a Hough transform",
    "find_qrcodes": "a reader of QR codes",
    "find_rects": "a search for quadrilaterals",
    "find_template": "a template search",
    "get_regression": "a line fit",
    "get_similarity": "a structural similarity",
    "illuminvar": "an illumination-invariant colour transform",
    "linpolar": "a polar transform",
    "logpolar": "a log-polar transform",
    "remove_shadows": "a shadow removal",
    "selective_search": "a search for regions",
}
"""Methods of an image -> what they are."""
FUNCTIONS: Final = {
    "HaarCascade": "a Haar cascade",
    "ImageReader": "a reader of image streams, which crashes in this firmware",
    "ImageWriter": "a writer of image streams, which crashes in this firmware",
    "load_descriptor": "a reader of keypoint files",
    "match_descriptor": "a comparison of keypoints",
    "save_descriptor": "a writer of keypoint files",
}
"""Functions of the module -> what they are."""


def refuse(name: str, what: str) -> Any:
    """Return a function that raises when it is called."""

    def missing(*_: object, **__: object) -> NoReturn:
        raise RuntimeError(f"openkpu board: image.{name} is not simulated: it is {what}")

    missing.__name__ = name
    missing.__doc__ = f"Not simulated: {what}."
    return missing


class Missing(ImageCore):
    """The methods that are not simulated."""

    __slots__ = ()


for _name, _what in METHODS.items():
    setattr(Missing, _name, refuse(_name, _what))
