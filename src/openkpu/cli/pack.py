"""``kpu pack``."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openkpu.cli import options
from openkpu.cli.guard import verb

if TYPE_CHECKING:
    from openkpu.flash.pack import Request


@verb
def pack(
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="The file to write: .kfpkg (flash package) or .bin (flash image).")
    ],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE[@ADDRESS][:be]",
            help="Files and where they go; a kfpkg brings all its files. ':be' swaps a V3 model for kpu.load_flash.",
        ),
    ] = None,
    firmware: Annotated[
        Path | None, typer.Option(metavar="MAIXPY.bin", help="The firmware, for address 0; the frame is added.")
    ] = None,
    kat: Annotated[
        str | None,
        typer.Option(metavar="PICTURE|noise", help="Add a known-answer test: a script that proves board = simulator."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it although files overlap.")] = False,
    as_json: options.Json = False,
) -> None:
    """Put models (and a firmware) together into one file for the board's flash.

    A model without an address (FILE@ADDRESS, or one in its name as in face_0x500000.kmodel) goes to 0x300000, where
    MaixPy's examples look for it, or to the next free block of 64 KiB after it. You get the map of the flash and the
    line for your script, and you are told what will not work: files that overlap, a model in the file system, a kmodel
    version that the firmware does not load.

    With --kat the package also gets an input and what the simulator makes of it, and OUT_kat.py is written, a MaixPy
    script that runs the model on the board and prints PASS, or FAIL with the first layer that differs.

    \b
    Examples:
      kpu pack face.kfpkg face.kmodel                                kpu.load(0x300000)
      kpu pack all.kfpkg --firmware maixpy.bin face.kmodel mnist.kmodel@0x500000
      kpu pack big.kfpkg big.kmodel@0x600000:be                      kpu.load_flash, streamed
      kpu pack flash.bin face.kmodel mnist.kmodel                    a flat image, for a flash programmer
      kpu pack test.kfpkg face.kmodel --kat photo.jpg                with a test (--kat noise: a built-in picture)

    Read on: kpu flash --help writes it onto a board, kpu unpack --help looks inside. In Python:
    openkpu.flash.pack.plan.
    """
    from openkpu.files import check_writable, write_file
    from openkpu.flash.kfpkg import safe_name
    from openkpu.flash.pack import plan
    from openkpu.report import known_answer as report_kat
    from openkpu.report import layout as report
    from openkpu.report import words
    from openkpu.report.console import Printer, print_json

    kind = output.suffix.lower()
    if kind not in (".kfpkg", ".bin"):
        raise typer.BadParameter(f"{output} should end in .kfpkg or .bin", param_hint="OUT")
    if not files and firmware is None:
        raise typer.BadParameter("nothing to pack: give files, or --firmware", param_hint="FILE")
    requests = [_request(text) for text in files or []]
    check_writable(output, *(r.path for r in requests))
    layout = plan(requests, firmware, force=force)
    test = None
    if kat is not None:
        from openkpu.kat.known_answer import add

        script = output.with_name(f"{output.stem}_kat.py")
        check_writable(script)
        test = add(layout, safe_name(output.stem), kat)
        layout = test.layout
        write_file(script, test.script)
    data = layout.to_kfpkg() if kind == ".kfpkg" else layout.to_image()
    write_file(output, data)
    if as_json:
        print_json(
            {
                "output": str(output),
                "bytes": len(data),
                "files": report.files(layout),
                "warnings": list(layout.warnings),
            }
            | ({} if test is None else {"known_answer_test": test.as_dict() | {"script": str(script)}})
        )
        return
    printer = Printer()
    what = "flash package" if kind == ".kfpkg" else "flash image from address 0"
    printer.line((str(output), "bold"), f"  {words.size(len(data))}  ", (what, words.ACCENT))
    report.show(layout, printer)
    if test is not None:
        report_kat.show(test, printer)
    printer.heading("Next")
    printer.line(f"  {shlex.join(['kpu', 'flash', 'PORT', str(output)])}")
    if test is not None:
        report_kat.show_steps(str(script), str(output), printer)


def _request(text: str) -> Request:
    """Parse ``FILE[@ADDRESS][:be]``; an @ in a name is only an address when a number follows."""
    from openkpu.flash.pack import Request

    rest, big_endian = (text[:-3], True) if text.lower().endswith(":be") else (text, False)
    found = re.fullmatch(r"(.+)@(0[xX][0-9a-fA-F]+|\d+)", rest, re.DOTALL)
    if found is not None:
        return Request(Path(found[1]), options.address(found[2], "FILE@ADDRESS"), big_endian)
    name, sign, tail = rest.rpartition("@")
    if sign and name and not Path(rest).exists() and Path(name).exists():
        raise typer.BadParameter(f"{tail!r} is no address such as 0x300000", param_hint="FILE@ADDRESS")
    return Request(Path(rest), None, big_endian)
