"""From the answers on every picture to the figures of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from openkpu.errors import InputError
from openkpu.evaluation.dataset import Dataset
from openkpu.evaluation.job import TOP, Answer
from openkpu.evaluation.metrics import average_precisions, share_interval

COCO_THRESHOLDS: Final = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
COCO_POINTS: Final = 101


@dataclass(frozen=True, slots=True)
class ClassResult:
    """One class: how many pictures (or objects) of it there are, and the metric on them alone."""

    label: str
    count: int
    kpu: float
    reference: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The answer of ``evaluate``. Metrics are 0..1; ``reference`` is the float model's, None without one.

    ``interval`` is the 95 % interval of a share of right classes, ``agreement`` the share of pictures on which both
    have the same best class (None where the output is boxes). ``confusion[truth][found]`` counts pictures.
    """

    kmodel: str
    data: str
    metric: str
    pictures: int
    kpu: float
    reference: float | None
    interval: tuple[float, float] | None
    agreement: float | None
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...]
    seconds: float
    resumed: int
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for ``--json``."""
        return asdict(self)


def classes(dataset: Dataset, answers: Sequence[Answer], metric: str) -> dict[str, Any]:
    """Count right classes; returns the fields of ``Evaluation`` that follow from the answers."""
    depth = 1 if metric == "top1" else TOP
    n = len(dataset.labels)
    truth = [-1 if i.label is None else i.label for i in dataset.items]
    found_classes = max((c for a in answers for c in a.kpu if isinstance(c, int)), default=-1) + 1

    def right(found: Any, label: int) -> bool:
        return label in found[:depth]

    kpu = [right(a.kpu, t) for a, t in zip(answers, truth, strict=True)]
    has_float = answers[0].reference is not None
    floats = [right(a.reference, t) for a, t in zip(answers, truth, strict=True)] if has_float else None
    rows = []
    for label in sorted(set(truth)):
        at = [i for i, t in enumerate(truth) if t == label]
        share = sum(kpu[i] for i in at) / len(at)
        other = None if floats is None else sum(floats[i] for i in at) / len(at)
        rows.append(ClassResult(dataset.labels[label], len(at), share, other))
    size = max(n, found_classes)
    confusion = [[0] * size for _ in range(n)]
    for a, t in zip(answers, truth, strict=True):
        confusion[t][int(a.kpu[0])] += 1  # type: ignore[arg-type]
    notes = []
    if found_classes > n:
        notes.append(f"the model has answered with class {found_classes - 1}, but there are only {n} labels")
    return {
        "kpu": sum(kpu) / len(kpu),
        "reference": None if floats is None else sum(floats) / len(floats),
        "interval": share_interval(sum(kpu), len(kpu)),
        "agreement": sum(a.kpu[0] == a.reference[0] for a in answers if a.reference) / len(answers)
        if has_float
        else None,
        "classes": tuple(rows),
        "confusion": tuple(tuple(r) for r in confusion),
        "notes": tuple(notes),
    }


def objects(dataset: Dataset, answers: Sequence[Answer], metric: str) -> dict[str, Any]:
    """Measure boxes; returns the fields of ``Evaluation`` that follow from the answers. E460 without an object."""
    truth = [item.objects for item in dataset.items]
    if not any(not t.ignore for picture in truth for t in picture):
        raise InputError("E460", "there is no object on any picture", where="annotations", fix="check the annotations")

    def score(found: Any) -> tuple[float, dict[int, tuple[int, float]]]:
        if metric == "map":
            tables = [average_precisions(found, truth, 0.5)]
        else:
            tables = [average_precisions(found, truth, iou, points=COCO_POINTS) for iou in COCO_THRESHOLDS]
        by_class = {
            rows[0].label: (rows[0].objects, sum(r.precision for r in rows) / len(rows))
            for rows in zip(*tables, strict=True)
        }
        return sum(p for _, p in by_class.values()) / len(by_class), by_class

    kpu, by_class = score([a.kpu for a in answers])
    reference, float_by_class = None, None
    if answers[0].reference is not None:
        reference, float_by_class = score([a.reference for a in answers])
    rows = tuple(
        ClassResult(dataset.labels[k], n, p, None if float_by_class is None else float_by_class[k][1])
        for k, (n, p) in by_class.items()
    )
    return {
        "kpu": kpu,
        "reference": reference,
        "interval": None,
        "agreement": None,
        "classes": rows,
        "confusion": (),
    }
