"""Optional packages: imported when needed, and named with the command that brings them when missing."""

from __future__ import annotations

import importlib
from typing import Any

from openkpu.errors import SetupError


def require(module: str, extra: str) -> Any:
    """Import ``module`` or raise ``SetupError`` E501 that says which ``pip install`` brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as e:
        package = module.partition(".")[0]
        raise SetupError(
            "E501",
            f"the Python package '{package}' is needed for this",
            why=str(e),
            fix=f"pip install 'openkpu[{extra}]'",
        ) from e
