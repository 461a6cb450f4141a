"""``kpu inspect``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from openkpu.cli import options
from openkpu.cli.guard import verb


@verb
def inspect(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Any file: kmodel of any version, kfpkg, ONNX, unknown.")
    ],
    as_json: options.Json = False,
    steps: Annotated[bool, typer.Option("--steps/--no-steps", help="Show the table of steps.")] = True,
    graph: Annotated[
        Path | None,
        typer.Option(metavar="OUT.svg", help="Write a picture: steps, flow of data, both memories over time."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Also run it once on noise and report memory mistakes and overflow (slow).")
    ] = False,
) -> None:
    """Say what a file is, which firmware loads it, and what it needs of the chip.

    A kmodel V3, V4 or V5 is opened: inputs and outputs, memory against the chip's 6 MiB of main RAM and 2 MiB of AI
    RAM, and every step with its place, weights and multiply-accumulates (MACs). Other kinds are named, with what to do
    with them.

    \b
    Examples:
      kpu inspect face.kmodel
      kpu inspect face.kmodel --no-steps --graph face.svg
      kpu inspect face.kmodel --json | jq .model.memory

    Read on: kpu run --help runs the file, kpu compile --help makes one. In Python: openkpu.load(file).
    """
    from openkpu.analyze.inspect import checked, inspect
    from openkpu.files import check_writable
    from openkpu.report.console import Printer, print_json
    from openkpu.report.picture import save as picture

    if graph is not None:
        if graph.suffix.lower() != ".svg":
            raise typer.BadParameter(f"{graph} should end in .svg, the picture's format", param_hint="--graph")
        check_writable(graph)
    found = inspect(file)
    if graph is not None:
        picture(found, graph)
    findings = checked(found) if check else None
    if as_json:
        print_json(
            found.as_dict() if findings is None else found.as_dict() | {"findings": [asdict(f) for f in findings]}
        )
        return
    from openkpu.report import inspect as report

    printer = Printer()
    report.show(found, printer, steps=steps)
    if findings is not None:
        from openkpu.report import run

        run.show_findings(findings, printer)
    if graph is not None:
        printer.line("")
        printer.line("picture: ", (str(graph), "bold"))
