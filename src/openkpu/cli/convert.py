"""``kpu convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openkpu.cli import options
from openkpu.cli.guard import verb


@verb
def convert(
    kmodel: options.Kmodel,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.kmodel", help="The kmodel to write.")],
    target: options.Target = None,
    firmware: options.Firmware = None,
    as_json: options.Json = False,
) -> None:
    """Write a kmodel for another version, with the same outputs.

    For a kmodel whose source is lost: V5 of nncase 1.x or V4 of nncase 0.2 for firmware that loads V3 only, V3 for one
    that wants V4, and so on. KPU layers stay as they are; operators of the CPU become those of the other runtime. Both
    files are then run on noise: uint8 outputs must be equal, float outputs up to the order of sums. Where an operator
    has no counterpart, or the outputs would differ, nothing is written and the message names the step.

    \b
    Examples:
      kpu convert net5.kmodel --target v3 -o net3.kmodel
      kpu convert net5.kmodel --firmware maixpy-v4 -o net.kmodel
      kpu convert net.kmodel --target v4 -o net4.kmodel --json

    Read on: kpu inspect --help (what is in a file). In Python: openkpu.convert(model, target).
    """
    from openkpu.api import load
    from openkpu.compiler import choose
    from openkpu.convert import convert as run
    from openkpu.files import check_writable
    from openkpu.report import convert as report
    from openkpu.report.console import Printer, print_json

    check_writable(output, kmodel)
    chosen, _ = choose(target, firmware)
    source = load(kmodel)
    converted = run(source, chosen)
    converted.save(output)
    if as_json:
        print_json(report.as_dict(source, converted, str(kmodel), str(output)))
    else:
        report.show(source, converted, Printer(), str(output))
