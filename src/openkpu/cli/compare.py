"""``kpu compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openkpu.cli import options
from openkpu.cli.guard import verb


@verb
def compare(
    model: options.Model,
    kmodel: options.Kmodel,
    data: Annotated[Path, typer.Option(metavar="PATH", help="Folder of pictures, one picture, or an .npy/.npz file.")],
    mean: options.Mean = None,
    std: options.Std = None,
    input_range: options.InputRange = None,
    input_shape: options.InputShape = None,
    outputs: options.Outputs = None,
    samples: options.Samples = None,
    threads: options.Threads = 1,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also show what each layer loses on its own, and say what helps.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Measure what 8 bits cost: the float model against the kmodel, layer by layer and at the outputs.

    SNR is 10 log10(sum ref^2 / sum err^2) in dB, over all pictures: 30 dB is an error of 3 %, 20 dB of 10 %. Give the
    same --mean, --std, --input-shape and --outputs as for kpu compile (or none, with model.json beside the model),
    and pictures that were not used for calibration. A kmodel V3 does not hold the scale of 8-bit values, so for
    layers the scale and offset of every channel are fitted; float outputs are compared as they are. A file from
    another compiler is compared at the outputs only.

    \b
    Examples:
      kpu compare net.onnx net.kmodel --data photos/
      kpu compare net.onnx net.kmodel --data photos/ --explain
      kpu compare net.onnx net.kmodel --data photos/ --samples 8 --json | jq .outputs

    Read on: kpu compile --help (--method, more calibration pictures). In Python: openkpu.compare(model, kmodel, data).
    """
    from openkpu import compare as run
    from openkpu.report import compare as report
    from openkpu.report import progress
    from openkpu.report.console import Printer, print_json

    scale = options.normalisation(model, mean, std, input_range)
    with progress.bars(quiet=as_json) as move:
        result = run(
            model,
            kmodel,
            data,
            mean=scale.mean,
            std=scale.std,
            input_range=scale.input_range,
            input_shapes=options.shapes(input_shape),
            outputs=options.names(outputs),
            samples=samples,
            threads=threads,
            explain=explain,
            progress=move,
        )
    if as_json:
        print_json(result.as_dict() | {"sidecar": scale.sidecar})
        return
    printer = Printer()
    report.show(result, printer)
    for note in scale.notes:
        printer.paragraph(note, style="dim")
