"""``kpu check``."""

from __future__ import annotations

import typer

from openkpu.cli import options
from openkpu.cli.guard import verb


@verb
def check(
    model: options.Model,
    target: options.Target = None,
    firmware: options.Firmware = None,
    as_json: options.Json = False,
    input_shape: options.InputShape = None,
    outputs: options.Outputs = None,
) -> None:
    """Say for every layer of a model (ONNX, TFLite, Caffe) whether the KPU runs it, why not, and what to change.

    Green layers run on the KPU as they are, yellow ones after an exact rewrite, red ones on the CPU (slow: a few
    times 10 ns a value), and "not possible" is what the kmodel version cannot express (exit code 1). For these you get
    the rule with its limit and the actual value, and the change that helps. Needs no pictures.

    \b
    Examples:
      kpu check net.onnx
      kpu check net.onnx --target v4
      kpu check net.onnx --input-shape input=1,3,224,224
      kpu check net.onnx --json | jq '.layers[] | select(.where == "CPU")'

    Read on: kpu compile --help makes the kmodel. In Python: openkpu.check(model).
    """
    from openkpu.compiler import check as run
    from openkpu.compiler import choose
    from openkpu.report import check as report
    from openkpu.report.console import Printer, print_json

    chosen, board = choose(target, firmware)
    shapes, ends = options.shapes(input_shape), options.names(outputs)
    decisions = run(model, target=chosen, input_shapes=shapes, outputs=ends)
    if as_json:
        print_json(report.as_dict(str(model), decisions, target=chosen, firmware=board))
    else:
        report.show(str(model), decisions, Printer(), target=chosen, firmware=board)
    if any(d.where == "not possible" for d in decisions):
        raise typer.Exit(1)
