"""One hierarchy for everything that can go wrong: every message answers the same five questions.

``code`` is stable (documentation and scripts may rely on it), ``what`` happened, ``where`` (file and offset, layer,
option), ``why`` (the rule with its limit and the actual value), and the ``fix``.

Families of codes: E1xx a file that cannot be read; E2xx a model or layer that cannot be mapped; E3xx memory;
E4xx input data; E5xx the environment (missing extra, missing file); E6xx the virtual board.
"""

from __future__ import annotations

from typing import Any


class OpenKPUError(Exception):
    """Base of all errors raised on purpose by OpenKPU."""

    def __init__(self, code: str, what: str, *, where: str = "", why: str = "", fix: str = "") -> None:
        super().__init__(code, what, where, why, fix)
        self.code = code
        self.what = what
        self.where = where
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        parts = [f"{self.code}: {self.what}"]
        if self.where:
            parts.append(f"  where: {self.where}")
        if self.why:
            parts.append(f"  why:   {self.why}")
        if self.fix:
            parts.append(f"  fix:   {self.fix}")
        return "\n".join(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the five answers, so that an error of a worker process arrives as it was."""
        return _again, (type(self), self.as_dict())

    def as_dict(self) -> dict[str, str]:
        """Return the message as plain strings, for ``--json``."""
        return {"code": self.code, "what": self.what, "where": self.where, "why": self.why, "fix": self.fix}


def _again(kind: type[OpenKPUError], answers: dict[str, str]) -> OpenKPUError:
    return kind(**answers)


class FileFormatError(OpenKPUError):
    """E1xx: a kmodel, ONNX or other file is damaged, of another kind, or of a version that cannot be read."""


class UnsupportedError(OpenKPUError):
    """E2xx: a model, layer or option that the chip or the chosen kmodel version cannot express."""


class MemoryLimitError(OpenKPUError):
    """E3xx: something does not fit the chip's memories."""


class InputError(OpenKPUError):
    """E4xx: input data of the wrong shape, type or range."""


class SetupError(OpenKPUError):
    """E5xx: a missing file, a missing extra, a tool that is not there."""


class BoardError(OpenKPUError):
    """E6xx: the virtual board: how it is set up, and what would make a real board hang, crash or corrupt its memory."""
