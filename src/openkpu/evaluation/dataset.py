"""Labelled pictures: a folder for each class, a list of files and labels, COCO or Pascal VOC annotations."""

from __future__ import annotations

import csv
import json
import math
import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from openkpu.errors import InputError, SetupError

MAX_ANNOTATION_BYTES: Final = 1 << 30
LISTS: Final = ("labels.csv", "labels.txt")
"""Files in a folder of pictures that say ``file,label`` in each line."""


@dataclass(frozen=True, slots=True)
class Truth:
    """One object of a picture: class and box as fractions of the picture (left, top, right, bottom).

    ``ignore``: a crowd (COCO) or a difficult object (VOC); finding it or not counts neither way.
    """

    label: int
    box: tuple[float, float, float, float]
    ignore: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One picture: its path, and its class (``label``) or its objects."""

    path: Path
    label: int | None = None
    objects: tuple[Truth, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """Pictures with what is on them. ``labels`` are the names of the classes by index; ``kind`` says where from."""

    items: tuple[Item, ...]
    labels: tuple[str, ...]
    kind: str


def load_classes(folder: str | os.PathLike[str], labels: Sequence[str] | None = None) -> Dataset:
    """Return pictures with one class each: from ``labels.csv`` in the folder, or from its subfolders' names.

    A class is a number (the index of the model's output) or a name: one of ``labels`` where these are given, else the
    names in alphabetical order count from 0. ``SetupError`` E510 when there is no such folder, ``InputError`` E460
    when nothing is labelled, E461 when a class is none of ``labels``.
    """
    root = _folder(folder)
    listed = next((root / name for name in LISTS if (root / name).is_file()), None)
    pairs = _listed(root, listed) if listed is not None else _by_folder(root)
    if not pairs:
        raise InputError(
            "E460",
            "no labelled pictures",
            where=str(root),
            why=f"it has neither {LISTS[0]} (file,label in each line) nor a folder of pictures for each class",
            fix="bring the pictures into one folder for each class; for boxes give --annotations",
        )
    names = tuple(labels) if labels is not None else _names([name for _, name in pairs])
    index = {name: i for i, name in enumerate(names)}
    items = tuple(Item(path, _index(name, index, labels, path)) for path, name in pairs)
    return Dataset(items, names, "list of files" if listed is not None else "folders")


def _folder(folder: str | os.PathLike[str]) -> Path:
    root = Path(folder)
    if not root.is_dir():
        raise SetupError("E510", f"there is no folder {root}", where=str(root), fix="Check the path.")
    return root


def _by_folder(root: Path) -> list[tuple[Path, str]]:
    endings = _endings()
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    return [
        (file, folder.name)
        for folder in folders
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in endings and file.is_file()
    ]


def _endings() -> set[str]:
    from PIL import Image

    return set(Image.registered_extensions())


def _listed(root: Path, file: Path) -> list[tuple[Path, str]]:
    pairs = []
    text = _text(file)
    for number, row in enumerate(csv.reader(text.splitlines(), skipinitialspace=True), 1):
        if not row or row[0].startswith("#") or (number == 1 and row[0].lower() in ("file", "path", "name")):
            continue
        if len(row) < 2:
            raise _broken(file, f"line {number} is {','.join(row)!r}, not file,label")
        path = root / row[0].strip()
        if not path.is_file():
            raise SetupError("E510", f"there is no file {path}", where=f"{file}, line {number}", fix="Check the list.")
        pairs.append((path, row[1].strip()))
    return pairs


def _names(found: Sequence[str]) -> tuple[str, ...]:
    """Names in alphabetical order; numbers stand for themselves."""
    distinct = set(found)
    if all(name.isdecimal() for name in distinct):
        return tuple(str(i) for i in range(max(map(int, distinct)) + 1))
    return tuple(sorted(distinct))


def _index(name: str, index: dict[str, int], labels: Sequence[str] | None, where: object) -> int:
    if name in index:
        return index[name]
    if name.isdecimal() and int(name) < len(index):
        return int(name)
    raise InputError(
        "E461",
        f"the class {name!r} is none of the model's",
        where=str(where),
        why=f"the labels are {', '.join(list(index)[:8])}{' ...' if len(index) > 8 else ''}",
        fix="give the labels of this model with --labels, in the order of its outputs"
        if labels is not None
        else "name the folders as the model's classes",
    )


def load_objects(
    folder: str | os.PathLike[str],
    annotations: str | os.PathLike[str] | None = None,
    labels: Sequence[str] | None = None,
) -> Dataset:
    """Return pictures with boxes: ``annotations`` is a COCO JSON file or a folder of Pascal VOC XML files.

    Without it the folder's own ``Annotations`` (VOC) or only ``*.json`` file (COCO) is taken. ``InputError`` E460 when
    there is none, E461 for a class that is none of ``labels``, E462 when the file cannot be understood.
    """
    root = _folder(folder)
    source = Path(annotations) if annotations is not None else _annotations(root)
    if source.is_dir():
        return _voc(root, source, labels)
    if not source.is_file():
        raise SetupError("E510", f"there is no file or folder {source}", where=str(source), fix="Check the path.")
    return _coco(root, source, labels)


def _annotations(root: Path) -> Path:
    if (root / "Annotations").is_dir():
        return root / "Annotations"
    files = sorted(root.glob("*.json"))
    if len(files) == 1:
        return files[0]
    raise InputError(
        "E460",
        "no annotations",
        where=str(root),
        why=f"it has no folder Annotations (VOC) and {len(files)} JSON files (COCO)",
        fix="give --annotations",
    )


def _coco(root: Path, file: Path, labels: Sequence[str] | None) -> Dataset:
    try:
        data: Any = json.loads(_text(file))
        categories = {int(c["id"]): str(c["name"]) for c in data["categories"]}
        names = tuple(labels) if labels is not None else tuple(categories[i] for i in sorted(categories))
        index = {name: i for i, name in enumerate(names)}
        images = {int(i["id"]): (str(i["file_name"]), _side(i["width"]), _side(i["height"])) for i in data["images"]}
        objects: dict[int, list[Truth]] = {i: [] for i in images}
        for a in data["annotations"]:
            _, width, height = images[int(a["image_id"])]
            x, y, w, h = (_number(v) for v in a["bbox"])
            label = _index(categories[int(a["category_id"])], index, labels, file)
            box = (x / width, y / height, (x + w) / width, (y + h) / height)
            objects[int(a["image_id"])].append(Truth(label, box, bool(a.get("iscrowd", 0))))
    except KeyError as error:
        raise _broken(file, f"as COCO annotations: something refers to {error}, which is not there") from error
    except (ValueError, RecursionError) as error:
        raise _broken(file, f"as COCO annotations: {error}") from error
    except (TypeError, AttributeError) as error:
        why = "as COCO annotations: it is not an object with the lists images, annotations and categories"
        raise _broken(file, why) from error
    items = tuple(Item(_picture(root, name, file), None, tuple(objects[i])) for i, (name, *_) in images.items())
    return _filled(Dataset(items, names, "COCO"), file)


def _picture(root: Path, name: str, where: Path) -> Path:
    """The file of a picture: in the folder itself or in the usual folder for pictures."""
    for candidate in (root / name, root / "images" / name, root / "JPEGImages" / name):
        if candidate.is_file():
            return candidate
    raise SetupError("E510", f"there is no file {root / name}", where=str(where), fix="Check the folder of pictures.")


def _voc(root: Path, folder: Path, labels: Sequence[str] | None) -> Dataset:
    found: list[tuple[Path, list[tuple[str, tuple[float, float, float, float], bool]]]] = []
    for file in sorted(folder.glob("*.xml")):
        try:
            tree = ET.fromstring(_text(file))
            width, height = _side(_entry(tree, "size/width")), _side(_entry(tree, "size/height"))
            objects = []
            for o in tree.iter("object"):
                # VOC counts pixels from 1
                left, top = (_number(_entry(o, f"bndbox/{k}")) - 1 for k in ("xmin", "ymin"))
                right, bottom = (_number(_entry(o, f"bndbox/{k}")) for k in ("xmax", "ymax"))
                box = (left / width, top / height, right / width, bottom / height)
                objects.append((_entry(o, "name"), box, (o.findtext("difficult") or "0").strip() == "1"))
            path = _picture(root, _entry(tree, "filename"), file)
        except (ValueError, ET.ParseError) as error:
            raise _broken(file, f"as VOC annotation: {error}") from error
        found.append((path, objects))
    names = tuple(labels) if labels is not None else _names([o[0] for _, objects in found for o in objects] or ["0"])
    index = {name: i for i, name in enumerate(names)}
    items = tuple(
        Item(path, None, tuple(Truth(_index(n, index, labels, path), box, hard) for n, box, hard in objects))
        for path, objects in found
    )
    return _filled(Dataset(items, names, "VOC"), folder)


def _number(value: Any) -> float:
    """A finite number; ``ValueError`` for others: a box of NaN would be missed by every detection, in silence."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a number")
    return number


def _side(value: Any) -> float:
    """Width or height of a picture, in pixels."""
    if (side := _number(value)) <= 0:
        raise ValueError(f"a picture is {value} pixels wide or high")
    return side


def _entry(tree: ET.Element, path: str) -> str:
    text = tree.findtext(path)
    if text is None:
        raise ValueError(f"there is no {path}")
    return text.strip()


def _filled(dataset: Dataset, where: Path) -> Dataset:
    if not dataset.items:
        raise InputError("E460", "annotations without a picture", where=str(where), fix="check the annotations")
    return dataset


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_ANNOTATION_BYTES:
            raise _broken(file, f"it has {file.stat().st_size} bytes, the limit is {MAX_ANNOTATION_BYTES}")
        return file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _broken(file, str(error)) from error


def _broken(file: Path, why: str) -> InputError:
    return InputError("E462", "the annotations cannot be read", where=str(file), why=why, fix="check the file")
