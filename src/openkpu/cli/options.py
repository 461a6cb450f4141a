"""Options that several verbs share, and the parsing of their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from openkpu.kpu.limits import MAX_THREADS

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
InputShape = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=1,3,224,224",
        help="Fix the shape of an input with open dimensions, in the model's own order. Can be repeated.",
    ),
]
Outputs = Annotated[
    str | None, typer.Option(metavar="A,B", help="End the model at these tensors instead of at its own outputs.")
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="M[,M,M]", help="The model's input is (pixel - mean) / std, pixels 0..255; one or one a channel."
    ),
]
Std = Annotated[str | None, typer.Option(metavar="S[,S,S]", help="See --mean.")]
InputRange = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH", help="Instead of --mean and --std: pixels 0..255 become LOW..HIGH.  [default: 0,1]"
    ),
]
Target = Annotated[
    str | None,
    typer.Option(metavar="v3|v4|v5", help="kmodel version to write.  [default: v3, which every firmware loads]"),
]
Firmware = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Choose the version for a firmware and check its memory: maixpy, maixpy-min, maixpy-v4, canmv or sdk.",
    ),
]
Threads = Annotated[int, typer.Option(min=1, max=MAX_THREADS, help="Threads of this computer to use.")]
Samples = Annotated[int | None, typer.Option(min=1, help="Use only N of the pictures, evenly spread.", metavar="N")]
Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="ONNX, TFLite, or Caffe (.prototxt and .caffemodel of one name: give either)."
    ),
]
Kmodel = Annotated[Path, typer.Argument(metavar="KMODEL", help="A kmodel file.")]


def numbers(text: str | None, option: str, count: int | None = None) -> tuple[float, ...] | None:
    """Parse ``1,2.5,3``; a usage error names the option."""
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 1,2.5,3", param_hint=option) from None
    if count is not None and len(values) != count:
        raise typer.BadParameter(f"{text!r} has {len(values)} number(s), {count} are needed", param_hint=option)
    return values


def address(text: str, option: str) -> int:
    """Parse a flash address, hexadecimal or decimal."""
    from openkpu.flash.layout import FLASH_BYTES

    try:
        value = int(text, 16) if text.lower().startswith("0x") else int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no address such as 0x300000", param_hint=option) from None
    if not 0 <= value < FLASH_BYTES:
        raise typer.BadParameter(f"{text} is outside the flash of 16 MiB (0 to 0xffffff)", param_hint=option)
    return value


def pair(text: str | None, option: str) -> tuple[float, float] | None:
    """Parse ``LOW,HIGH``."""
    values = numbers(text, option, 2)
    return None if values is None else (values[0], values[1])


def names(text: str | None) -> list[str] | None:
    """Parse ``a,b``."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def shapes(values: list[str] | None) -> dict[str, tuple[int, ...]] | None:
    """Parse ``name=1,3,224,224``, repeated."""
    found: dict[str, tuple[int, ...]] = {}
    for value in values or []:
        name, sign, dims = value.rpartition("=")
        try:
            found[name] = tuple(int(d) for d in dims.replace("x", ",").split(","))
        except ValueError:
            sign = ""
        if not sign or not name or min(found[name]) < 1:
            raise typer.BadParameter(f"{value!r} does not look like NAME=1,3,224,224", param_hint="--input-shape")
    return found or None


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What pixels mean, from the options or from the file beside the model."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_range: tuple[float, float] | None = None
    sidecar: str | None = None
    labels: str | None = None
    """The sidecar, if it has labels."""
    notes: tuple[str, ...] = ()


def normalisation(model: Path, mean: str | None, std: str | None, input_range: str | None) -> Normalisation:
    """Parse ``--mean --std --input-range``; without them take what the model's sidecar says."""
    from openkpu import sidecar

    beside = sidecar.find(model)
    path = None if beside is None else beside.path
    labels = None if beside is None or beside.labels is None else path
    if mean is not None or std is not None or input_range is not None:
        values = numbers(mean, "--mean"), numbers(std, "--std"), pair(input_range, "--input-range")
        return Normalisation(*values, sidecar=path, labels=labels)
    if beside is None or beside.mean is None or beside.std is None:
        note = (
            "no --mean, --std or --input-range, and no model.json that gives them: pixels 0..255 become 0..1 "
            "(or what the file of a quantised model says)"
        )
        return Normalisation(sidecar=path, labels=labels, notes=(note,))
    note = f"mean and std are from {path}"
    return Normalisation(beside.mean, beside.std, sidecar=path, labels=labels, notes=(note,))


def class_names(labels: Path | None, *models: Path) -> Sequence[str] | None:
    """Read the names of the classes from ``labels``, or else from the first JSON file beside one of the ``models``."""
    from openkpu import sidecar

    if labels is not None:
        return sidecar.read_labels(labels)
    beside = next((found for m in models if (found := sidecar.find(m)) is not None), None)
    return None if beside is None else beside.labels
