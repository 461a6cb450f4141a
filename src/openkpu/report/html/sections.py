"""The parts of the page, each from the examination to HTML text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from openkpu.k210 import AI_RAM_BYTES, MAIN_RAM_BYTES
from openkpu.report import words
from openkpu.report.bills import bills
from openkpu.report.html import charts
from openkpu.report.picture import draw

if TYPE_CHECKING:
    from openkpu.analyze.examine import Examination, PictureResult
    from openkpu.analyze.predict import Ranking
    from openkpu.analyze.study import LayerStudy
    from openkpu.api import Model

MOST_COSTS: Final = 12
"""Steps in the table of costs."""
LONGEST_NAME: Final = 52
FULL_DB: Final = 60.0
"""An SNR that fills its bar."""


def cards(e: Examination) -> Iterator[str]:
    """The answers in large type."""
    total, fps = e.profile.total, e.profile.fps
    ms = f"{words.milliseconds(total.low)} .. {words.milliseconds(total.high)}"
    yield _card("Time on the chip", words.milliseconds(total.us), f"{fps:.1f} frames/s; estimated, range {ms}", "")
    outputs = e.comparison.outputs
    worst = min(outputs, key=lambda o: o.snr_db)
    yield _card(
        "Signal to noise",
        words.decibels(worst.snr_db),
        f"output{'' if len(outputs) == 1 else f' {worst.name}, the worst of {len(outputs)}'}, float against KPU, "
        f"{words.plural(e.comparison.pictures, 'picture')}",
        words.snr_style(worst.snr_db),
    )
    top = next((o.top1 for o in outputs if o.top1 is not None), None)
    if top is not None:
        n = e.comparison.pictures
        yield _card("Same best class", f"{top} of {n}", "pictures on which float and KPU agree", _share_style(top / n))
    m = _model(e).memory
    main = m.file_bytes + m.main_bytes
    yield _card(
        "Main RAM", words.size(main), f"file and scratch, of {words.size(MAIN_RAM_BYTES)}", _limit(main, MAIN_RAM_BYTES)
    )
    yield _card(
        "AI RAM", words.size(m.ai_peak), f"at most, of {words.size(AI_RAM_BYTES)}", _limit(m.ai_peak, AI_RAM_BYTES)
    )
    on_kpu = sum(s.on_kpu for s in e.inspection.steps)
    share = words.percent(e.profile.cpu.us, total.us)
    yield _card("Steps", str(len(e.inspection.steps)), f"{on_kpu} on the KPU; the CPU has {share} of the time", "")


def _card(what: str, value: str, note: str, style: str) -> str:
    shown = {"green": "good", "yellow": "warn", "red": "bad"}.get(style, "")
    return (
        f'<div class="card"><span class="what">{escape(what)}</span><b class="{shown}">{escape(value)}</b>'
        f"<span>{escape(note)}</span></div>"
    )


def _share_style(share: float) -> str:
    return words.GOOD if share >= 0.95 else words.WARN if share >= 0.8 else words.BAD


def _limit(used: float, limit: float) -> str:
    return words.GOOD if used <= 0.75 * limit else words.WARN if used <= limit else words.BAD


def _model(e: Examination) -> Model:
    assert e.inspection.model is not None
    return e.inspection.model


def advice(e: Examination) -> Iterator[str]:
    """What to do."""
    yield "<ul>"
    yield from (f"<li>{escape(sentence)}</li>" for sentence in e.advice)
    yield "</ul>"


def memory(e: Examination) -> Iterator[str]:
    """Both RAMs as bars, and which firmware loads the file."""
    m = _model(e).memory
    main = m.file_bytes + m.main_bytes
    for label, used, limit, note in (
        ("main RAM", main, MAIN_RAM_BYTES, f"{words.size(m.file_bytes)} file, {words.size(m.main_bytes)} scratch"),
        ("AI RAM", m.ai_peak, AI_RAM_BYTES, "most in use at any step"),
    ):
        over = ' class="over"' if used > limit else ""
        yield (
            f'<div class="row"><span>{label}</span><div class="track"><i{over} style="width:'
            f'{min(100 * used / limit, 100):.1f}%"></i></div><span>{words.size(used)} of {words.size(limit)}: {note}'
            "</span></div>"
        )
    for b in bills(_model(e)):
        over = "" if b.fits else ' class="over"'
        note = f"{words.size(b.left)} to spare" if b.fits else f"{words.size(-b.left)} too much"
        yield (
            f'<div class="row"><span>MaixPy {escape(b.firmware.name)}</span><div class="track"><i{over} style="width:'
            f'{min(100 * b.total / MAIN_RAM_BYTES, 100):.1f}%"></i></div><span>{note}, with firmware, camera and '
            "display</span></div>"
        )
    rows = "".join(
        f'<tr><td>{escape(f.name)}</td><td class="{"good" if f.loads else "bad"}">{"loads" if f.loads else "no"}</td>'
        f'<td class="soft">{escape(f.note)}</td></tr>'
        for f in e.inspection.kind.firmware
    )
    yield f'<div class="scroll"><table><tr><th>firmware</th><th>kmodel</th><th></th></tr>{rows}</table></div>'


def times(e: Examination) -> Iterator[str]:
    """The whole forward pass as one bar, and the steps that cost most."""
    p = e.profile
    whole = p.total.us or 1.0
    x, parts = 0.0, []
    for s in p.steps:
        width = 1000 * s.time.us / whole
        kind = {"KPU": "kpu", "CPU": "cpu"}.get(s.where, "move")
        about = f"{s.name or s.op}: {words.milliseconds(s.time.us)}, {s.where}, {s.bottleneck}"
        parts.append(
            f'<rect x="{x:.2f}" y="0" width="{max(width - 0.4, 0.2):.2f}" height="34" fill="var(--{kind})">'
            f"<title>{escape(about)}</title></rect>"
        )
        x += width
    yield (
        f'<div class="scroll" style="padding:10px"><svg viewBox="0 0 1000 34" width="100%" height="34" '
        f'preserveAspectRatio="none" role="img" aria-label="time line">{"".join(parts)}</svg></div>'
        f'<p class="small soft">From left to right as the chip works: <b style="color:var(--kpu)">KPU</b> '
        f'{words.milliseconds(p.kpu.us)}, <b style="color:var(--cpu)">CPU</b> {words.milliseconds(p.cpu.us)}, '
        f"DMA the rest, at {p.kpu_mhz:g} MHz (KPU) and {p.cpu_mhz:g} MHz (CPU). Point at a part for its name.</p>"
    )
    ranked = sorted(p.steps, key=lambda s: -s.time.us)[:MOST_COSTS]
    longest = ranked[0].time.us or 1.0
    yield (
        '<div class="scroll"><table><tr><th class="n">#</th><th>step</th><th class="n">time</th><th></th>'
        '<th class="wide">limited by</th><th class="n wide">MACs</th></tr>'
    )
    names = words.shorten_names([s.name for s in ranked], LONGEST_NAME)
    for s, name in zip(ranked, names, strict=True):
        kind = {"KPU": "", "CPU": "cpu"}.get(s.where, "dma")
        yield (
            f'<tr><td class="n soft">{s.index if s.index >= 0 else ""}</td>'
            f'<td class="name" title="{escape(s.name)}">{escape(name or s.op)}'
            f'<br><span class="small soft">{escape(s.op)} {escape(s.detail)}, {words.shape(s.output_shape)}</span></td>'
            f'<td class="n">{words.milliseconds(s.time.us)}</td><td style="width:24%"><span class="bar {kind}" '
            f'style="width:{100 * s.time.us / longest:.1f}%"></span></td><td class="wide">{escape(s.bottleneck)}</td>'
            f'<td class="n wide">{words.count(s.macs) if s.macs else ""}</td></tr>'
        )
    yield "</table></div>"


def program(e: Examination) -> Iterator[str]:
    """The picture of the program with both memories."""
    yield f'<div class="scroll">{draw(e.inspection.kind.title, _model(e).program, e.inspection.steps)}</div>'


def layers(e: Examination) -> Iterator[str]:
    """Each KPU layer: SNR alone and accumulated, histogram, curve."""
    if not e.layers:
        yield f'<p class="soft">{escape(" ".join(e.comparison.notes))}</p>'
        return
    yield (
        '<p class="small soft"><b>Alone</b>: the layer gets the float model\'s own values. <b>Accumulated</b>: it gets '
        "what the chip has computed so far. Open a layer for its bytes and its activation table.</p>"
    )
    names = words.shorten_names([layer.layer for layer in e.layers], LONGEST_NAME)
    for layer, name in zip(e.layers, names, strict=True):
        yield from _layer(layer, name)


def _layer(layer: LayerStudy, name: str) -> Iterator[str]:
    bars = "".join(
        f'<div class="row"><span class="small soft">{word}</span><div class="track"><i style="width:'
        f'{100 * min(max(db, 0), FULL_DB) / FULL_DB:.0f}%;background:var(--kpu{tail})"></i></div>'
        f"<span>{words.decibels(db)}</span></div>"
        for word, db, tail in (("alone", layer.alone_db, "-soft"), ("accumulated", layer.accumulated_db, ""))
    )
    style = {"green": "good", "yellow": "warn", "red": "bad"}[words.snr_style(layer.accumulated_db)]
    low, high = layer.at_limits
    yield (
        f'<details><summary title="{escape(layer.layer)}"><span class="soft small">{layer.step}</span> {escape(name)} '
        f'<span class="small soft">{words.shape(layer.shape)}</span> '
        f'<b class="{style}">{words.decibels(layer.accumulated_db)}</b> '
        f'<span class="small soft">alone {words.decibels(layer.alone_db)}</span></summary>{bars}<div class="charts">'
        f"<figure>{charts.histogram(layer.histogram)}<figcaption>output bytes (square-root scale); "
        f"{100 * low:.1f} % are 0, {100 * high:.1f} % are 255</figcaption></figure>"
    )
    if layer.curve is not None:
        yield (
            f"<figure>{charts.curve(layer.curve)}<figcaption><span class='key'></span>the chip's table"
            f"<span class='key float'></span>{escape(layer.curve.function[:60])}; worst "
            f"{layer.curve.worst:.1f} counts where values occur</figcaption></figure>"
        )
    yield "</div></details>"


def pictures(e: Examination) -> Iterator[str]:
    """Pictures with what both models say."""
    if any(p.kpu_boxes or p.reference_boxes for p in e.pictures):
        yield (
            '<p class="small soft"><span class="key" style="border-color:#31d583"></span>KPU'
            '<span class="key" style="border-top:3px dashed #ff9f43"></span>float</p>'
        )
    yield '<div class="pictures">'
    for p in e.pictures:
        photo = charts.photo(p.jpeg, p.size, p.kpu_boxes, p.reference_boxes, p.name)
        yield f'<div class="picture">{photo}<div><h3>{escape(p.name)}</h3>{_says(p, e.labels)}</div></div>'
    yield "</div>"


def _says(p: PictureResult, labels: Sequence[str] | None) -> str:
    if p.kpu is not None and p.reference is not None:
        same = p.kpu.entries[0].index == p.reference.entries[0].index
        verdict = "" if same else '<span class="bad small">another best class</span>'
        return _ranking("KPU", p.kpu) + _ranking("float", p.reference) + verdict
    if not (p.kpu_boxes or p.reference_boxes):
        return '<span class="soft">nothing found</span>' if p.kpu is None else ""

    def counted(word: str, boxes: Sequence[object]) -> str:
        return f"<div>{word}: {words.plural(len(boxes), 'box') if len(boxes) == 1 else f'{len(boxes)} boxes'}</div>"

    names = sorted({b.label for b in p.kpu_boxes})
    listed = ", ".join(labels[i] if labels is not None and i < len(labels) else str(i) for i in names)
    return (
        counted("KPU", p.kpu_boxes) + counted("float", p.reference_boxes) + f'<div class="soft">{escape(listed)}</div>'
    )


def _ranking(who: str, ranking: Ranking) -> str:
    rows = ""
    for i, entry in enumerate(ranking.entries):
        rows += (
            f'<div class="guess"><em>{who if i == 0 else ""}</em><span>{escape(entry.label)}<br><span class="bar'
            f'{"" if who == "KPU" else " cpu"}" style="width:{100 * entry.share:.0f}%"></span></span>'
            f"<span>{100 * entry.share:.0f} %</span></div>"
        )
    return rows
