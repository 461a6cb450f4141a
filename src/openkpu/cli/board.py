"""``kpu board``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from openkpu.cli import options
from openkpu.cli.guard import verb


class Time(StrEnum):
    """Whose time the script sees."""

    chip = "chip"
    real = "real"


class Mount(StrEnum):
    """What set_hmirror and set_vflip mean."""

    suit = "suit"
    fixed = "fixed"


@verb
def board(
    script: Annotated[
        Path | None, typer.Argument(metavar="SCRIPT", help="A MaixPy script.", show_default=False)
    ] = None,
    sd: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The SD card, where the script also writes.  [default: the script's folder, writes are dropped]",
        ),
    ] = None,
    flash: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE[@ADDRESS]", help="A kfpkg, flash image or kmodel to burn. Can be repeated."),
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PICTURES",
            help="A picture, folder, animated GIF, video, device:N, or 'pattern'. Can be repeated.  [default: pattern]",
        ),
    ] = None,
    display: Annotated[
        str, typer.Option(metavar="FILE|window|none", help="FILE.gif: all frames, FILE.png: the last one.")
    ] = "none",
    firmware: Annotated[
        str,
        typer.Option(
            metavar="NAME[:BYTES]",
            help="full, full-v0.6.2, minimum or minimum-v4, or as for kpu compile: maixpy, maixpy-min, maixpy-v4. "
            "BYTES: your build's footprint.",
        ),
    ] = "full",
    frames: Annotated[int | None, typer.Option(min=1, metavar="N", help="End the script after N snapshots.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Start of the script's random numbers.")] = 0,
    time: Annotated[Time, typer.Option(help="The chip's time, simulated, or this computer's.")] = Time.chip,
    gc_heap: Annotated[
        int, typer.Option(min=32768, metavar="BYTES", help="Size of the GC heap, as Maix.utils.gc_heap_size sets it.")
    ] = 512 * 1024,
    camera_mount: Annotated[
        Mount, typer.Option(help="suit: mounted as the script's flips want it; fixed: the flips turn the pictures.")
    ] = Mount.suit,
    press: Annotated[
        list[str] | None,
        typer.Option(metavar="PIN@SECOND", help="Press a key (BOOT is pin 16) at a moment. Can be repeated."),
    ] = None,
    stubs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Copy the editor stubs (.pyi) of MaixPy's modules there.")
    ] = None,
    ui: Annotated[bool, typer.Option("--ui", help="Show the board as a page in the browser, until Ctrl-C.")] = False,
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, metavar="N", help="Port of the page.  [default: a free one]", show_default=False
        ),
    ] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Only print the address of the page.")] = False,
    as_json: options.Json = False,
) -> None:
    """Run a MaixPy script on a virtual board, unmodified.

    The script's output goes to stdout; what the board explains goes to stderr, marked "board:". Models run bit for
    bit as on the chip. Ctrl-C reaches the script; press it twice to stop at once.

    \b
    Examples:
      kpu board main.py --sd card/ --camera street.jpg --display out.gif --frames 20
      kpu board demo_find_face.py --flash face_model.kfpkg --camera photos/ --display last.png --frames 10
      kpu board digits.py --flash digits.kmodel@0x300000 --firmware minimum
      kpu board digits.py --sd card/ --ui
      kpu board --stubs typings/

    Read on: docs/board.md. In Python: openkpu.Board(...).run(script).
    """
    from openkpu import Board
    from openkpu.board.stubs import copy_stubs

    if stubs is not None:
        names = copy_stubs(stubs)
        if script is None:
            print(f"{len(names)} stubs are in {stubs}")
            return
    if script is None:
        raise typer.BadParameter("give a script to run, or --stubs DIR", param_hint="SCRIPT")
    if ui and (as_json or display == "window"):
        raise typer.BadParameter("goes neither with --json nor with --display window", param_hint="--ui")
    import sys

    from openkpu.report import board as report
    from openkpu.report.console import print_json

    made = Board(
        firmware=firmware,
        flash=flash or (),
        sd=sd,
        camera=camera[0] if camera and len(camera) == 1 else camera,
        display=display,
        frames=frames,
        seed=seed,
        time=time.value,
        gc_heap=gc_heap,
        camera_fixed=camera_mount is Mount.fixed,
        presses=_presses(press),
    )
    if ui:
        from openkpu.board.ui.serve import serve

        code = serve(
            made,
            script,
            port=port,
            open_browser=not no_open,
            info={"firmware": firmware, "time": time.value},
            paced=time is Time.chip,
            on_url=report.address,
            on_event=report.Live(),
            on_result=report.outcome,
        )
        raise typer.Exit(code)
    if as_json:
        result = made.run(script, stdin=sys.stdin)
        print_json(result.as_dict())
    else:
        result = made.run(script, on_event=report.Live(), stdin=sys.stdin)
        report.finish(result)
    if result.code:
        raise typer.Exit(result.code)


def _presses(values: list[str] | None) -> list[tuple[int, float]]:
    """Parse PIN@SECOND."""
    found = []
    for value in values or []:
        pin, _, second = value.partition("@")
        try:
            found.append((int(pin), float(second)))
        except ValueError:
            raise typer.BadParameter(f"{value!r} does not look like 16@1.5", param_hint="--press") from None
    return found
