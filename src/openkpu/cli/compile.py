"""``kpu compile``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from openkpu.cli import options
from openkpu.cli.guard import verb


@verb
def compile(
    model: options.Model,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.kmodel", help="The kmodel to write.")],
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Folder of about 32 typical pictures, one picture, or an .npy/.npz file. Only a model that came "
            "quantised (TFLite int8, uint8) can do without.",
        ),
    ] = None,
    target: options.Target = None,
    firmware: options.Firmware = None,
    mean: options.Mean = None,
    std: options.Std = None,
    input_range: options.InputRange = None,
    input_shape: options.InputShape = None,
    outputs: options.Outputs = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="How ranges are chosen: auto (the best of all), minmax, percentile, mse, kl."
        ),
    ] = "auto",
    weights: Annotated[
        int,
        typer.Option(metavar="8|16", help="Bits of the KPU's weights. 16: V3 only, twice the size, a little better."),
    ] = 8,
    search: Annotated[
        float | None,
        typer.Option(
            metavar="DB",
            help="Try further ranges, roundings and tighter tensors until the output SNR on held-back pictures is DB.",
        ),
    ] = None,
    samples: options.Samples = None,
    threads: options.Threads = 1,
    dump: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the graph as text after every pass into this folder.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compile a model (ONNX, TFLite, Caffe) to a kmodel: V3, which every MaixPy firmware loads, or V4 or V5.

    The network becomes 8-bit layers; the calibration pictures show what values to expect, so take pictures like those
    the camera will see. The file takes the camera's bytes: mean and std become part of the first layer. They come
    from the options, or from MODEL.json or model.json beside the model: {"input": {"mean": [...], "std": [...]},
    "labels": [...]}, for pixels brought to "range" (default 0..1). A model that is
    quantised already keeps its own numbers where no pictures are given. The same inputs always give the same bytes.

    \b
    Examples:
      kpu compile net.onnx --calibration photos/ -o net.kmodel
      kpu compile net.onnx --calibration photos/ -o net.kmodel --mean 123.7,116.3,103.5 --std 58.4,57.1,57.4
      kpu compile net.tflite --calibration photos/ -o net.kmodel --input-range=-1,1 --dump passes/
      kpu compile quantised.tflite -o net.kmodel
      kpu compile net.caffemodel --calibration photos/ -o net.kmodel     (net.prototxt beside it)
      kpu compile net.onnx --calibration photos/ -o net.kmodel --target v4      operators that V3 lacks
      kpu compile net.onnx --calibration photos/ -o net.kmodel --firmware maixpy-min

    Read on: kpu check --help (what runs where), kpu compare --help (accuracy by layer). In Python:
    openkpu.compile(...).
    """
    from openkpu.compiler import compile as run
    from openkpu.files import check_writable
    from openkpu.report import compile as report
    from openkpu.report import progress
    from openkpu.report.console import Printer, print_json

    check_writable(output, model)  # before the long work
    scale = options.normalisation(model, mean, std, input_range)
    with progress.bars(quiet=as_json) as move:
        compiled = run(
            model,
            calibration=calibration,
            target=target,
            firmware=firmware,
            mean=scale.mean,
            std=scale.std,
            input_range=scale.input_range,
            input_shapes=options.shapes(input_shape),
            outputs=options.names(outputs),
            range_method=method,
            weight_bits=weights,
            target_snr=search,
            samples=samples,
            threads=threads,
            dump=dump,
            progress=move,
        )
    compiled.save(output)
    if as_json:
        print_json(report.as_dict(compiled.report, str(output), scale.sidecar))
        return
    same = {"--mean": mean, "--std": std, "--input-range": input_range, "--outputs": outputs}
    again = [part for name, value in same.items() if value is not None for part in (name, value)]
    again += [part for value in input_shape or [] for part in ("--input-shape", value)]
    labels = [] if scale.labels is None else ["--labels", scale.labels]
    report.show(
        compiled.report,
        Printer(),
        output=str(output),
        notes=() if compiled.report.calibration_pictures == 0 and scale.mean is None else scale.notes,
        next_commands=[
            shlex.join(["kpu", "run", str(output), "PICTURE", *labels]),
            shlex.join(["kpu", "compare", str(model), str(output), "--data", str(calibration or "PICTURES"), *again]),
            shlex.join(["kpu", "profile", str(output)]),
            shlex.join(["kpu", "inspect", str(output)]),
        ],
    )
