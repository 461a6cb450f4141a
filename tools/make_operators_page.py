"""Write docs/operators.md from the code: the KPU's rules, the lowering of each operator, the rewrites before it.

``--check`` writes nothing and exits with 1 when the committed page is not current.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from openkpu.importers import caffe, caffe_call, onnx, tflite, tflite_call  # noqa: F401 (fills HANDLERS)
from openkpu.importers.onnx_call import HANDLERS
from openkpu.kpu.constraints import RULES
from openkpu.lower.lower import LOWERING, WAYS_ROUND
from openkpu.passes.canonicalize import PASSES

PAGE: Final = Path(__file__).parents[1] / "docs" / "operators.md"
ELEMENTWISE: Final = "Elementwise"
DETAILS: Final = {
    "Convolution": "openkpu.lower.conv",
    "Larger and dilated kernels": "openkpu.lower.wide",
    "Pooling": "openkpu.lower.pool",
    "Sums and concatenations": "openkpu.lower.merge",
    "Products": "openkpu.lower.product",
    "Reductions and norms": "openkpu.lower.reduce",
    "Fully connected": "openkpu.lower.dense",
    "Parts of maps": "openkpu.lower.view",
    "Maps that are too large": "openkpu.passes.split_into_tiles",
    "More than 1024 channels": "openkpu.passes.split_many_channels",
    "Transposed convolutions": "openkpu.passes.expand_conv_transpose",
}
"""Heading -> the module whose docstring tells how it is done."""


def first_paragraph(doc: str | None) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join((doc or "").strip().split("\n\n")[0].split())


def cell(text: str) -> str:
    """Make text safe inside a table."""
    return text.replace("|", "\\|").replace("``", "`")


def detail(module: str) -> Iterator[str]:
    """Yield a module's docstring as Markdown."""
    doc = (importlib.import_module(module).__doc__ or "").strip()
    yield from doc.replace("``", "`").splitlines()


def lines() -> Iterator[str]:
    """Yield the page."""
    yield "# Operators: what runs where"
    yield ""
    yield "*This page is made from the code by `tools/make_operators_page.py`; `make docs` writes it again.*"
    yield ""
    yield "`kpu check MODEL` applies all of it to your model and prints place, reason and remedy layer by layer."
    yield ""
    yield "## What one KPU layer can be"
    yield ""
    yield "A layer is a convolution, then batch norm, then an activation of 16 segments, then a pooling. Where a"
    yield "convolution breaks one of these limits, the compiler looks for an exact rewrite, and refuses where none is."
    yield ""
    yield "| rule | text | what to do |"
    yield "| --- | --- | --- |"
    for rule in RULES:
        yield f"| {rule.code} | {cell(rule.text)} | {cell(rule.remedy)} |"
    yield ""
    yield "## How each operator becomes kmodel V3"
    yield ""
    yield "| operator | lowering |"
    yield "| --- | --- |"
    for name, function in LOWERING.items():
        yield f"| {name} | {cell(first_paragraph(function.__doc__))} |"
    yield ""
    yield f"`{ELEMENTWISE}` stands for every chain of element-wise operators on one tensor (ReLU, HardSwish, Mish)."
    yield "It costs nothing behind a convolution: it becomes the layer's activation table."
    for title, module in DETAILS.items():
        yield ""
        yield f"### {title}"
        yield ""
        yield from detail(module)
    yield ""
    yield "## Rewrites before that"
    yield ""
    yield "In this order; each is exact. `kpu compile --dump DIR` writes the graph after every one."
    yield ""
    for rewrite in PASSES:
        doc = importlib.import_module(rewrite.__module__).__doc__
        yield f"- **{rewrite.__name__}**: {first_paragraph(doc).replace('``', '`')}"
    yield ""
    yield "## Operators that are read"
    yield ""
    yield "ONNX, opset 7 and newer. Operators on constants and on shapes are computed while importing, whatever they"
    yield "are; of the others:"
    yield ""
    yield ", ".join(sorted(HANDLERS)) + "."
    yield ""
    yield "TensorFlow Lite:"
    yield ""
    yield ", ".join(sorted(tflite_call.HANDLERS)) + "."
    yield ""
    yield "Caffe:"
    yield ""
    yield ", ".join(sorted(caffe_call.HANDLERS)) + "; layers of data become inputs, those for training go."
    yield ""
    yield "Read but not possible in kmodel V3 unless a rewrite makes them vanish:"
    yield ""
    for name, way in sorted(WAYS_ROUND.items()):
        yield f"- {name}: {way}"


def main() -> int:
    """Write or check the page."""
    text = "\n".join(lines()) + "\n"
    if "--check" not in sys.argv:
        PAGE.write_text(text)
        return 0
    if PAGE.is_file() and PAGE.read_text() == text:
        print(f"docs/{PAGE.name} is current.")
        return 0
    print(f"docs/{PAGE.name} is not current: run `make docs` and commit it.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
