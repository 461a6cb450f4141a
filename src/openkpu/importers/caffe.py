"""Caffe models (prototxt and caffemodel) -> the graph of ``openkpu.graph.ir``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from openkpu.errors import FileFormatError, InputError, OpenKPUError, UnsupportedError
from openkpu.graph.ir import Graph, Tensor
from openkpu.importers import caffe_layers, caffe_movement
from openkpu.importers.caffe_call import HANDLERS, Call
from openkpu.importers.caffe_file import CaffeFile, Layer, read
from openkpu.importers.network import Network

_HANDLER_MODULES: Final = (caffe_layers, caffe_movement)
"""Importing them fills ``HANDLERS``."""
Blob = tuple[str, int]
"""A blob's name and how often it was written before: layers may work in place."""


def load(
    data: bytes,
    path: Path | None,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] | None = None,
) -> Graph:
    """Import a Caffe model as a float graph with batch 1; ``data`` is the content of the file at ``path``.

    ``FileFormatError`` E170..E174: the files; ``UnsupportedError`` E291 and those of the ONNX importer: what the
    layers do. The outputs are the blobs that no layer reads.
    """
    file = read(data, path)
    flow = _Flow(file)
    ends = flow.ends(outputs)
    needed = flow.needed(ends.values())
    network = Network(file.where)
    network.builder.names.update(ends)
    values: dict[Blob, Tensor] = {}
    given = dict(input_shapes or {})
    for name in given:
        if name not in file.inputs:
            raise InputError(
                "E450", f"the model has no input '{name}'", where=file.where,
                why=f"its inputs: {', '.join(file.inputs) or 'none'}", fix="correct input_shapes",
            )  # fmt: skip
    inputs = []
    for name, stated in file.inputs.items():
        if (name, 0) in needed:
            t = network.input(name, _input_shape(name, stated, given.get(name), file.where))
            values[name, 0] = t
            inputs.append(t)
    for layer, bottoms, tops in flow.steps:
        if not needed.intersection(tops):
            continue
        call = Call(network, layer, [values[b] for b in bottoms])
        _run(call)
        values.update(zip(tops, call.results, strict=False))
    return network.finish(inputs, {name: values.get(blob) for name, blob in ends.items()}, file.name)


def _run(call: Call) -> None:
    handler = HANDLERS.get(call.layer.type)
    if handler is None:
        raise call.refuse(
            f"layer type {call.layer.type}",
            fix="replace it by standard layers, or end the model before it (outputs=...)",
        )
    try:
        handler(call)
    except OpenKPUError as error:
        error.where = error.where or call.label
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # a damaged file can contradict itself in more ways than the handlers check one by one
        why = f"{error}; inputs {call.shapes()}"
        raise call.damaged(f"the parts of this {call.layer.type} layer do not fit together", why) from error
    if len(call.results) < len(call.layer.tops):
        raise call.refuse(f"{len(call.layer.tops)} tops of a {call.layer.type} layer", f"it gives {len(call.results)}")


class _Flow:
    """Which layer reads and writes which state of which blob."""

    def __init__(self, file: CaffeFile) -> None:
        self.file = file
        self.steps: list[tuple[Layer, list[Blob], list[Blob]]] = []
        state: dict[str, int] = dict.fromkeys(file.inputs, 0)
        read: set[Blob] = set()
        self.made: dict[Blob, int] = {}
        for layer in file.layers:
            for name in layer.bottoms:
                if name not in state:
                    raise FileFormatError(
                        "E173", f"blob '{name}' is missing", where=f"{layer.type} '{layer.name}'",
                        why="no layer before it makes it, and it is no input",
                        fix="check the prototxt: layers stand in the order in which they run",
                    )  # fmt: skip
            bottoms = [(n, state[n]) for n in layer.bottoms]
            read.update(bottoms)
            tops = []
            for name in layer.tops:
                state[name] = state.get(name, -1) + 1
                tops.append((name, state[name]))
                self.made[tops[-1]] = len(self.steps)
            self.steps.append((layer, bottoms, tops))
        self.state = state
        self.unread = [b for b in self.made if b not in read and b[1] == state[b[0]]]

    def ends(self, outputs: Sequence[str] | None) -> dict[str, Blob]:
        """Return the blobs that the model ends at, by name."""
        if outputs is None:
            ends = {name: (name, count) for name, count in self.unread if self._computed((name, count))}
        else:
            for name in outputs:
                if (name, self.state.get(name, -1)) not in self.made:
                    known = [n for n, _ in self.made]
                    near = difflib.get_close_matches(name, known[:5000], 3)
                    raise UnsupportedError(
                        "E269", f"there is no blob '{name}' to end the model at", where=self.file.where,
                        why=f"similar names: {', '.join(near)}" if near else f"the model has {len(known)} others",
                        fix="look the blob up in the prototxt (top: ...)",
                    )  # fmt: skip
            ends = {name: (name, self.state[name]) for name in outputs}
        if not ends:
            raise FileFormatError("E173", "the model has no outputs", where=self.file.where, fix="check the prototxt")
        return ends

    def _computed(self, blob: Blob) -> bool:
        """Whether a blob is more than a copy of an input, as labels are in nets made for training."""
        while blob in self.made:
            layer, bottoms, _ = self.steps[self.made[blob]]
            if layer.type != "Split":
                return True
            blob = bottoms[0]
        return False

    def needed(self, ends: Iterable[Blob]) -> set[Blob]:
        """Return all blobs that the ends depend on."""
        found: set[Blob] = set()
        stack = list(ends)
        while stack:
            blob = stack.pop()
            if blob not in found:
                found.add(blob)
                if blob in self.made:
                    stack.extend(self.steps[self.made[blob]][1])
        return found


def _input_shape(name: str, stated: tuple[int, ...] | None, given: Sequence[int] | None, where: str) -> list[int]:
    shape = list(given) if given is not None else list(stated or ())
    if not shape:
        raise UnsupportedError(
            "E260", f"the size of input '{name}' is not in the file", where=where, why="every size must be known",
            fix=f"give it: input_shapes={{'{name}': [1, 3, 224, 224]}}, with your sizes, or put the .prototxt beside "
            "the .caffemodel",
        )  # fmt: skip
    if min(shape) < 1 or len(shape) > 8:
        raise InputError("E450", f"input '{name}' of shape {shape}", where=where, fix="give positive sizes")
    if len(shape) > 1:
        shape[0] = 1  # the batch of training
    return [int(d) for d in shape]
