"""Lay out a table in a given width: aligned columns, names shortened in the middle, unimportant columns left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from openkpu.report.words import cells, middle, pad, shorten_names

Cell = str | tuple[str, str]
"""Text, or (text, style): any of bold, dim, red, green, yellow, cyan."""

GAP: Final = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column. ``flexible`` ones shrink (not below ``least``); of ``optional`` ones the highest number goes first."""

    title: str
    right: bool = False
    flexible: bool = False
    optional: int = 0
    least: int = 12
    names: bool = False
    """Names of layers: shortened all in the same way."""


def lay_out(columns: list[Column], rows: list[list[Cell]], width: int) -> Iterator[list[Cell]]:
    """Yield the lines of the table, header first, each a list of padded cells no wider than ``width`` together."""
    keep = list(range(len(columns)))
    natural = [max([len(c.title), *(cells(_text(row[i])) for row in rows)]) for i, c in enumerate(columns)]
    while True:
        widths = _shrink(columns, natural, keep, width)
        droppable = [i for i in keep if columns[i].optional]
        if sum(widths.values()) + GAP * (len(keep) - 1) <= width or not droppable:
            break
        keep.remove(max(droppable, key=lambda i: columns[i].optional))
    rows = _fitted(columns, rows, widths)
    yield [(_pad(columns[i].title, widths[i], columns[i], i == keep[-1]) + " " * GAP, "bold") for i in keep]
    for row in rows:
        yield [_styled(row[i], _pad(_text(row[i]), widths[i], columns[i], i == keep[-1])) for i in keep]


def _fitted(columns: list[Column], rows: list[list[Cell]], widths: dict[int, int]) -> list[list[Cell]]:
    """Return the rows with the names of layers shortened to their column."""
    rows = [list(row) for row in rows]
    for i, width in widths.items():
        if columns[i].names:
            for row, name in zip(rows, shorten_names([_text(row[i]) for row in rows], width), strict=True):
                row[i] = name if isinstance(row[i], str) else (name, row[i][1])
    return rows


def _shrink(columns: list[Column], natural: list[int], keep: list[int], width: int) -> dict[int, int]:
    """Return the width of each kept column; flexible ones give way, the widest first."""
    widths = {i: natural[i] for i in keep}
    excess = sum(widths.values()) + GAP * (len(keep) - 1) - width
    while excess > 0:
        candidates = [i for i in keep if columns[i].flexible and widths[i] > columns[i].least]
        if not candidates:
            break
        widths[max(candidates, key=lambda i: widths[i])] -= 1
        excess -= 1
    return widths


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _pad(text: str, width: int, column: Column, last: bool) -> str:
    text = middle(text, width)
    return text if last and not column.right else pad(text, width, right=column.right)


def _styled(cell: Cell, text: str) -> Cell:
    return (text + " " * GAP, "" if isinstance(cell, str) else cell[1])
