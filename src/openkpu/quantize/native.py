"""The native loops of quantisation, where they are built. Their twins in NumPy stand beside each use."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType


@functools.cache
def loops() -> ModuleType | None:
    """The kernels, or None where they are not built (``kpu.engine`` warns of that)."""
    try:
        module: ModuleType = importlib.import_module("openkpu._native").quantizing
    except (ImportError, AttributeError):
        return None
    return module
