"""The whole page: one file, no script, nothing fetched. The same examination always gives the same bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from html import escape
from typing import TYPE_CHECKING, Final

from openkpu.files import write_file
from openkpu.report.html import sections
from openkpu.report.html.style import CSS

if TYPE_CHECKING:
    from openkpu.analyze.examine import Examination

Section = Callable[["Examination"], Iterator[str]]

SECTIONS: Final[tuple[tuple[str, str, Section], ...]] = (
    ("advice", "What to do", sections.advice),
    ("pictures", "Pictures", sections.pictures),
    ("time", "Where the time goes", sections.times),
    ("memory", "Memory and firmware", sections.memory),
    ("program", "The program and its memories", sections.program),
    ("layers", "Accuracy, layer by layer", sections.layers),
)
"""Anchor, heading, and what writes the section."""


def render(e: Examination) -> str:
    """Return the page as HTML text."""
    kmodel, model = os.path.basename(e.comparison.kmodel), os.path.basename(e.comparison.model)
    shown = [s for s in SECTIONS if s[0] != "pictures" or e.pictures]
    links = "".join(f'<a href="#{anchor}">{heading}</a>' for anchor, heading, _ in shown)
    body = "\n".join(
        f'<section id="{anchor}"><h2>{heading}</h2>\n' + "\n".join(write(e)) + "\n</section>"
        for anchor, heading, write in shown
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(kmodel)}: OpenKPU report</title>
<style>{CSS}</style></head><body><main>
<header><h1>{escape(kmodel)}</h1>
<div class="soft">{escape(e.inspection.kind.title)}, made from {escape(model)}</div>
<div class="cards">{"".join(sections.cards(e))}</div>
<nav>{links}</nav></header>
{body}
<footer><p>SNR is 10 log<sub>10</sub>(signal&sup2; / error&sup2;): 30 dB is an error of 3 %, 20 dB of 10 %. Results of
the KPU are bit-exact simulations; times are estimates with the range in which a measurement is expected. The scale of
8-bit maps is not in a kmodel: it is fitted, channel by channel.</p>
<p>{escape(_preprocessing(e))} Made by OpenKPU.</p></footer>
</main></body></html>
"""


def _preprocessing(e: Examination) -> str:
    if e.comparison.mean is None or e.comparison.std is None:
        return ""
    mean, std = (", ".join(f"{v:.4g}" for v in values) for values in (e.comparison.mean, e.comparison.std))
    return f"The float model got (pixel - mean) / std with mean {mean} and std {std}."


def save(e: Examination, path: str | os.PathLike[str]) -> None:
    """Write the page; E511 when the file cannot be written."""
    write_file(path, render(e))
