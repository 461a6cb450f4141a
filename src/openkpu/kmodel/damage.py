"""How every reader of kmodels names a damaged file."""

from __future__ import annotations

from openkpu.errors import FileFormatError


def damaged(code: str, what: str, where: str, why: str) -> FileFormatError:
    """Build the error; its remedy is always the same."""
    return FileFormatError(code, what, where=where, why=why, fix="The file is damaged: get it again.")
