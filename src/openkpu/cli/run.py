"""``kpu run``."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from openkpu.cli import options
from openkpu.cli.guard import verb


class Engine(StrEnum):
    """The ways to compute a KPU layer; both give the same bytes."""

    native = "native"
    reference = "reference"


@verb
def run(
    kmodel: options.Kmodel,
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Pictures, .npy or .npz files, or folders.")],
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Class names: one a line, or a model.json.  [default: beside KMODEL]"),
    ] = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Show the N best classes of a vector.")] = 5,
    anchors: Annotated[
        str | None,
        typer.Option(metavar="W,H,W,H,...", help="Show boxes: the output is YOLOv2 with these anchors, in cells."),
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="With --anchors: number of classes, as a check.")] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="With --anchors: least score of a box.")] = 0.5,
    nms: Annotated[
        float, typer.Option(min=0, max=1, help="With --anchors: largest overlap of two boxes of a class.")
    ] = 0.3,
    save: Annotated[
        Path | None, typer.Option(metavar="OUT.npz", help="Write names and outputs into this file.")
    ] = None,
    trace: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the result of every step as .npy.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Look for memory mistakes and 36-bit overflow (slow).")
    ] = False,
    engine: Annotated[
        Engine, typer.Option(help="Fast kernels, or the NumPy specification; the bytes are equal.")
    ] = Engine.native,
    threads: options.Threads = 1,
    as_json: options.Json = False,
) -> None:
    """Run a kmodel on pictures, bit for bit as the chip does.

    Pictures are resized to the model's input; .npy and .npz hold uint8 (C, H, W), or floats where the model takes
    floats. A vector is shown as its best classes, a YOLOv2 output as boxes when you give its anchors, anything else
    by its shape and range.

    \b
    Examples:
      kpu run digits.kmodel seven.png --labels model.json
      kpu run yolo.kmodel street.jpg --anchors 1.08,1.19,3.42,4.41,6.63,11.38,9.42,5.11,16.62,10.52 --labels voc.txt
      kpu run net.kmodel photos/ --save outputs.npz
      kpu run net.kmodel photo.jpg --check --trace steps/

    Read on: kpu compare --help measures against the float model. In Python: openkpu.load(file).run(array).
    """
    from openkpu import load, sidecar
    from openkpu.analyze.predict import Ranking, fitting, predict, readings
    from openkpu.analyze.predict import save as save_outputs
    from openkpu.analyze.yolo import decode
    from openkpu.report import progress
    from openkpu.report import run as report
    from openkpu.report.console import Printer, print_json

    wanted = options.numbers(anchors, "--anchors")
    beside = sidecar.find(kmodel) if labels is None else None
    names: Sequence[str] | None = None if labels is None else sidecar.read_labels(labels)
    model = load(kmodel)
    with progress.bars(quiet=as_json) as move:
        results = predict(model, inputs, engine=engine.value, threads=threads, check=check, trace=trace, progress=move)
    boxes = None
    if wanted is not None:
        boxes = [decode(p.outputs[0], wanted, classes=classes, threshold=threshold, nms=nms) for p in results]
    if beside is not None:
        names = beside.labels if boxes is not None else fitting(beside.labels, results)
    rankings: list[list[Ranking | None]] = [[None] * len(p.outputs) for p in results]
    if boxes is None:
        rankings = readings(results, names, top, origin=str(labels))
    if save is not None:
        save_outputs(save, results)
    if as_json:
        print_json(report.as_dict(str(kmodel), results, rankings, boxes, names, checked=check))
        return
    printer = Printer()
    shape = model.inputs[0].shape
    report.show(results, rankings, boxes, names, (shape[2], shape[1]) if len(shape) == 3 else None, printer)
    if beside is not None and names is not None:
        printer.line((f"labels are from {beside.path}", "dim"))
    if check:
        report.show_findings([f for p in results for f in p.findings], printer)
