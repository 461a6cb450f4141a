"""Small words and marks that all reports share: bytes, counts, shapes, bars, colours, shortened names."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import Final

PLACE_STYLE: Final = {"KPU": "green", "KPU after a rewrite": "yellow", "CPU": "red", "not possible": "bold red"}
"""Colour of each place a layer can run in."""

DIM: Final = "dim"
HEAD: Final = "bold"
GOOD: Final = "green"
WARN: Final = "yellow"
BAD: Final = "red"
ACCENT: Final = "cyan"

_BLOCKS: Final = " ▏▎▍▌▋▊▉█"


def size(n: int) -> str:
    """Bytes for people: ``512 B``, ``12.3 KiB``, ``1.25 MiB``."""
    if n < 1024:
        return f"{n} B"
    if n < 1024 * 1024:
        return f"{n / 1024:.1f} KiB"
    return f"{n / 1024 / 1024:.2f} MiB"


def count(n: float) -> str:
    """A large count: ``950``, ``12.3 k``, ``4.56 M``, ``1.23 G``."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= limit:
            return f"{n / limit:.3g} {unit}"
    return f"{n:.0f}"


def milliseconds(us: float) -> str:
    """Microseconds as ms, with fewer decimals for longer times."""
    ms = us / 1000
    return f"{ms:.{3 if ms < 10 else 1 if ms < 100 else 0}f} ms"


def shape(dims: Sequence[int]) -> str:
    """Write a shape as ``3x224x224``; a scalar is ``1``."""
    return "x".join(str(d) for d in dims) or "1"


def percent(part: float, whole: float) -> str:
    """Write ``part / whole`` in percent; ``-`` where there is no whole."""
    if whole <= 0:
        return "-"
    return "<1 %" if 0 < part / whole < 0.005 else f"{100 * part / whole:.0f} %"


def decibels(db: float) -> str:
    """Write an SNR; exact equality is ``exact``."""
    if math.isnan(db):
        return "-"
    if math.isinf(db):
        return "exact" if db > 0 else "-inf"
    return f"{db:.1f} dB"


def plural(n: int, noun: str) -> str:
    """Write ``1 layer``, ``2 layers``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def cells(text: str) -> int:
    """Return how many columns of a terminal a text takes (East Asian characters take two, combining marks none)."""
    if text.isascii():
        return len(text)
    return sum(_cell(c) for c in text)


def _cell(c: str) -> int:
    if unicodedata.combining(c):
        return 0
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def middle(text: str, width: int, mark: str = "…") -> str:
    """Shorten ``text`` to ``width`` columns by leaving out its middle (both ends of a layer's name tell something)."""
    if cells(text) <= width:
        return text
    room = max(0, width - cells(mark))
    tail = _start(text[::-1], room - room // 2)[::-1]
    return _start(text, room // 2) + mark + tail


def _start(text: str, room: int) -> str:
    """Return as much of the start of ``text`` as ``room`` columns hold."""
    used = 0
    for i, c in enumerate(text):
        used += _cell(c)
        if used > room:
            return text[:i]
    return text


def shorten_names(names: Sequence[str], width: int) -> list[str]:
    """Shorten the names of layers to ``width`` columns so that they can still be told apart, all in the same way.

    Exporters repeat themselves: of ``/features/features.2/body/body.0/Conv`` first the parents that the next part names
    again go (``features.2/body.0/Conv``), then the operator at the end, then the middle.
    """
    for form in (str, _without_parents, _without_operator):
        result = [form(n) for n in names]
        if all(cells(n) <= width for n in result):
            return result
    return [middle(n, width) for n in result]


def _without_parents(name: str) -> str:
    parts = [p for p in name.split("/") if p]
    following = [*parts[1:], ""][: len(parts)]
    return "/".join(p for p, n in zip(parts, following, strict=True) if not n.startswith((f"{p}.", f"{p}_"))) or name


def _without_operator(name: str) -> str:
    short = _without_parents(name)
    rest, _, last = short.rpartition("/")
    return rest if rest and last.isalpha() and last[0].isupper() else short


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Fill ``text`` with spaces to ``width`` columns."""
    space = " " * (width - cells(text))
    return space + text if right else text + space


def bar(fraction: float, width: int, *, ascii_only: bool = False) -> str:
    """Draw a bar of ``fraction`` (0..1) of ``width`` characters, in eighths of one where the output can show them."""
    f = min(max(fraction, 0.0), 1.0) if not math.isnan(fraction) else 0.0
    if ascii_only:
        return ("#" * round(f * width)).ljust(width)
    eighths = round(f * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_BLOCKS[rest] if rest else "")).ljust(width)


def snr_style(db: float) -> str:
    """Colour of an SNR: good from 30 dB, doubtful from 20 dB."""
    return GOOD if db >= 30 else WARN if db >= 20 else BAD


def cpu_split(copies_us: float, operators_us: float, whole_us: float) -> str:
    """Say which of the CPU's work every model pays and which the model's design could change."""
    copies, operators = percent(copies_us, whole_us), percent(operators_us, whole_us)
    return f"{copies} input and output copies, {operators} operators on the CPU"
