"""The verbs, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from openkpu.cli import (
    board,
    check,
    compare,
    compile,
    convert,
    evaluate,
    flash,
    inspect,
    pack,
    profile,
    report,
    run,
    unpack,
)

app = typer.Typer(
    rich_markup_mode=None,  # plain help: it starts faster and reads the same everywhere
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(wanted: bool) -> None:
    if wanted:
        from openkpu import __version__

        print(f"kpu {__version__}")
        raise typer.Exit


@app.callback()
def kpu(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """From a trained model to a kmodel for the Kendryte K210's neural-network accelerator, and what it will do there.

    \b
    The way of a model:
      kpu check   net.onnx                                  where would each layer run, and why?
      kpu compile net.onnx --calibration photos -o net.kmodel
      kpu run     net.kmodel photo.jpg                      bit for bit what the chip computes
      kpu compare net.onnx net.kmodel --data photos         how much accuracy did 8 bits cost?
      kpu eval    net.kmodel --data labelled --model net.onnx   how often is it right?
      kpu profile net.kmodel                                how long does it take on the chip, and why?
      kpu convert net.kmodel --target v3 -o net3.kmodel     the same outputs, for another firmware
      kpu inspect net.kmodel                                what is in this file, and which firmware loads it?
      kpu board   script.py --camera photos                 run a MaixPy script on a virtual board
      kpu pack    net.kfpkg net.kmodel                      one file for the board's flash (kpu unpack opens it)
      kpu flash   /dev/ttyUSB0 net.kfpkg                    write it onto the board

    "kpu VERB --help" explains each. Every verb has --json; the same functions are in Python: openkpu.load, check,
    compile, compare, convert, evaluate, profile.
    """


for name, verb, summary in (
    ("check", check.check, "Where would each layer of a float model run, and why?"),
    ("compile", compile.compile, "Make a kmodel from a float model."),
    ("run", run.run, "Run a kmodel on pictures, bit for bit."),
    ("compare", compare.compare, "Measure a kmodel against its float model."),
    ("eval", evaluate.evaluate, "Count right answers on labelled pictures."),
    ("profile", profile.profile, "Say how long a kmodel takes on the chip, and why."),
    ("report", report.report, "Write one page about a kmodel: time, memory, accuracy, pictures."),
    ("convert", convert.convert, "Write a kmodel for another version."),
    ("inspect", inspect.inspect, "Say what a file is and what is in it."),
    ("board", board.board, "Run a MaixPy script on a virtual board."),
    ("pack", pack.pack, "Put models and a firmware together for the board's flash."),
    ("unpack", unpack.unpack, "Take a flash package apart."),
    ("flash", flash.flash, "Write a file onto a board over its serial port."),
):
    app.command(name, short_help=summary)(verb)
