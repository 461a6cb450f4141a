"""``kpu profile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openkpu.cli import options
from openkpu.cli.guard import verb


@verb
def profile(
    kmodel: options.Kmodel,
    kpu_mhz: Annotated[float, typer.Option(metavar="MHZ", help="Clock of the KPU.")] = 400.0,
    cpu_mhz: Annotated[float, typer.Option(metavar="MHZ", help="Clock of the CPU.")] = 400.0,
    sort: Annotated[str, typer.Option(metavar="order|ms", help="Order of the steps.")] = "order",
    top: Annotated[int | None, typer.Option(min=1, metavar="N", help="Show only the N slowest steps.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the steps to a CSV file.")] = None,
    as_json: options.Json = False,
) -> None:
    """Say how long a kmodel takes on the chip: each step, why, and what would help.

    The times come from a model of the chip that is fitted to published measurements and cross-validated; each has an
    error bar. "why" names the largest part of a layer's time: compute (the multipliers work), fill (few rows: passes
    start more than they compute), output (batch norm and activation), weights (waiting for them), overhead (starting
    the layer), DMA (results on their way to main RAM), CPU.

    \b
    Examples:
      kpu profile net.kmodel
      kpu profile net.kmodel --kpu-mhz 500 --cpu-mhz 600 --sort ms --top 10
      kpu profile net.kmodel --csv layers.csv
      kpu profile net.kmodel --json | jq '.steps[] | select(.where == "CPU")'

    Read on: docs/estimate.md says how good the numbers are. In Python: openkpu.profile(file).
    """
    from openkpu import load
    from openkpu.analyze.profile import profile as run
    from openkpu.files import check_writable, write_file
    from openkpu.report import bills
    from openkpu.report import profile as report
    from openkpu.report.console import Printer, print_json

    if sort not in ("order", "ms"):
        raise typer.BadParameter(f"{sort!r} is neither order nor ms", param_hint="--sort")
    if csv is not None:
        check_writable(csv, kmodel)
    model = load(kmodel)
    result = run(model, kpu_mhz=kpu_mhz, cpu_mhz=cpu_mhz)
    if csv is not None:
        write_file(csv, report.csv_text(result))
    if as_json:
        print_json({"file": str(kmodel), **result.as_dict(), "bills": bills.as_dict(model)})
        return
    report.show(result, model, Printer(), title=str(kmodel), sort=sort, top=top)
    if csv is not None:
        Printer().line("", ("csv", "dim"), f"  {csv}")
