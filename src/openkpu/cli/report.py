"""``kpu report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openkpu.cli import options
from openkpu.cli.guard import verb


@verb
def report(
    model: options.Model,
    kmodel: options.Kmodel,
    data: Annotated[Path, typer.Option(metavar="PATH", help="Folder of pictures, one picture, or an .npy/.npz file.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.html", help="The page to write.")],
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Class names: one a line, or a model.json.  [default: beside MODEL]"),
    ] = None,
    anchors: Annotated[
        str | None, typer.Option(metavar="W,H,W,H,...", help="Show boxes: the output is YOLOv2 with these anchors.")
    ] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="With --anchors: least score of a box.")] = 0.5,
    nms: Annotated[
        float, typer.Option(min=0, max=1, help="With --anchors: largest overlap of two boxes of a class.")
    ] = 0.3,
    mean: options.Mean = None,
    std: options.Std = None,
    input_range: options.InputRange = None,
    input_shape: options.InputShape = None,
    outputs: options.Outputs = None,
    samples: options.Samples = None,
    kpu_mhz: Annotated[float, typer.Option(metavar="MHZ", help="Clock of the KPU.")] = 400,
    cpu_mhz: Annotated[float, typer.Option(metavar="MHZ", help="Clock of the CPU.")] = 400,
    as_json: options.Json = False,
) -> None:
    """Write one page about a kmodel: time, memory, accuracy by layer, pictures with both answers, what to do.

    The page is one HTML file without scripts; it needs no network, prints well, and follows the reader's light or dark
    setting. Give the same --mean, --std, --input-shape and --outputs as for kpu compile (or none, with model.json
    beside the model), and pictures that were not used for calibration.

    \b
    Examples:
      kpu report net.onnx net.kmodel --data photos/ -o report.html
      kpu report yolo.onnx yolo.kmodel --data photos/ --anchors 1.08,1.19,3.42,4.41 -o report.html

    Read on: kpu profile --help (time), kpu compare --help (accuracy), kpu inspect --graph (the picture alone). In
    Python: openkpu.analyze.examine.examine(...), openkpu.report.html.page.render(...).
    """
    from openkpu.analyze.examine import examine
    from openkpu.files import check_writable
    from openkpu.report import progress
    from openkpu.report.console import Printer, print_json
    from openkpu.report.html import page

    check_writable(output)
    scale = options.normalisation(model, mean, std, input_range)
    with progress.bars(quiet=as_json) as move:
        found = examine(
            model,
            kmodel,
            data,
            mean=scale.mean,
            std=scale.std,
            input_range=scale.input_range,
            input_shapes=options.shapes(input_shape),
            outputs=options.names(outputs),
            labels=options.class_names(labels, model),
            anchors=options.numbers(anchors, "--anchors"),
            threshold=threshold,
            nms=nms,
            samples=samples,
            kpu_mhz=kpu_mhz,
            cpu_mhz=cpu_mhz,
            progress=move,
        )
    page.save(found, output)
    if as_json:
        print_json(
            {"output": str(output), "ms": found.profile.total.us / 1000, "comparison": found.comparison.as_dict()}
        )
        return
    printer = Printer()
    printer.line("report: ", (str(output), "bold"))
    for note in scale.notes:
        printer.paragraph(note, style="dim")
