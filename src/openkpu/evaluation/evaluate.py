"""``evaluate``: how often is the kmodel right, and how much of that did 8 bits cost?"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from openkpu.api import Model, read_file
from openkpu.errors import InputError
from openkpu.evaluation import cluster as dask
from openkpu.evaluation import pool
from openkpu.evaluation.dataset import Dataset, load_classes, load_objects
from openkpu.evaluation.job import Answer, Boxes, FloatModel, Job, Shard, split
from openkpu.evaluation.journal import Journal
from openkpu.evaluation.results import Evaluation, classes, objects

METRICS: Final = ("top1", "top5", "map", "map50-95")
SHARD: Final = 32
"""Pictures in a shard: enough that handing it over costs nothing, few enough that losing it does not hurt."""
LEAST_SCORE: Final = 0.01
"""For average precision all boxes count that could be right, far below what a script would show."""


def evaluate(
    kmodel: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    metric: str = "top1",
    model: str | os.PathLike[str] | None = None,
    annotations: str | os.PathLike[str] | None = None,
    labels: Sequence[str] | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    input_range: tuple[float, float] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] | None = None,
    anchors: Sequence[float] | None = None,
    nms: float = 0.45,
    limit: int | None = None,
    jobs: int | None = None,
    cluster: str | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Evaluation:
    """Measure a kmodel on labelled pictures, and the float ``model`` beside it.

    ``metric``: "top1" or "top5" (the right class is the best, or among the five best), "map" (mean average precision
    at an overlap of 0.5, area under the curve) or "map50-95" (mean over overlaps 0.5 to 0.95, as COCO). ``data``: a
    folder with a folder for each class or a labels.csv; for boxes a folder with COCO or VOC ``annotations``.
    ``labels`` are the names of the model's classes in the order of its first output, the one that counts. ``anchors``
    as in ``analyze.yolo.decode``. ``mean`` to ``outputs`` are as in ``compile``. ``limit``: only so many pictures,
    evenly spread. ``jobs``: processes (default: all cores), or ``cluster``: address of a Dask scheduler. ``resume``: a
    record; what it holds is not computed again.

    The result does not depend on jobs, cluster, order or interruptions. ``InputError`` E46x, ``SetupError`` E551, E552.
    """
    begin = time.perf_counter()
    boxes = _boxes(metric, anchors, nms)
    dataset = load_classes(data, labels) if boxes is None else load_objects(data, annotations, labels)
    dataset = _limited(dataset, limit)
    chip = read_file(Path(kmodel))
    shape, version = _input_shape(chip, kmodel)
    reference = None
    if model is not None:
        float_options = {"target": f"v{version}", "input_shapes": input_shapes, "outputs": outputs}
        reference = _float_model(model, shape, mean, std, input_range, float_options)
    job = Job(chip, reference, boxes)
    record = nullcontext(None) if resume is None else Journal(Path(resume), _fingerprint(job, dataset))
    with record as journal:
        answers = {} if journal is None else dict(journal.answers)
        resumed = len(answers)
        paths = [str(item.path) for item in dataset.items]
        shards = split(paths, [i for i in range(len(paths)) if i not in answers], SHARD)
        for part in _run(job, shards, jobs, cluster):
            answers.update({a.number: a for a in part})
            if journal is not None:
                journal.add(part)
            if progress is not None:
                progress("evaluate", len(answers), len(paths))
    ordered = [answers[i] for i in range(len(paths))]
    measure = classes if boxes is None else objects
    found = measure(dataset, ordered, metric)
    return Evaluation(
        str(kmodel), str(data), metric, len(ordered), **found, seconds=time.perf_counter() - begin, resumed=resumed
    )


def _run(job: Job, shards: list[Shard], jobs: int | None, cluster: str | None) -> Iterator[list[Answer]]:
    if not shards:
        return iter(())
    if cluster is not None:
        return dask.run(job, shards, cluster)
    return pool.run(job, shards, min(jobs or pool.cores(), len(shards)))


def _boxes(metric: str, anchors: Sequence[float] | None, nms: float) -> Boxes | None:
    if metric not in METRICS:
        raise InputError("E465", f"unknown metric '{metric}'", fix=f"use one of {', '.join(METRICS)}")
    if metric.startswith("top"):
        return None
    if anchors is None:
        raise InputError(
            "E465",
            f"{metric} without anchors",
            why="boxes are read from a YOLOv2 output, and its anchors are not in the file",
            fix="give the anchors of the training: --anchors W,H,W,H,...",
        )
    return Boxes(tuple(float(a) for a in anchors), None, LEAST_SCORE, nms)


def _limited(dataset: Dataset, limit: int | None) -> Dataset:
    n = len(dataset.items)
    if limit is None or limit >= n:
        return dataset
    if limit < 1:
        raise InputError("E465", f"a limit of {limit} pictures", fix="leave the limit out")
    return Dataset(tuple(dataset.items[i * n // limit] for i in range(limit)), dataset.labels, dataset.kind)


def _input_shape(chip: bytes, where: str | os.PathLike[str]) -> tuple[tuple[int, ...], int]:
    """Return the input's (c, h, w) and the kmodel's version."""
    from openkpu.api import load

    model: Model = load(chip)
    shape = model.inputs[0].shape
    if len(model.inputs) != 1 or len(shape) != 3 or shape[0] not in (1, 3):
        raise InputError(
            "E466",
            "a model that does not take one picture",
            where=str(where),
            why="; ".join(f"{o.dtype.value} {o.shape}" for o in model.inputs),
            fix="evaluation runs models of pictures with 1 or 3 channels",
        )
    return shape, model.version


def _float_model(
    path: str | os.PathLike[str],
    shape: tuple[int, ...],
    mean: Sequence[float] | float | None,
    std: Sequence[float] | float | None,
    input_range: tuple[float, float] | None,
    options: Mapping[str, Any],
) -> FloatModel:
    from openkpu.compiler import front_end, pixels
    from openkpu.float.export import to_onnx

    graph, _, _ = front_end(path, **options)
    if graph.inputs[0].shape[1:] != shape:
        raise InputError(
            "E431",
            "the kmodel does not belong to the model",
            where="inputs",
            why=f"the model takes {graph.inputs[0].shape[1:]}, the kmodel {shape}",
            fix="give the model that the kmodel was made from",
        )
    params = pixels(graph, mean, std, input_range)
    assert params is not None  # its input is a picture, as the kmodel's is
    onnx = to_onnx(graph).SerializeToString()
    return FloatModel(onnx, tuple(float(v) for v in params.scale), tuple(float(v) for v in params.bias))


def _fingerprint(job: Job, dataset: Dataset) -> str:
    """Hash everything that decides the answers; pictures by path, size and truth."""
    h = hashlib.sha256(job.kmodel)
    h.update(repr((job.float_model, job.boxes)).encode())
    for item in dataset.items:
        h.update(repr((str(item.path), item.path.stat().st_size, item.label, item.objects)).encode())
    return h.hexdigest()
