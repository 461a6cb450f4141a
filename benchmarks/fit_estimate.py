"""Fit the time model of the chip to the published measurements, cross-validate it and print every residual.

    python benchmarks/fit_estimate.py             print
    python benchmarks/fit_estimate.py --write     put the tables into docs/estimate.md
    python benchmarks/fit_estimate.py --check     fail when docs/estimate.md is not current

Needs nothing but the package: the measurements are in ``openkpu.estimate``. The same numbers come out every time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from openkpu.estimate import fit
from openkpu.estimate.cpu import RUNTIMES, Rate, Runtime
from openkpu.estimate.kpu import FITTED, Parameters
from openkpu.estimate.networks import NETWORKS, cross_validate_cpu

PAGE = Path(__file__).parents[1] / "docs" / "estimate.md"
MARK = "<!-- {}: python benchmarks/fit_estimate.py --write -->"

UNITS = {
    "pass_line": "KPU cycles",
    "fill_1x1": "KPU cycles",
    "fill_3x3": "KPU cycles",
    "output_line": "KPU cycles",
    "output_start": "KPU cycles",
    "weight_rate": "bytes a bus cycle",
    "layer_start": "CPU cycles",
    "interpreter": "CPU cycles",
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return [*lines, ""]


def percent(x: float) -> str:
    """Write a relative error with its sign."""
    return f"{100 * x:+.1f} %"


def parameters() -> list[str]:
    """The fitted constants."""
    found = fit.fit()
    rows = [[f.name, f"{getattr(found, f.name):.4g}", UNITS[f.name]] for f in fields(Parameters)]
    used = max(abs(getattr(FITTED, f.name) / getattr(found, f.name) - 1) for f in fields(Parameters))
    assert used < 1e-3, "openkpu.estimate.kpu.FITTED is not what the fit finds"
    return table(["parameter", "value", "unit"], rows)


def layers() -> list[str]:
    """Every KPU layer with its residuals."""
    by_shape = fit.cross_validate()
    by_source = fit.cross_validate(group=fit.by_source)
    rows = [
        [
            r.measurement.name,
            f"{r.measurement.us:g}",
            f"{r.fitted_us:.1f}",
            percent(r.fitted),
            percent(r.held_out),
            percent(s.held_out),
        ]
        for r, s in zip(by_shape, by_source, strict=True)
    ]
    median, worst = fit.summary(by_shape)
    source_median, source_worst = fit.summary(by_source)
    fitted = [abs(r.fitted) for r in by_shape]
    return [
        f"In-sample the mean error is {100 * sum(fitted) / len(fitted):.1f} %, the largest {100 * max(fitted):.1f} %. "
        f"With a shape left out: median {100 * median:.1f} %, largest **{100 * worst:.1f} %**. "
        f"With a whole source left out: median {100 * source_median:.1f} %, largest {100 * source_worst:.1f} %.",
        "",
        *table(["layer", "measured us", "model us", "in-sample", "shape left out", "source left out"], rows),
    ]


def operators() -> list[str]:
    """Every logged CPU operator."""
    rows = [
        [
            m.rate,
            f"V{m.version}",
            str(m.units),
            f"{m.us / 1000:.3f}",
            percent(used),
            "no other log" if left_out is None else percent(left_out),
            m.source.rpartition("/")[2],
        ]
        for m, used, left_out in cross_validate_cpu()
    ]
    return table(["rate", "runtime", "units", "measured ms", "rate in use", "left out", "issue"], rows)


def networks() -> list[str]:
    """Every network."""
    rows = []
    for n in NETWORKS:
        t = n.estimate()
        rows.append(
            [
                n.name,
                f"V{n.version}",
                ", ".join(f"{ms:g}" for ms in n.measured_ms),
                f"{t.us / 1000:.1f} ({t.low / 1000:.1f} to {t.high / 1000:.1f})",
                percent(t.us / 1000 / n.measured_ms[0] - 1),
                n.clock,
                n.used or "held out",
                n.shapes,
            ]
        )
    head = ["network", "runtime", "measured ms", "estimate ms", "error", "clock", "rates from it", "layers"]
    return table(head, rows)


def rates() -> list[str]:
    """The CPU's rates by runtime."""
    rows = []
    for f in fields(Runtime):
        values: list[Rate] = [getattr(runtime, f.name) for runtime in RUNTIMES.values()]
        rows.append([f.name, *(f"{r.ns:g} (x{r.factor:.2f}, {r.basis})" for r in values)])
    return table(["rate, ns", *(f"V{v}" for v in RUNTIMES)], rows)


PARTS = {
    "parameters": parameters,
    "layers": layers,
    "operators": operators,
    "networks": networks,
    "rates": rates,
}


def page(text: str) -> str:
    """Return the page with its tables made anew."""
    for name, make in PARTS.items():
        begin, end = MARK.format(name), f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        if not rest or not after:
            raise SystemExit(f"docs/estimate.md lacks the marks of {name}")
        text = before + begin + "\n\n" + "\n".join(make()).rstrip() + "\n\n" + end + after
    return text


def main() -> None:
    """Print, write or check."""
    if "--write" in sys.argv or "--check" in sys.argv:
        old = PAGE.read_text(encoding="utf-8")
        new = page(old)
        if "--check" in sys.argv and new != old:
            raise SystemExit("docs/estimate.md is not current: python benchmarks/fit_estimate.py --write")
        PAGE.write_text(new, encoding="utf-8")
        return
    for name, make in PARTS.items():
        print(f"## {name}\n")
        print("\n".join(make()))


if __name__ == "__main__":
    main()
