"""``kpu eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openkpu.cli import options
from openkpu.cli.guard import verb


@verb
def evaluate(
    kmodel: options.Kmodel,
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder of labelled pictures.")],
    metric: Annotated[
        str, typer.Option(metavar="NAME", help="top1, top5, map (average precision at IoU 0.5) or map50-95 (COCO).")
    ] = "top1",
    model: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Also run this float model, and say what 8 bits cost.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(metavar="PATH", help="COCO JSON file or folder of VOC XML files, for boxes.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Class names: one a line, or a model.json.  [default: beside KMODEL]"),
    ] = None,
    anchors: Annotated[
        str | None, typer.Option(metavar="W,H,W,H,...", help="The output is YOLOv2 with these anchors, in cells.")
    ] = None,
    nms: Annotated[
        float, typer.Option(min=0, max=1, help="With --anchors: largest overlap of two boxes of a class.")
    ] = 0.45,
    mean: options.Mean = None,
    std: options.Std = None,
    input_range: options.InputRange = None,
    input_shape: options.InputShape = None,
    outputs: options.Outputs = None,
    samples: options.Samples = None,
    jobs: Annotated[int | None, typer.Option(min=1, metavar="N", help="Processes.  [default: all cores]")] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on the Dask cluster with this scheduler.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep a record here; if it exists, go on where it stopped."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Count how often a kmodel is right on labelled pictures, and what 8 bits cost.

    For top1 and top5 DIR has a folder for each class (named as the label, or its number), or a labels.csv with
    "file,label" in each line. For map it has COCO or VOC annotations. With --model the float model runs on the same
    pictures; --mean, --std, --input-shape and --outputs are then those of kpu compile. Pictures are resized to the
    model's input without keeping the aspect. The result does not depend on --jobs, --cluster or interruptions.

    \b
    Examples:
      kpu eval digits.kmodel --data test/ --model digits.onnx
      kpu eval yolo.kmodel --data voc/ --metric map --anchors 1.08,1.19,3.42,4.41,6.63,11.38,9.42,5.11,16.62,10.52
      kpu eval net.kmodel --data imagenet/ --resume net.record --cluster tcp://10.0.0.5:8786

    Read on: kpu compare --help measures layer by layer. In Python: openkpu.evaluate(kmodel, data).
    """
    from openkpu import evaluate as run
    from openkpu.report import evaluation as report
    from openkpu.report import progress
    from openkpu.report.console import Printer, print_json

    scale = options.normalisation(model, mean, std, input_range) if model is not None else options.Normalisation()
    with progress.bars(quiet=as_json) as move:
        result = run(
            kmodel,
            data,
            metric=metric,
            model=model,
            annotations=annotations,
            labels=options.class_names(labels, kmodel, *([] if model is None else [model])),
            mean=scale.mean,
            std=scale.std,
            input_range=scale.input_range,
            input_shapes=options.shapes(input_shape),
            outputs=options.names(outputs),
            anchors=options.numbers(anchors, "--anchors"),
            nms=nms,
            limit=samples,
            jobs=jobs,
            cluster=cluster,
            resume=resume,
            progress=move,
        )
    if as_json:
        print_json(result.as_dict())
        return
    printer = Printer()
    report.show(result, printer)
    for note in scale.notes:
        printer.paragraph(note, style="dim")
