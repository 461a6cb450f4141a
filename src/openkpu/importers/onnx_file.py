"""Bytes -> a checked ``onnx.ModelProto``: size, damage, weights in other files, local functions, opset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from openkpu.errors import FileFormatError, OpenKPUError, UnsupportedError
from openkpu.extras import require
from openkpu.importers import foreign
from openkpu.importers.read import MAX_BYTES, read_bytes, too_large

MAX_NODES: Final = 100_000
MIN_OPSET: Final = 7  # older operators broadcast and normalise by other rules


def read_model(source: str | os.PathLike[str] | bytes) -> tuple[Any, str, str]:
    """Return the model, the name of the file for messages, and a short name for the graph.

    ``SetupError`` E510: no such file; ``FileFormatError`` E149..E159: not a usable ONNX file.
    """
    onnx = require("onnx", "onnx")
    if isinstance(source, bytes):
        data, where, name, folder = source, "bytes in memory", "model", None
    else:
        path = Path(source)
        data, where, name, folder = read_bytes(path), str(path), path.stem, path.parent
    if not data:
        raise FileFormatError("E150", "the file is empty", where=where, fix="export the model again")
    if len(data) > MAX_BYTES:
        raise too_large(len(data), where)
    if kind := foreign.by_bytes(data):
        raise _foreign(kind, where)
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf raises classes of its own, different ones in its two implementations
        if kind := foreign.by_extension(where):
            raise _foreign(kind, where) from error
        raise FileFormatError(
            "E150",
            "this is not an ONNX file, or it is cut off or damaged",
            where=where,
            why=f"{len(data)} bytes that protobuf cannot read: {error}",
            fix="copy or export the model again; `onnx.checker.check_model(path)` must accept it",
        ) from error
    if not model.graph.node:
        raise FileFormatError(
            "E151", "the file holds no operators", where=where, fix="this is not an ONNX model, or an empty one"
        )
    _check_opset(model, where)
    _load_external(onnx, model, folder, where)
    if model.functions:
        model = _inline(model, where)
    if len(model.graph.node) > MAX_NODES:
        raise _too_many(len(model.graph.node), where)
    return model, where, name


def opset_of(model: Any) -> int:
    """Return the version of the default operator set."""
    versions = [int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")]
    return max(versions, default=0)


def _foreign(kind: foreign.Foreign, where: str) -> OpenKPUError:
    return FileFormatError("E149", f"this is {kind.title}, not a model that can be read", where=where, fix=kind.fix)


def _too_many(count: int, where: str) -> OpenKPUError:
    return UnsupportedError(
        "E159", f"the model has {count} operators", where=where, why=f"the limit is {MAX_NODES}", fix="simplify it"
    )


def _check_opset(model: Any, where: str) -> None:
    opset = opset_of(model)
    if opset < MIN_OPSET:
        raise UnsupportedError(
            "E157",
            f"ONNX opset {opset}" if opset else "the model does not say its ONNX opset",
            where=where,
            why=f"opset {MIN_OPSET} and newer are read",
            fix="export with a newer opset, or use onnx.version_converter.convert_version",
        )


def _load_external(onnx: Any, model: Any, folder: Path | None, where: str) -> None:
    """Bring in weights that are kept in files next to the model."""
    helper = require("onnx.external_data_helper", "onnx")
    total = 0
    for tensor in helper._get_all_tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        if folder is None:
            raise FileFormatError(
                "E156",
                f"the data of tensor '{tensor.name}' is in another file",
                where=where,
                why="from bytes in memory that file cannot be found",
                fix="give the path, or export with all weights in one file (torch: external_data=False)",
            )
        try:
            info = helper.ExternalDataInfo(tensor)
            total += info.length or (folder / info.location).stat().st_size
            if total > MAX_BYTES:
                raise too_large(total, where)
            helper.load_external_data_for_tensor(tensor, str(folder))
        except OpenKPUError:
            raise
        except Exception as error:  # onnx's checks of the location raise classes of its C++ part
            raise FileFormatError(
                "E156",
                f"the data of tensor '{tensor.name}' cannot be read from its own file",
                where=where,
                why=str(error),
                fix="keep the data file next to the model, or export with all weights in one file",
            ) from error
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _inline(model: Any, where: str) -> Any:
    """Put the bodies of local functions in place of their calls, after counting what that would give."""
    functions = {(f.domain, f.name): f for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    open_calls: list[tuple[str, str]] = []

    def size_of(nodes: Any) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            total += expanded(key) if key in functions else 1
            total += sum(size_of(g.node) for a in node.attribute for g in ([a.g] if a.HasField("g") else a.graphs))
            if total > MAX_NODES:
                raise _too_many(total, where)
        return total

    def expanded(key: tuple[str, str]) -> int:
        if key in sizes:
            return sizes[key]
        if key in open_calls or len(open_calls) > 64:
            raise FileFormatError(
                "E153", f"function '{key[1]}' calls itself", where=where, fix="export the model again"
            )
        open_calls.append(key)
        sizes[key] = size_of(functions[key].node)
        open_calls.pop()
        return sizes[key]

    size_of(model.graph.node)
    try:
        return require("onnx.inliner", "onnx").inline_local_functions(model)
    except Exception as error:  # raised by onnx's C++ part without a class of its own
        raise FileFormatError(
            "E150", "the model's local functions cannot be put in place", where=where, why=str(error)
        ) from error
