"""``kpu unpack``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openkpu.cli import options
from openkpu.cli.guard import verb


@verb
def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE.kfpkg", help="A flash package.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where to write.  [default: the name of the file]"),
    ] = None,
    only_list: Annotated[bool, typer.Option("--list", help="Only show what is inside; write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are something else.")] = False,
    as_json: options.Json = False,
) -> None:
    """Take a flash package apart: what each file is, where it goes, how a script loads it.

    The files come out as they are in the package: nothing is swapped, no frame is added. The folder also gets a clean
    flash-list.json, so that kpu flash can write the folder as it is.

    \b
    Examples:
      kpu unpack maixpy.kfpkg --list
      kpu unpack face_model_at_0x300000.kfpkg -o face/
      kpu unpack maixpy.kfpkg --list --json | jq '.files[] | [.address, .name, .kind]'

    Read on: kpu inspect --help looks into a model, kpu pack --help makes packages. In Python: openkpu.flash.kfpkg.read.
    """
    from openkpu.api import read_file
    from openkpu.errors import OpenKPUError
    from openkpu.flash import kfpkg
    from openkpu.flash.pack import describe
    from openkpu.flash.unpack import extract
    from openkpu.report import layout as report
    from openkpu.report import words
    from openkpu.report.console import Printer, print_json

    data = read_file(file)
    try:
        package = kfpkg.read(data)
    except OpenKPUError as error:
        where = f"{file}, {error.where}" if error.where else str(file)
        raise type(error)(error.code, error.what, where=where, why=error.why, fix=error.fix) from error
    layout = describe(package)
    folder = (file.with_suffix("") if output is None else output) if not only_list else None
    if folder == file:
        raise typer.BadParameter(f"{file} has no extension to leave out: name a folder", param_hint="--output")
    written = [] if folder is None else extract(package, folder, force=force)
    extras = [{"name": name, "bytes": len(content)} for name, content in package.extras.items()]
    if as_json:
        print_json(
            {
                "file": str(file),
                "file_bytes": len(data),
                "files": report.files(layout),
                "extras": extras,
                "warnings": list(layout.warnings),
                "written": [str(p) for p in written],
            }
        )
        return
    printer = Printer()
    count = words.plural(len(package.parts), "file")
    printer.line((str(file), "bold"), f"  {words.size(len(data))}  ", (f"flash package, {count}", words.ACCENT))
    report.show(layout, printer)
    if extras:
        printer.heading("Not flashed")
        printer.pairs([(str(e["name"]), f"{e['bytes']:,} bytes") for e in extras])
    if folder is not None:
        printer.heading("Written")
        printer.line(f"  {words.plural(len(written), 'file')} into {folder}")
