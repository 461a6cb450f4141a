"""``kpu flash``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from openkpu.cli import INTERRUPTED, options
from openkpu.cli.guard import verb


@verb
def flash(
    port: Annotated[str, typer.Argument(metavar="PORT", help="The serial port: /dev/ttyUSB0, COM3.")],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A kfpkg, kmodel, firmware (.bin), flash image or unpacked folder.")
    ],
    addr: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Where it goes.  [default: kmodel 0x300000, firmware and image 0]"),
    ] = None,
    board: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="kd233, dan, bit, bit_mic, goE, goD, maixduino or trainer.  [default: try all resets]",
        ),
    ] = None,
    baud: Annotated[int, typer.Option(metavar="N", help="Speed; 115200 is used where it does not work.")] = 1_500_000,
    slow: Annotated[bool, typer.Option("--slow", help="115200 baud and long pauses, for weak adapters.")] = False,
    erase: Annotated[bool, typer.Option("--erase", help="Erase the whole chip before, /flash too.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Read everything back through the MaixPy on the board.")
    ] = False,
    qio: Annotated[
        bool, typer.Option("--qio", help="Firmware: the boot ROM reads over 4 lines, faster; not every board can.")
    ] = False,
    sram: Annotated[bool, typer.Option("--sram", help="Load a program into SRAM and start it; keep flash.")] = False,
    bootloader: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The flash program to use.  [default: the one in the package kflash]"),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Write a file into the flash of a K210 board over its serial port, and restart it.

    Needs pip install 'openkpu[flash]'. The chip's ROM can only load programs into SRAM, so first a small flash program
    is loaded; it is not part of OpenKPU but taken from the package kflash. Every block has a checksum and is sent again
    when it arrives damaged. The flash program cannot read flash; --verify asks MaixPy, after the restart, for the
    checksum of every file.

    \b
    Examples:
      kpu flash /dev/ttyUSB0 face.kfpkg --board dan
      kpu flash COM3 face.kmodel --addr 0x500000 --verify
      kpu flash /dev/ttyUSB1 maixpy.bin --board goE --erase
      kpu flash /dev/ttyUSB0 program.bin --sram

    Read on: kpu pack --help makes the package. In Python: openkpu.flash.flasher.flash.
    """
    from openkpu.api import read_file
    from openkpu.flash import flasher, image, kfpkg, pack, stub
    from openkpu.flash.isp import BAUD
    from openkpu.flash.layout import check_apart
    from openkpu.flash.port import SerialPort
    from openkpu.report import flash as report
    from openkpu.report import layout as layout_report
    from openkpu.report import progress
    from openkpu.report.console import Printer, print_json

    chosen = flasher.Options(board, baud, slow, erase, verify)
    flasher.check_options(chosen)
    at = None if addr is None else options.address(addr, "--addr")
    result = flasher.Result(port)
    layout = None
    if sram:
        program, program_source = read_file(file), stub.Stub(b"", "")
    else:
        parts = image.folder_parts(file) if file.is_dir() else image.file_parts(file.name, read_file(file), at)
        if at is not None and (file.is_dir() or len(parts) != 1 or parts[0].address != at):
            raise typer.BadParameter(f"{file.name} says itself where its parts go", param_hint="--addr")
        parts = [replace(p, dio=not qio) for p in parts]
        check_apart(parts)
        layout = pack.describe(kfpkg.Package(tuple(parts)))
        program_source = stub.find(bootloader)
        result.stub = program_source.source
    line = SerialPort(port, BAUD)
    try:
        if layout is not None and not as_json:
            layout_report.show(layout, Printer())
        with progress.bars(quiet=as_json, in_bytes=True) as move:
            if sram:
                flasher.run_in_sram(line, port, program, chosen, result=result, progress=move)
            else:
                flasher.flash(line, port, parts, program_source.data, chosen, result=result, progress=move)
    except KeyboardInterrupt:
        report.interrupted(result, Printer(sys.stderr))
        raise typer.Exit(INTERRUPTED) from None
    finally:
        line.close()
    if as_json:
        warnings = [] if layout is None else list(layout.warnings)
        print_json(result.as_dict() | {"warnings": warnings})
    else:
        report.show(result, Printer(), sram=sram)
