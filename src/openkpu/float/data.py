"""Pictures and arrays for calibration and comparison: a folder, a file or arrays -> samples of one shape."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import InputError, SetupError


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One input: ``array`` is uint8 or float32 in the model's shape (C, H, W), ``name`` says where it came from."""

    name: str
    array: NDArray[Any]


def load_samples(source: Any, shape: Sequence[int], *, limit: int | None = None) -> list[Sample]:
    """Load samples for a model whose input is ``shape``: (C, H, W), or anything else for arrays, without the batch.

    ``source``: a folder (all pictures and .npy files in it, deeper ones too, sorted by path), a picture, an .npy or
    .npz file (of several arrays in an .npz: 'calib', or the only one that fits), an array, or a sequence of arrays,
    paths and Samples. With ``limit``, that many are taken, evenly spread from the first on.

    Pictures are turned as their EXIF says, converted to grey (C = 1) or RGB (C = 3), and resized to (H, W) with
    Pillow's ``BILINEAR`` (which averages when it shrinks), not keeping the aspect: uint8. Arrays are not resized:
    uint8 stays, whole numbers 0..255 become uint8, floats become float32; (H, W, C) is told from (C, H, W) by shape.

    ``SetupError`` E510: no such path. ``InputError`` E452: nothing there, E453: unreadable, E454: wrong shape,
    E455: wrong values, E456: the order of the dimensions cannot be told, E457: which array of an .npz is not clear.
    """
    target = tuple(int(d) for d in shape)
    if limit is not None and limit < 1:
        raise InputError("E452", f"a limit of {limit} samples", why="at least one is needed", fix="leave the limit out")
    return [make() for make in _spread(_makers(source, target), limit)]


_Maker = Callable[[], Sample]


def _spread(makers: list[_Maker], limit: int | None) -> list[_Maker]:
    if limit is None or limit >= len(makers):
        return makers
    return [makers[i * len(makers) // limit] for i in range(limit)]


def _makers(source: Any, shape: tuple[int, ...]) -> list[_Maker]:
    """Return a function for each sample, so that only those that are taken are decoded."""
    if isinstance(source, str | os.PathLike):
        return _from_path(Path(source), shape)
    if isinstance(source, Sample):
        return _from_array(source.array, source.name, shape)
    if isinstance(source, np.ndarray):
        return _from_array(source, "array", shape)
    if not isinstance(source, Iterable) or isinstance(source, bytes):
        raise InputError(
            "E453",
            f"samples given as {type(source).__name__}",
            fix="give a folder, a file, an array or a list of these",
        )
    makers: list[_Maker] = []
    for i, item in enumerate(source):
        if isinstance(item, str | os.PathLike | Sample):
            makers += _makers(item, shape)
        else:
            makers += _from_array(np.asarray(item), f"array[{i}]", shape)
    if not makers:
        raise InputError("E452", "an empty list of samples", fix="give a folder, a file or arrays")
    return makers


def _from_path(path: Path, shape: tuple[int, ...]) -> list[_Maker]:
    if path.is_dir():
        files = _files_in(path)
        if not files:
            raise InputError(
                "E452", "no pictures in the folder", where=str(path),
                why="no file there or deeper has the ending of a picture or .npy", fix="check the path",
            )  # fmt: skip
        return [m for f in files for m in _from_file(f, shape)]
    if not path.is_file():
        raise SetupError(
            "E510", f"there is no file or folder {path}", where=str(path), fix="check the path of the samples"
        )
    return _from_file(path, shape)


def _files_in(folder: Path) -> list[Path]:
    from PIL import Image

    endings = {*Image.registered_extensions(), ".npy"}
    try:
        return sorted(
            p
            for p in folder.rglob("*")
            if p.suffix.lower() in endings
            and not any(part.startswith(".") for part in p.relative_to(folder).parts)
            and p.is_file()
        )
    except OSError as error:
        raise InputError("E453", "the folder cannot be read", where=str(folder), why=str(error)) from error


def _from_file(path: Path, shape: tuple[int, ...]) -> list[_Maker]:
    if path.suffix.lower() in (".npy", ".npz"):
        return _from_array(_read_arrays(path, shape), str(path), shape)
    return [lambda: Sample(str(path), load_picture(path, shape))]


def load_picture(source: str | Path | bytes, shape: tuple[int, ...], name: str = "") -> NDArray[np.uint8]:
    """Return one picture as uint8 ``shape`` (C, H, W), as ``load_samples`` does, from a path or a file's bytes.

    ``name`` is what messages call it. ``InputError`` E453: unreadable, E454: the model does not take pictures.
    """
    from PIL import Image, ImageOps

    path = name or ("bytes in memory" if isinstance(source, bytes) else str(source))

    if len(shape) != 3 or shape[0] not in (1, 3):
        raise InputError(
            "E454", "a picture for a model that does not take pictures", where=str(path),
            why=f"its input is {shape}; pictures have 1 or 3 channels", fix="give .npy files of that shape",
        )  # fmt: skip
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
            image: Any = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            elif image.mode in ("I", "F"):
                raise ValueError(f"its pixels have 32 bits (mode {image.mode}); save it with 8 bits")
            image = image.convert("L" if channels == 1 else "RGB")
            if image.size != (width, height):
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            pixels = np.asarray(image, np.uint8)
    except Exception as error:  # the decoders raise many classes for damaged files (SyntaxError, struct.error, ...)
        raise InputError(
            "E453", "the picture cannot be read", where=str(path), why=str(error) or type(error).__name__,
            fix="remove it or save it again",
        ) from error  # fmt: skip
    return np.ascontiguousarray(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))


def _read_arrays(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return _choose(loaded, path, shape)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, MemoryError, NotImplementedError) as error:
        raise InputError(
            "E453", "the file of arrays cannot be read", where=str(path), why=str(error),
            fix="save it again with numpy.save or numpy.savez, without Python objects",
        ) from error  # fmt: skip


def _choose(loaded: Any, path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    keys = list(loaded.keys())
    if "calib" in keys:
        keys = ["calib"]
    if len(keys) == 1:
        return np.asarray(loaded[keys[0]])
    arrays = {k: np.asarray(loaded[k]) for k in keys}
    fitting = [k for k, a in arrays.items() if _ways(a.shape, shape)]
    if len(fitting) != 1:
        raise InputError(
            "E457", "it is not clear which array holds the samples", where=str(path),
            why=f"{len(fitting)} of them fit {shape}: " + ", ".join(f"'{k}' {a.shape}" for k, a in arrays.items()),
            fix="call it 'calib'",
        )  # fmt: skip
    return arrays[fitting[0]]


def _ways(given: tuple[int, ...], shape: tuple[int, ...]) -> list[str]:
    """Return how an array can hold samples: '' or 'N' (many), then 'CHW', 'HWC' or (grey) 'HW'."""
    found = []
    for many in ("", "N"):
        rest = given[1:] if many else given
        if many and not given:
            continue
        if rest == shape:
            found.append(f"{many}CHW")
        if len(shape) == 3:
            c, h, w = shape
            if rest == (h, w, c):
                found.append(f"{many}HWC")
            if c == 1 and rest == (h, w):
                found.append(f"{many}HW")
    return found


def _from_array(array: NDArray[Any], name: str, shape: tuple[int, ...]) -> list[_Maker]:
    ways = _ways(array.shape, shape)
    if not ways:
        channels = f" or {(*shape[1:], shape[0])}" if len(shape) == 3 else ""
        raise InputError(
            "E454", f"an array of shape {array.shape}", where=name,
            why=f"a sample is {shape}{channels}; many have their number in front",
            fix="arrays are not resized: do it before",
        )  # fmt: skip
    # dimensions of size 1 may move freely: those ways give the same numbers
    batches = [w if w.startswith("N") else f"N{w}" for w in ways]
    views = [_view(array if w.startswith("N") else array[None], b, shape) for w, b in zip(ways, batches, strict=True)]
    first = views[0]
    if any(v.shape != first.shape or (v.strides != first.strides and not np.array_equal(v, first)) for v in views[1:]):
        raise InputError(
            "E456", f"an array of shape {array.shape} can be read as {' and as '.join(ways)}", where=name,
            why=f"the model takes {shape}", fix="give one array a sample, or pictures",
        )  # fmt: skip
    if not len(first):
        raise InputError("E452", "an array without samples", where=name, why=f"its shape is {array.shape}")
    numbered = array.ndim > len(shape) or len(first) > 1

    def maker(i: int) -> _Maker:
        label = f"{name}[{i}]" if numbered else name
        return lambda: Sample(label, _values(first[i], label))

    return [maker(i) for i in range(len(first))]


def _view(batch: NDArray[Any], way: str, shape: tuple[int, ...]) -> NDArray[Any]:
    if way == "NHWC":
        return batch.transpose(0, 3, 1, 2)
    return batch.reshape(len(batch), *shape) if way == "NHW" else batch


def _values(array: NDArray[Any], name: str) -> NDArray[Any]:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            result = np.ascontiguousarray(array, np.float32)
        if not np.isfinite(result).all():
            raise InputError("E455", "values that are NaN or infinite", where=name, fix="check how the array was made")
        return result
    if array.dtype.kind in "iu" and array.size and array.min() >= 0 and array.max() <= 255:
        return np.ascontiguousarray(array, np.uint8)
    raise InputError(
        "E455", f"values of type {array.dtype}", where=name,
        why="pixels are whole numbers 0..255, other inputs float32", fix="convert the array",
    )  # fmt: skip
