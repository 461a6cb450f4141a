"""Importing files that are not ONNX: their operators are written as ONNX ones, which the ONNX importer takes.

So what an operator means, which sizes follow, what is folded and what is refused, is known in one place for all files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from openkpu.extras import require
from openkpu.graph.ir import Graph, Tensor
from openkpu.importers.finish import finish
from openkpu.importers.onnx import import_node
from openkpu.importers.onnx_call import Builder

OPSET: Final = 17
IR_VERSION: Final = 8


class Network:
    """A graph being built from ONNX operators. ``where`` is how messages call the file."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.builder = Builder(OPSET, IR_VERSION, 1)
        self._make_node = require("onnx.helper", "onnx").make_node

    def input(self, name: str, shape: Sequence[int]) -> Tensor:
        """Return a new float input of the model."""
        self.builder.names.add(name)
        return Tensor(name, tuple(int(d) for d in shape))

    def constant(self, data: Any, stem: str) -> Tensor:
        """Return a constant under a name of its own."""
        array = np.asarray(data)
        return Tensor(self.builder.fresh(stem), tuple(array.shape), str(array.dtype), array)

    def ints(self, values: Sequence[int], stem: str) -> Tensor:
        """Return a constant list of whole numbers, as ONNX takes axes, shapes and sizes."""
        return self.constant(np.asarray(values, np.int64), stem)

    def add(self, op: str, inputs: Sequence[Tensor | None], source: str, stem: str = "", **attrs: Any) -> Tensor:
        """Import one ONNX operator with one output, called ``stem`` (else ``source``) if that name is free."""
        return self.add_many(op, inputs, source, [stem or source], **attrs)[0]

    def add_many(
        self, op: str, inputs: Sequence[Tensor | None], source: str, stems: Sequence[str], **attrs: Any
    ) -> list[Tensor]:
        """Import one ONNX operator with an output for each of ``stems``. ``source`` names it in messages."""
        names = [self.builder.fresh(s) for s in stems]
        proto = self._make_node(op, [t.name if t else "" for t in inputs], names, name=source, **attrs)
        import_node(self.builder, proto, list(inputs))
        return [self.builder.values[n] for n in names]

    def finish(self, inputs: Sequence[Tensor], outputs: Mapping[str, Tensor | None], name: str) -> Graph:
        """Return the graph with these outputs, each under its name (see ``finish.finish``)."""
        return finish(self.builder, inputs, outputs, self.where, name)
