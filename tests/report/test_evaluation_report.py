"""The report of an evaluation keeps inside its columns and says who is taken for whom."""

import io

import pytest

from openkpu.evaluation.results import ClassResult, Evaluation
from openkpu.report import evaluation
from openkpu.report.console import Printer
from openkpu.report.words import cells


def result(n=3, reference=0.8):
    classes = tuple(ClassResult(f"a rather long name of class {i}", 10, i / n, reference) for i in range(n))
    confusion = tuple(tuple(7 if (i, k) == (0, 1) else int(i == k) for k in range(n)) for i in range(n))
    return Evaluation(
        "net.kmodel", "data/", "top1", 30, 0.75, reference, (0.6, 0.85), None if reference is None else 0.9, classes,
        confusion, 2.0, 10, ("a note",),
    )  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("reference", [0.8, None])
def test_show(width, reference):
    stream = io.StringIO()
    evaluation.show(result(20, reference), Printer(stream, width=width, color=False))
    text = stream.getvalue()
    assert all(cells(line) <= width for line in text.splitlines())
    assert ("8 bits cost 5.0 points" in text) == (reference is not None)
    if width >= 100:
        assert "a rather long name of class 0 for a rather long name of class 1  7 times" in text
    assert "10 pictures taken from the record" in text
    assert f"the 12 {'lowest' if reference is None else 'that lose most'} of 20" in text
