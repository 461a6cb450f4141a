"""MaixPy's ``image`` module on the host: ``build`` makes it for one board, ``Image`` is what its functions return."""

from openkpu.maixpy.image.host import MEMORY_TEXT, Host
from openkpu.maixpy.image.image import Image
from openkpu.maixpy.image.module import build

__all__ = ["MEMORY_TEXT", "Host", "Image", "build"]
