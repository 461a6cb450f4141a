"""OpenKPU: the Kendryte K210's neural-network accelerator (the KPU) on your desk.

``load`` opens a kmodel and runs it bit for bit as the chip does; ``compile`` makes one from a trained model, ``check``
says what would become of each layer, ``convert`` writes a kmodel for another version, ``compare`` measures a kmodel
against the float model, ``evaluate`` counts right answers on labelled pictures, ``profile`` estimates the time on the
chip, and ``Board`` runs MaixPy scripts. Importing the package is cheap; what a function needs is imported when it is
called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openkpu.errors import OpenKPUError

if TYPE_CHECKING:
    from openkpu.analyze.compare import compare
    from openkpu.analyze.profile import Profile, profile
    from openkpu.api import Model, load
    from openkpu.board.board import Board
    from openkpu.compiler import Compiled, check, compile
    from openkpu.convert import Converted, convert
    from openkpu.evaluation.evaluate import evaluate

__all__ = [
    "Board",
    "Compiled",
    "Converted",
    "Model",
    "OpenKPUError",
    "Profile",
    "__version__",
    "check",
    "compare",
    "compile",
    "convert",
    "evaluate",
    "load",
    "profile",
]

__version__ = "0.1.0"

_LAZY = {
    "load": "openkpu.api",
    "Model": "openkpu.api",
    "compile": "openkpu.compiler",
    "check": "openkpu.compiler",
    "Compiled": "openkpu.compiler",
    "convert": "openkpu.convert",
    "Converted": "openkpu.convert",
    "compare": "openkpu.analyze.compare",
    "profile": "openkpu.analyze.profile",
    "Profile": "openkpu.analyze.profile",
    "evaluate": "openkpu.evaluation.evaluate",
    "Board": "openkpu.board.board",
}
"""Public name -> the module that has it."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'openkpu' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
